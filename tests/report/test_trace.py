"""The trace of a run: what the format requires, bounded by the disk alone, and readable after a
kill."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bulkup.core.errors import UsageError
from bulkup.core.events import Counts, Progress, Retrying, RunEnded, Warned
from bulkup.core.spans import Span, SpanKind
from bulkup.report.trace import TraceFile
from tests.cli.shell import BUMP, Shell, seed
from tests.conftest import Server
from tests.report.samples import HOSTILE, hostile_report, started

DIES = """
_handle = Bump.handle_entity

def handle_entity(self, entity):
    import os, signal
    if entity.key.id == 7 and os.path.exists("dies"):
        os.kill(os.getpid(), signal.SIGKILL)
    _handle(self, entity)

Bump.handle_entity = handle_entity
"""

PHASES = {"X", "M", "C", "i"}


def is_valid(events: list[dict[str, Any]]) -> None:
    """The fields that the trace event format requires of each phase."""
    for event in events:
        assert event["ph"] in PHASES
        assert isinstance(event["name"], str)
        assert event["name"]
        for field in ("ts", "pid", "tid"):
            assert isinstance(event[field], int)
            assert event[field] >= 0
        assert isinstance(event["args"], dict)
        if event["ph"] == "X":
            assert isinstance(event["dur"], int)
            assert event["dur"] >= 0
            assert event["cat"] in {"page", "commit", "handle", "doing"}
        if event["ph"] == "i":
            assert event["s"] == "p"
        if event["ph"] == "C":
            assert all(isinstance(value, (int, float)) for value in event["args"].values())
    by_track = defaultdict(list)
    for event in events:
        if event["ph"] == "X":
            by_track[event["pid"], event["tid"]].append((event["ts"], event["dur"]))
    for spans in by_track.values():
        spans.sort()
        for (began, took), (following, _) in pairwise(spans):
            assert began + took <= following + 1, "spans of a track overlap"


def names_of(events: list[dict[str, Any]], kind: str) -> dict[tuple[int, int], str]:
    named = [e for e in events if e["ph"] == "M" and e["name"] == kind]
    return {(event["pid"], event["tid"]): event["args"]["name"] for event in named}


def commit(began: float, ended: float, shard: int = 1, **fields: Any) -> Span:
    return Span(SpanKind.COMMIT, "Commit", shard, began, ended, **fields)


def test_commits_in_flight_together_are_on_tracks_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    with TraceFile(path, monotonic=lambda: 100.0) as trace:
        trace.event(started())
        for span in (commit(101, 102), commit(100.5, 103), commit(102, 104), commit(103, 105)):
            trace.span(span)
        trace.span(commit(101, 105, shard=2, error="ABORTED", attempt=2, entities=7))
        trace.span(Span(SpanKind.DOING, "reading", 0, 100, 101))
        trace.event(Progress(Counts(), None, 1.0, 12.34))
        trace.event(Retrying("Commit", "Commit: ABORTED", 1, 0.5, 9.0))
        trace.event(Warned("careful"))
    events = json.loads(path.read_text())
    is_valid(events)
    tracks = set(names_of(events, "thread_name").values())
    assert tracks == {
        "thread of the run", "shard 1 commits", "shard 1 commits 2", "shard 2 commits",
    }  # fmt: skip
    (failed,) = [event for event in events if event["name"] == "Commit ABORTED"]
    assert failed["args"] == {"entities": 7, "attempt": 2, "error": "ABORTED"}
    assert (failed["ts"], failed["dur"]) == (1_000_000, 4_000_000)
    assert path.stat().st_mode & 0o777 == 0o600


def test_hostile_strings_are_data(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    with TraceFile(path) as trace:
        trace.event(started(updater=HOSTILE, run_id=HOSTILE))
        trace.event(Warned(HOSTILE * 1000))
        trace.event(RunEnded(hostile_report()))
    is_valid(json.loads(path.read_bytes()))
    assert path.read_bytes().isascii()
    assert path.stat().st_size < 10_000


def test_a_file_that_is_not_a_trace_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "updater.py"
    path.write_text("precious")
    with pytest.raises(UsageError, match=r"is not a trace"):
        TraceFile(path)
    assert path.read_text() == "precious"
    again = tmp_path / "trace.json"
    for _ in range(2):
        TraceFile(again).close()
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "nothing")
    with pytest.raises(Exception, match="cannot write"):
        TraceFile(link)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_ends_the_trace_and_not_the_run(tmp_path: Path) -> None:
    lost: list[str] = []
    with TraceFile(tmp_path / "trace.json", on_loss=lost.append) as trace:
        trace.event(started())
        assert trace._file is not None
        with open("/dev/full", "wb") as full:
            os.dup2(full.fileno(), trace._file.fileno())
        for _ in range(2):
            trace.event(Progress(Counts(), None, 1.0, 1.0))
    assert len(lost) == 1
    assert "the run continues, and its trace ends here" in lost[0]


def test_a_retry_and_an_undo_write_a_trace(tmp_path: Path, embedded: Server) -> None:
    seed(embedded, 3)
    shell = Shell(tmp_path, embedded)
    shell.write("bump.py", BUMP.replace('entity["n"] +=', "1 / 0 #"))
    assert shell.bulkup("run", "bump.py", "--max-failures", "3").code == 3
    shell.write("bump.py", BUMP)
    (first,) = shell.runs()
    for verb in ("retry", "undo"):
        assert shell.bulkup(verb, first, "--yes", "--trace", f"{verb}.json").code == 0
        events = json.loads((tmp_path / f"{verb}.json").read_text())
        assert any(event["name"] == "Commit" for event in events), events


def test_a_run_writes_a_trace_and_a_killed_one_leaves_what_viewers_read(
    tmp_path: Path, embedded: Server
) -> None:
    seed(embedded, 9)
    shell = Shell(tmp_path, embedded)
    shell.write("bump.py", BUMP + DIES)
    shell.write("dies", "")
    killed = shell.bulkup("run", "bump.py", "--batch-size", "2", "--trace", "killed.json")
    assert killed.code == -9
    text = (tmp_path / "killed.json").read_text()
    if text:
        json.loads(text.rsplit(",\n", 1)[0] + "]")
    (tmp_path / "dies").unlink()
    done = shell.bulkup("resume", "--batch-size", "2", "--shards", "1", "--trace", "trace.json")
    assert done.code == 0, done
    events = json.loads((tmp_path / "trace.json").read_text())
    is_valid(events)
    spans = [event for event in events if event["ph"] == "X"]
    assert {event["cat"] for event in spans} == {"page", "commit", "handle", "doing"}
    handled = sum(event["args"]["entities"] for event in spans if event["cat"] == "handle")
    committed = sum(event["args"]["entities"] for event in spans if event["cat"] == "commit")
    assert handled == committed
    assert 3 <= handled <= 9
    (process,) = names_of(events, "process_name").values()
    assert process == f"Bump {shell.runs()[0]}"
    shell.bulkup("run", "bump.py", "--trace", "bump.py").fails(2, "is not a trace")

"""The log of a run: what is written, what survives a kill, and what a reader sees meanwhile."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bulkup.core.events import EntityFailed, Logged, Warned, WarningKind
from bulkup.core.model import Failure, LogLine
from bulkup.state.run_log import EVENTS_NAME, OLDER_NAME, RunLog
from bulkup.state.run_log_reader import LogReader, read_log
from tests.conftest import Server
from tests.engine.conftest import Run, fill


def lines(folder: Path) -> list[str]:
    return [entry.text("line") for entry in read_log(folder)]


def test_events_are_read_as_they_were_written(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 3, unix=lambda: 12.3456)
    log(Warned("careful \x1b[2J \ud800", WarningKind.DRIFT))
    log(EntityFailed(Failure("Key('City', 5)", "handle", "ValueError: x", "...", 7.0), 1, -1))
    log(Logged(LogLine.of("a line", 8.0)))
    log.close()
    warning, failure, line = read_log(tmp_path)
    assert (warning.at, warning.runner, warning.kind) == (12.346, 3, "warning")
    assert warning.fields == {"message": "careful \x1b[2J \\ud800", "kind": "drift"}
    assert (failure.at, failure.kind, failure.text("error")) == (7.0, "failure", "ValueError: x")
    assert (line.at, line.text("line")) == (8.0, "a line")
    assert (tmp_path / EVENTS_NAME).stat().st_mode & 0o777 == 0o600
    assert b"\x1b" not in (tmp_path / EVENTS_NAME).read_bytes()


def test_each_line_is_there_at_once(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 1)
    for number in range(3):
        log(Logged(f"{number}"))
        assert len(lines(tmp_path)) == number + 1


@pytest.mark.parametrize("cut", [2, 20, 60])
def test_a_torn_last_line_is_left_out_and_the_next_runner_continues_after_it(
    tmp_path: Path, cut: int
) -> None:
    log = RunLog(tmp_path, 1)
    log(Warned("first"))
    log(Warned("second"))
    log.close()
    path = tmp_path / EVENTS_NAME
    path.write_bytes(path.read_bytes()[:-cut])
    assert [entry.text("message") for entry in read_log(tmp_path)] == ["first"]
    log = RunLog(tmp_path, 2)
    log(Warned("third"))
    log.close()
    assert [entry.text("message") for entry in read_log(tmp_path)] == ["first", "third"]


def test_the_log_is_bounded_and_a_reader_misses_nothing_when_it_is_rotated(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 1, max_bytes=1000)
    with LogReader(tmp_path) as reader:
        assert not [*reader.read()]
        seen = []
        for number in range(100):
            log(Warned(f"{number}"))
            seen += [entry.text("message") for entry in reader.read()]
    assert seen == [str(number) for number in range(100)]
    assert {path.name for path in tmp_path.iterdir()} == {EVENTS_NAME, OLDER_NAME}
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    kept = [entry.text("message") for entry in read_log(tmp_path)]
    assert kept == [str(number) for number in range(100)][-len(kept) :]
    assert len(kept) > 10


def test_a_slow_reader_finds_the_file_that_was_rotated_while_it_read(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 1, max_bytes=1000)
    for number in range(15):
        log(Warned(f"{number}"))
    with LogReader(tmp_path) as reader:
        slowly = reader.read()
        seen = [next(slowly).text("message")]
        assert (tmp_path / OLDER_NAME).exists()
        for number in range(15, 24):
            log(Warned(f"{number}"))
        seen += [entry.text("message") for entry in slowly]
    assert seen == [str(number) for number in range(int(seen[0]), 24)]


@pytest.mark.parametrize(
    "line",
    [
        b"null", b"[]", b"5", b"{}", b"{", b"\xff\xfe", b"[" * 10000, b'{"at": 1}',
        b'{"at": "x", "runner": 1, "type": "log"}', b'{"at": NaN, "runner": 1, "type": "log"}',
        b'{"at": 1, "runner": "1", "type": "log"}', b'{"at": 1, "runner": 1, "type": []}',
        b'{"at": 1e999, "runner": 1, "type": "log"}', b"x" * 1_000_000,
    ],
)  # fmt: skip
def test_damaged_lines_are_left_out(tmp_path: Path, line: bytes) -> None:
    good = b'{"at": 1, "runner": 1, "type": "log", "line": "good"}'
    (tmp_path / EVENTS_NAME).write_bytes(b"\n".join([good, line, good, b""]))
    assert lines(tmp_path) == ["good", "good"]


def test_a_log_that_cannot_be_written_ends_with_one_warning(tmp_path: Path) -> None:
    lost: list[str] = []
    (tmp_path / EVENTS_NAME).symlink_to(tmp_path / "precious")
    log = RunLog(tmp_path, 1, on_loss=lost.append)
    for _ in range(3):
        log(Warned("x"))
    log.close()
    assert len(lost) == 1
    assert "the run continues, and its log ends here" in lost[0]
    assert not (tmp_path / "precious").exists()


def test_a_hard_link_to_another_file_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    os.link(tmp_path / "precious", tmp_path / EVENTS_NAME)
    lost: list[str] = []
    log = RunLog(tmp_path, 1, on_loss=lost.append)
    log(Warned("x"))
    assert lost
    assert (tmp_path / "precious").read_text() == "precious"


KILLED = """
import sys
from pathlib import Path
from bulkup.core.events import Warned
from bulkup.state.run_log import RunLog
log = RunLog(Path(sys.argv[1]), 1, max_bytes=20_000)
number = 0
while True:
    log(Warned(f"{number} " + "x" * 300))
    number += 1
    print(number, flush=True)
"""


def test_a_log_whose_writer_was_killed_has_every_line_that_was_told(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        told = 0
        while told < 200:
            told = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        told = int(([str(told), *writer.stdout.read().split()])[-1])
    numbers = [int(entry.text("message").split()[0]) for entry in read_log(tmp_path)]
    assert numbers == [*range(numbers[0], numbers[-1] + 1)]
    assert numbers[-1] >= told - 1


def test_a_run_from_python_has_a_log_and_a_dry_run_has_none(
    embedded: Server, run: Run, tmp_path: Path
) -> None:
    import bulkup

    @bulkup.updater(kind="City", max_failures=-1)
    def visit(entity, *, word: str = "hello"):  # type: ignore[no-untyped-def]
        if entity["i"] == 2:
            raise ValueError("two")
        entity["seen"] = word
        return entity

    fill(embedded, "City", 3)
    state = tmp_path / "state"
    assert run(embedded, visit, dry_run=True).exit_code == 3
    assert not state.exists()
    report = run(embedded, visit, params={"word": "x"})
    entries = [*read_log(state / report.run_id)]
    assert [entry.kind for entry in entries] == ["start", "failure", "end"]
    start, failure, end = entries
    assert start.fields["params"] == {"word": "x"}
    assert start.fields["target"]["project"] == embedded.project
    assert "@" in start.text("who")
    assert failure.text("key") == "Key('City', 2)"
    assert (end.fields["state"], end.fields["exit_code"]) == ("finished", 3)
    assert end.fields["counts"]["handled"] == 3
    assert all(json.dumps(entry.fields) for entry in entries)

"""What `bulkup show` tells of a run in ranges, from what is on this machine."""

from __future__ import annotations

import json
import threading
from contextlib import closing
from pathlib import Path

import pytest
from google.cloud.datastore import Entity

from bulkup.core.model import Counts, RangesSeen, RunState
from bulkup.runs.bundle import make_bundle, opened_bundle
from bulkup.runs.bundle_file import write_bundle
from bulkup.runs.listing import ListedRun, runs_here
from bulkup.runs.run_facts import shown_report
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.files import find_latest
from bulkup.state.ranges import is_finished, ranges_of
from bulkup.state.ranges_seen import SEEN_NAME, note_seen, ranges_seen
from tests.cli.json_contract import keeps_the_contract
from tests.cli.shell import Shell
from tests.conftest import Server
from tests.engine.conftest import fill
from tests.runs.ranges.conftest import Increment, InThread, Ledgers, RunRanged

FREE = 25
"""As many entities are handled before the run waits: at least two of six ranges of ten."""


class Held(Increment):
    """After FREE entities it waits until it is told to go on."""

    handled = 0
    is_there = threading.Event()
    go_on = threading.Event()

    def handle_entity(self, entity: Entity) -> None:
        if Held.handled == FREE:
            self.is_there.set()
            assert self.go_on.wait(60)
        Held.handled += 1
        super().handle_entity(entity)


@pytest.fixture(autouse=True)
def fresh() -> None:
    Held.handled, Held.is_there, Held.go_on = 0, threading.Event(), threading.Event()


def _files(folder: Path) -> set[Path]:
    """Without those that the run replaces meanwhile."""
    return {path for path in folder.rglob("*") if not path.name.startswith(".")}


def test_how_far_a_run_in_ranges_is_while_it_is_worked_on(
    embedded: Server, ranged: RunRanged, ledgers: Ledgers, tmp_path: Path
) -> None:
    fill(embedded, "Thing", 60, n=0)
    runner = InThread(lambda: ranged(embedded, Held, ranges=6, batch_size=5))
    try:
        assert Held.is_there.wait(60)
        folder, seen = find_latest(tmp_path / "state"), RangesSeen()
        runs, of_ranges = ledgers(embedded)
        (record,) = runs.all_records()
        ranges = ranges_of(of_ranges, record)
        truth = sum(map(is_finished, ranges)), len(ranges)
        looked = threading.Event()
        while (seen.finished, seen.total) != truth:  # the conductor has yet to add up
            looked.wait(0.02)
            seen = ranges_seen(folder) or seen
        before = _files(folder)
        shell = Shell(tmp_path)
        summary = shell.bulkup("show", "--json", "--state-dir", "state").summary
        text = shell.bulkup("show", "--state-dir", "state").out
        page = shell.bulkup("report", "--html", "--state-dir", "state").out
        (row,) = shell.bulkup("list", "--json", "--state-dir", "state").lines
        assert _files(folder) == before
    finally:
        Held.go_on.set()
        report = runner.join()
    assert (report.state, report.counts.handled, report.ranges) == (RunState.FINISHED, 60, None)
    keeps_the_contract([summary, row])
    counts, finished, total = summary["counts"], seen.finished, seen.total
    assert (summary["state"], counts["failed"], summary["total"]) == ("running", 0, 60)
    assert counts["handled"] == counts["written"] == seen.counts.handled
    assert 0 < counts["handled"] <= FREE
    assert finished > 0
    assert (summary["ranges"], summary["ranges_finished"]) == (total, finished)
    assert summary["ranges_seen"].endswith("Z")
    assert (row["ranges"], row["ranges_finished"]) == (total, finished)
    assert row["handled"] == counts["handled"]
    assert text.startswith(f"Still running: {counts['handled']} entities handled")
    for shown in (text, page):
        assert f"{finished} of {total} finished (counts of all processes, added up " in shown

    after = shell.bulkup("show", "--json", "--state-dir", "state").summary
    assert after["counts"]["handled"] == 60
    assert "ranges" not in after


def test_a_run_that_this_machine_has_left_may_be_worked_on_elsewhere(
    embedded: Server, ranged: RunRanged, tmp_path: Path
) -> None:
    fill(embedded, "Thing", 60, n=0)
    ranged(embedded, Increment, ranges=6, batch_size=5, limit=30)
    folder = find_latest(tmp_path / "state")
    (listed,) = runs_here(tmp_path / "state")
    assert isinstance(listed, ListedRun)
    assert (listed.counts.handled, listed.state) == (30, "stopped")
    assert 0 < listed.ranges_finished < listed.ranges
    shell = Shell(tmp_path)
    assert "others may work on it: `bulkup list --all`" in shell.bulkup(
        "show", "--state-dir", "state"
    ).out.replace("\n", " ")  # fmt: skip

    (folder / SEEN_NAME).write_text("[]")  # damaged, or of a version that did not write it
    with closing(Checkpoint.open(folder, check=False)) as checkpoint:
        shown = shown_report(checkpoint, tmp_path / "state")
    assert shown.ranges == RangesSeen(0, 0, shown.counts, shown.total)
    assert shown.counts.handled == 30


def test_a_bundle_of_an_unfinished_run_has_the_counts_of_all(
    embedded: Server, ranged: RunRanged, tmp_path: Path
) -> None:
    fill(embedded, "Thing", 60, n=0)
    ranged(embedded, Increment, ranges=6, batch_size=5, limit=30)
    folder = find_latest(tmp_path / "state")
    note_seen(folder, RangesSeen(5, 6, Counts(handled=50, puts=50), 60, 2**35))
    bundle = tmp_path / "run.bundle"
    write_bundle(bundle, make_bundle(folder))
    with opened_bundle(bundle) as copy, closing(Checkpoint.open(copy, check=False)) as checkpoint:
        shown = shown_report(checkpoint, tmp_path)
    assert (shown.counts, shown.total) == (Counts(handled=50, puts=50), 60)


def test_what_was_seen_earlier_does_not_replace_what_was_seen_later(tmp_path: Path) -> None:
    late = RangesSeen(3, 6, Counts(handled=30, puts=30), None, 1_000)
    note_seen(tmp_path, late)
    note_seen(tmp_path, RangesSeen(2, 6, Counts(handled=20, puts=20), None, 985))
    assert ranges_seen(tmp_path) == late
    assert (tmp_path / SEEN_NAME).stat().st_mode & 0o77 == 0
    note_seen(tmp_path / "gone", late)  # keeps nobody from the work


@pytest.mark.parametrize(
    "damage",
    ["", "{}", "[" * 9_000, '{"at": 1e99}', json.dumps({"finished": 9, "total": 1})],
    ids=["empty", "no fields", "deep", "huge", "incomplete"],
)
def test_a_damaged_file_counts_as_missing(tmp_path: Path, damage: str) -> None:
    (tmp_path / SEEN_NAME).write_text(damage)
    assert ranges_seen(tmp_path) is None

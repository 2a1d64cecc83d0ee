"""Runs in ranges are undone: every entity is what it was, and what others wrote since stays."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest
from google.cloud.datastore import Entity

from bulkup.core.errors import Exit, HeldError, NotFoundError, StateError
from bulkup.core.events import Report
from bulkup.core.model import RunState
from bulkup.engine.options import Options
from bulkup.runs.abandon import abandon_by_hand
from bulkup.runs.changes import changes_of
from bulkup.runs.undo_runs import NothingToUndoError
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.files import sharing_ranges
from bulkup.state.kinds import RANGE_KIND
from bulkup.state.range_folders import range_folders
from bulkup.state.undo_files import undo_bytes
from tests.conftest import Server
from tests.engine.conftest import Run, fill, run
from tests.engine.test_neighbours_at_random import COUNTERS, THINGS, Random
from tests.runs.ranges.conftest import Increment, InThread, Ledgers, RunRanged
from tests.runs.undoing import Bench, entities

__all__ = ["run"]

pytestmark = pytest.mark.sampled(5)


@pytest.fixture
def bench(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", server.host)
    return Bench(server, tmp_path / "state")


@pytest.fixture
def local(embedded: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", embedded.host)
    return Bench(embedded, tmp_path / "state")


class Everything(Increment):
    """Changes some, deletes others, makes new ones, and writes one that all write."""

    max_failures = -1

    def handle_entity(self, entity: Entity) -> None:
        i, client = entity["i"], self.client
        if i % 5 == 0:
            self.delete(entity)
        elif i % 5 == 1:
            made = Entity(client.key("Made", i))
            made["by"] = i
            self.put(made)
        elif i % 5 == 2:
            last = Entity(client.key("Last", "one"))
            last["i"] = i
            self.put(last)
        elif i % 25 == 3:
            (total,) = self.get([client.key("Total", "one")])
            assert total is not None
            total["n"] += entity["i"]
            self.put(total)
        if i % 5:
            super().handle_entity(entity)


def things(bench: Bench, count: int = 100) -> dict[str, bytes]:
    fill(bench.server, "Thing", count, n=0)
    total = Entity(bench.client.key("Total", "one"))
    total["n"] = 0
    bench.client.put(total)
    return entities(bench.server)


def test_a_run_in_ranges_is_undone(bench: Bench, ranged: RunRanged) -> None:
    before = things(bench)
    report = ranged(bench.server, Everything, ranges=5, batch_size=7)
    assert (report.state, report.counts.failed) == (RunState.FINISHED, 0)
    assert len(range_folders(bench.folder(report))) > 2
    after = entities(bench.server)
    undone = bench.undo(report)
    assert (undone.state, undone.exit_code) == (RunState.FINISHED, Exit.DONE)
    assert entities(bench.server) == before
    with pytest.raises(NotFoundError, match="is undone"):
        bench.undo(report)
    bench.undo(undone)
    assert entities(bench.server) == after


def both(work: Callable[[], Report]) -> Report:
    """The report of two processes that share a run. One of them may come when it has ended."""
    reports = []
    for one in [InThread(work) for _ in range(2)]:
        with suppress(NotFoundError):
            reports.append(one.join())
    return reports[0]


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.chaos) for seed in range(1, 20))]
)
def test_what_random_handlers_of_two_processes_did_is_undone(
    bench: Bench, ranged: RunRanged, seed: int
) -> None:
    """They write each other's entities. Where a run cannot be finished, as on a Datastore that does
    not tell what it made, it is undone as far as it came."""
    fill(bench.server, "Thing", THINGS, n=0)
    fill(bench.server, "Counter", COUNTERS, n=0)
    before = entities(bench.server)
    updater = type("Random", (Random,), {"seed": seed})
    report = both(lambda: ranged(bench.server, updater, ranges=4, batch_size=2))
    with suppress(NothingToUndoError):  # it was stopped before anything was written
        undone = bench.undo(report)
        assert [failure.error for failure in undone.failures] == []
    assert entities(bench.server) == before


def test_what_two_processes_on_one_state_directory_did_is_undone(
    local: Bench, ranged: RunRanged
) -> None:
    before = things(local, 300)
    report = both(lambda: ranged(local.server, Everything, ranges=8, batch_size=3))
    assert report.state is RunState.FINISHED
    assert local.undo(report).exit_code is Exit.DONE
    assert entities(local.server) == before


def test_a_run_that_one_process_has_begun_is_undone(
    local: Bench, ranged: RunRanged, run: Run
) -> None:
    before = things(local)
    run(local.server, Everything, limit=30, batch_size=7)
    report = ranged(local.server, Everything, ranges=4, batch_size=7)
    assert report.counts.handled == 100
    assert local.undo(report).exit_code is Exit.DONE
    assert entities(local.server) == before


def test_a_stopped_run_is_ended_and_undone(bench: Bench, ranged: RunRanged) -> None:
    before = things(bench)
    report = ranged(bench.server, Everything, ranges=5, limit=40, batch_size=7)
    assert report.state is RunState.STOPPED
    assert bench.undo(report).exit_code is Exit.DONE
    assert entities(bench.server) == before
    kept = bench.client.query(kind=RANGE_KIND).fetch()
    assert {one["state"] for one in kept} <= {"finished", "abandoned"}
    again = ranged(bench.server, Increment, ranges=2)
    assert (again.run_id != report.run_id, again.counts.handled) == (True, 100)


def test_changes_of_all_ranges_are_shown(local: Bench, ranged: RunRanged) -> None:
    things(local, 60)
    report = ranged(local.server, Increment, ranges=4, batch_size=7)
    with closing(Checkpoint.open(local.folder(report))) as checkpoint:
        changes = [change.key for change in changes_of(checkpoint)]
    assert sorted(changes) == sorted(f"Key('Thing', {i})" for i in range(1, 61))
    assert undo_bytes(local.folder(report)) > 0


def test_a_preview_writes_nothing(local: Bench, ranged: RunRanged) -> None:
    things(local, 60)
    report = ranged(local.server, Increment, ranges=4, batch_size=7)
    after = entities(local.server)
    preview = local.undo(report, options=Options(dry_run=True))
    assert preview.counts.puts == 60
    assert entities(local.server) == after


def without_one(folder: Path) -> int:
    """Delete the folder of one range; how many entities it has written."""
    lost = range_folders(folder)[1]
    with closing(Checkpoint.open(lost)) as checkpoint:
        writes = checkpoint.done().writes
    shutil.rmtree(lost)
    return writes


@pytest.fixture
def torn(local: Bench, ranged: RunRanged) -> tuple[Report, int]:
    """A finished run, and how many entities were written in the range whose folder is deleted."""
    things(local, 60)
    report = ranged(local.server, Increment, ranges=4, batch_size=7)
    return report, without_one(local.folder(report))


def test_a_range_whose_folder_is_deleted_is_named(local: Bench, torn: tuple[Report, int]) -> None:
    report, lost = torn
    after = entities(local.server)
    match = rf"range 2 are not in.*entities: {lost} of 60\).*bulkup rewind.*--force"
    for dry_run in (True, False):
        with pytest.raises(StateError, match=match):
            local.undo(report, options=Options(dry_run=dry_run))
    assert entities(local.server) == after
    with closing(Checkpoint.open(local.folder(report))) as checkpoint:
        shown = changes_of(checkpoint)
        for _ in range(60 - lost):
            next(shown)
        with pytest.raises(StateError, match=rf"range 2 .*entities: {lost} of 60\); the others"):
            next(shown)


def test_the_others_are_put_back_by_force(local: Bench, torn: tuple[Report, int]) -> None:
    report, lost = torn
    assert local.undo(report, force=True).counts.puts == 60 - lost
    left = [thing["n"] for thing in local.client.query(kind="Thing").fetch()]
    assert sum(left) == lost
    with closing(Checkpoint.open(local.folder(report))) as checkpoint:
        assert checkpoint.status().partly


def test_without_any_folder_of_a_range_all_are_missing(local: Bench, ranged: RunRanged) -> None:
    things(local, 60)
    report = ranged(local.server, Increment, ranges=4, batch_size=7)
    for folder in range_folders(local.folder(report)):
        shutil.rmtree(folder)
    match = r"ranges 1, 2, .* are not in.*entities: 60 of 60\).* keeps the past$"
    with pytest.raises(StateError, match=match):
        local.undo(report)


def test_ranges_that_were_worked_on_elsewhere_are_named(local: Bench, ranged: RunRanged) -> None:
    things(local, 100)
    report = ranged(local.server, Increment, ranges=5, limit=30, batch_size=7)
    ranged(local.server, Increment, batch_size=7, state="elsewhere")
    after = entities(local.server)
    with pytest.raises(StateError, match=r"ranges .* are not in.*entities: 70 of 100\)"):
        local.undo(report)
    assert entities(local.server) == after
    with closing(Checkpoint.open(local.folder(report))) as checkpoint:
        assert not checkpoint.status().undone_by


def test_an_unfinished_run_that_others_share_is_not_ended(local: Bench, ranged: RunRanged) -> None:
    """The undo would be half of one, so the run can still be resumed."""
    things(local, 100)
    report = ranged(local.server, Increment, ranges=5, limit=30, batch_size=7)
    ranged(local.server, Increment, batch_size=7, limit=30, state="elsewhere")
    after = entities(local.server)
    with pytest.raises(StateError, match=r"entities: 30 of 60\)"):
        local.undo(report)
    assert entities(local.server) == after
    resumed = ranged(local.server, Increment)
    assert (resumed.run_id, resumed.counts.handled) == (report.run_id, 100)


def test_an_abandoned_run_that_others_shared_is_not_undone_in_half(
    local: Bench, ranged: RunRanged, ledgers: Ledgers
) -> None:
    """Its folder here knows nothing of what they have written."""
    things(local, 100)
    report = ranged(local.server, Increment, ranges=5, limit=30, batch_size=7)
    ranged(local.server, Increment, batch_size=7, limit=30, state="elsewhere")
    runs, _ = ledgers(local.server)
    with closing(Checkpoint.open(local.folder(report))) as checkpoint:
        assert abandon_by_hand(runs, report.run_id, checkpoint, confirm=lambda *_: True)
    after = entities(local.server)
    with pytest.raises(StateError, match=r"entities: 30 of 60\)"):
        local.undo(report)
    assert entities(local.server) == after


def test_what_somebody_has_changed_since_is_left_and_named(bench: Bench, ranged: RunRanged) -> None:
    before = things(bench, 60)
    report = ranged(bench.server, Increment, ranges=4, batch_size=7)
    changed = bench.client.get(bench.client.key("Thing", 33))
    changed["n"] = 1000
    bench.client.put(changed)
    undone = bench.undo(report)
    assert [failure.key for failure in undone.failures] == ["Key('Thing', 33)"]
    after = entities(bench.server)
    assert after.pop("Key('Thing', 33)") != before.pop("Key('Thing', 33)")
    assert after == before


def test_while_a_process_works_on_a_range_there_is_no_undo(local: Bench, ranged: RunRanged) -> None:
    things(local, 60)
    report = ranged(local.server, Increment, ranges=4, limit=20, batch_size=7)
    with sharing_ranges(local.folder(report)), pytest.raises(HeldError, match="ranges of run"):
        local.undo(report)
    assert local.undo(report).exit_code is Exit.DONE

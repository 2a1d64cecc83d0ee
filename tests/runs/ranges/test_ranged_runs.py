"""Runs that are cut into ranges, by one process and by several in one."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from google.cloud.datastore import Entity, Query

import bulkup
from bulkup.core import max_failures
from bulkup.core.clock import Clock
from bulkup.core.errors import Exit, HeldError, NotFoundError, QueryError, UsageError
from bulkup.core.events import Event, RunEnded, RunStarted, Warned, WarningKind
from bulkup.core.model import RunState
from bulkup.core.stop import StopRequest
from bulkup.datastore.rpc import Rpc
from bulkup.engine import splits
from bulkup.engine.options import Options
from bulkup.runs.context import RunContext
from bulkup.runs.housekeeping import abandon
from bulkup.runs.listing import ListedRun, runs_on
from bulkup.runs.prepare import prepare
from bulkup.runs.ranges import ending, work
from bulkup.runs.ranges.view import Times
from bulkup.runs.resume import open_unfinished, prepare_resume, resume
from bulkup.runs.start import Cutting, start
from bulkup.runs.target import TargetOptions
from bulkup.state.holder import this_process
from bulkup.state.kinds import CLAIM_KIND, MARKER_KIND, RANGE_KIND, RUN_KIND
from bulkup.state.markers import LATE_COPY_S
from bulkup.state.range_ledger import RangeLedger
from bulkup.state.ranges import ranges_of
from bulkup.state.record import LEASE_S, RunRecord
from bulkup.state.taking import take
from tests.chaos.bench import UPDATERS, later
from tests.conftest import Server
from tests.engine.conftest import Run, everything, fill, run
from tests.runs.ranges.conftest import Increment, InThread, Ledgers, RunRanged, left_in

pytestmark = pytest.mark.sampled(5)

__all__ = ["run"]


def test_a_ranged_run_handles_each_entity_once(server: Server, ranged: RunRanged) -> None:
    client = fill(server, "Thing", 300, n=0)
    events: list[Event] = []
    report = ranged(server, Increment, ranges=6, listener=events.append, batch_size=7)
    assert (report.state, report.exit_code) == (RunState.FINISHED, Exit.DONE)
    assert (report.counts.handled, report.counts.written) == (300, 300)
    assert {e["n"] for e in everything(client, "Thing")} == {1}
    assert sum(isinstance(event, RunStarted) for event in events) == 1
    assert [e.report for e in events if isinstance(e, RunEnded)] == [report]
    assert report.operations is None
    left = left_in(server)
    assert left[CLAIM_KIND] == 0
    assert left[RUN_KIND] == 1
    assert left[RANGE_KIND] > 3


def test_after_the_sweep_nothing_is_left_but_the_record(
    embedded: Server, ranged: RunRanged, run: Run
) -> None:
    fill(embedded, "Thing", 100, n=0)
    ranged(embedded, Increment, ranges=5, batch_size=7)
    with later(2 * LATE_COPY_S):
        fill(embedded, "Other", 1)
        run(embedded, touch)
    assert left_in(embedded) == {MARKER_KIND: 0, CLAIM_KIND: 0, RANGE_KIND: 0, RUN_KIND: 2}


def test_the_sweep_removes_what_a_dead_planner_has_left(
    embedded: Server, ranged: RunRanged, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was killed after it had inserted the ranges, and the run was finished without any."""
    client = fill(embedded, "Thing", 100, n=0)
    insert = RangeLedger.insert

    def insert_and_die(self: RangeLedger, records: Sequence[RunRecord]) -> None:
        insert(self, records)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RangeLedger, "insert", insert_and_die)
        with pytest.raises(KeyboardInterrupt):
            ranged(embedded, Increment, ranges=5, batch_size=7)
    assert left_in(embedded)[RANGE_KIND] == 5
    with later(2 * LEASE_S):
        assert run(embedded, Increment).counts.handled == 100
    assert {e["n"] for e in everything(client, "Thing")} == {1}
    with later(2 * LEASE_S + 2 * LATE_COPY_S):
        fill(embedded, "Other", 1)
        run(embedded, touch)
    assert left_in(embedded) == {MARKER_KIND: 0, CLAIM_KIND: 0, RANGE_KIND: 0, RUN_KIND: 2}


@bulkup.updater(kind="Other")
def touch(entity: Entity) -> Entity:
    entity["touched"] = True
    return entity


class Failing(Increment):
    """Every tenth entity fails."""

    max_failures = -1

    def handle_entity(self, entity: Entity) -> None:
        if entity["i"] % 10 == 0:
            raise ValueError(f"bad {entity['i']}")
        self.log(f"line {entity['i']}")
        super().handle_entity(entity)


def test_failures_and_log_lines_of_all_ranges_are_in_the_report(
    embedded: Server, ranged: RunRanged
) -> None:
    fill(embedded, "Thing", 100, n=0)
    report = ranged(embedded, Failing, ranges=5, batch_size=7)
    assert (report.exit_code, report.counts.failed) == (Exit.DONE_WITH_FAILURES, 10)
    keys = [failure.key for failure in report.failures]
    assert sorted(keys) == sorted(f"Key('Thing', {i})" for i in range(10, 101, 10))
    assert report.log_total == 90


class Hooked(Increment):
    """Says what is called once per run."""

    called: ClassVar[Counter[str]] = Counter()

    def check_before(self, client: object) -> None:
        self.called["check_before"] += 1

    def check_after(self, client: object) -> None:
        self.called["check_after"] += 1

    def finish(self, success: bool, report: bulkup.Report) -> None:
        self.called["finish"] += 1
        assert success
        assert report.counts.handled == 60


def test_hooks_are_called_once_per_run(embedded: Server, ranged: RunRanged) -> None:
    Hooked.called.clear()
    fill(embedded, "Thing", 60, n=0)
    assert ranged(embedded, Hooked, ranges=4).success
    assert Hooked.called == {"check_before": 1, "check_after": 1, "finish": 1}


def test_hooks_are_called_once_when_reading_the_notes_takes_longer_than_the_lease(
    embedded: Server, ranged: RunRanged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Meanwhile another process takes over, and ends the run."""
    Hooked.called.clear()
    fill(embedded, "Thing", 60, n=0)
    collect = ending.collect
    reports: list[bulkup.Report] = []

    def slowly(*args: Any) -> None:
        monkeypatch.setattr(ending, "collect", collect)
        with later(2 * LEASE_S):
            reports.append(ranged(embedded, Hooked, ranges=4, state="other"))
        collect(*args)

    monkeypatch.setattr(ending, "collect", slowly)
    reports.append(ranged(embedded, Hooked, ranges=4))
    assert [report.success for report in reports] == [True, True]
    assert Hooked.called == {"check_before": 1, "check_after": 1, "finish": 1}


class Slow(Increment):
    def handle_entity(self, entity: Entity) -> None:
        time.sleep(0.01)
        super().handle_entity(entity)


def test_the_report_says_how_long_the_ranges_took(embedded: Server, ranged: RunRanged) -> None:
    """And that nobody has resumed the run: to end it is no further runner."""
    fill(embedded, "Thing", 30, n=0)
    report = ranged(embedded, Slow, ranges=3)
    assert report.elapsed_s >= 0.3
    assert report.runners == 1


def test_an_empty_query_is_warned_of_once(embedded: Server, ranged: RunRanged) -> None:
    events: list[Event] = []
    report = ranged(embedded, Increment, ranges=4, listener=events.append)
    assert report.success
    empty = [e for e in events if isinstance(e, Warned) and e.kind is WarningKind.EMPTY_QUERY]
    assert len(empty) == 1


def test_two_runners_share_a_run(embedded: Server, ranged: RunRanged) -> None:
    client = fill(embedded, "Thing", 400, n=0)
    first = InThread(lambda: ranged(embedded, Increment, ranges=8, batch_size=3))
    second = InThread(lambda: ranged(embedded, Increment, ranges=8, batch_size=3, state="other"))
    for report in (first.join(), second.join()):
        assert (report.state, report.counts.handled) == (RunState.FINISHED, 400)
    assert {e["n"] for e in everything(client, "Thing")} == {1}
    assert left_in(embedded)[RUN_KIND] == 1


def test_the_failure_budget_is_for_the_whole_run(embedded: Server, ranged: RunRanged) -> None:
    fill(embedded, "Thing", 100, n=0)
    report = ranged(embedded, Failing, ranges=5, batch_size=7, max_failures=3)
    assert (report.state, report.exit_code) == (RunState.FAILED, Exit.FAILED)
    assert report.counts.failed == 4
    assert report.over_budget
    assert report.next_command.startswith("bulkup resume ")
    report = ranged(embedded, Failing, max_failures=-1)
    assert (report.exit_code, report.counts.failed) == (Exit.DONE_WITH_FAILURES, 10)
    assert report.counts.handled == 100


def test_a_share_of_failures_is_of_what_all_ranges_have_handled(
    embedded: Server, ranged: RunRanged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of the ranges that the conductor does not know of yet."""
    monkeypatch.setattr(work, "TIMES", Times())
    monkeypatch.setattr(max_failures, "SHARE_OF_AT_LEAST", 20)
    fill(embedded, "Thing", 200, n=0)
    report = ranged(embedded, Failing, ranges=5, batch_size=7, max_failures="15%")
    assert (report.exit_code, report.counts.failed) == (Exit.DONE_WITH_FAILURES, 20)


def test_a_run_that_one_process_has_begun_is_cut_into_ranges(
    server: Server, ranged: RunRanged, run: Run
) -> None:
    client = fill(server, "Thing", 200, n=0)
    assert run(server, Increment, limit=50, batch_size=7).exit_code is Exit.LIMIT
    report = ranged(server, Increment, ranges=4, batch_size=7)
    assert (report.state, report.counts.handled) == (RunState.FINISHED, 200)
    assert {e["n"] for e in everything(client, "Thing")} == {1}
    assert left_in(server)[RANGE_KIND] > 1


def test_a_ranged_run_stops_at_a_limit_and_is_finished_without_ranges(
    embedded: Server, ranged: RunRanged, run: Run
) -> None:
    client = fill(embedded, "Thing", 200, n=0)
    report = ranged(embedded, Increment, ranges=5, limit=50, batch_size=7)
    assert (report.state, report.exit_code) == (RunState.STOPPED, Exit.LIMIT)
    assert report.counts.handled == 50
    report = run(embedded, Increment)
    assert (report.state, report.counts.handled) == (RunState.FINISHED, 200)
    assert {e["n"] for e in everything(client, "Thing")} == {1}


class Ordered(Increment):
    def get_query(self) -> Query:
        return self.client.query(kind="Thing", order=["n"])


def test_a_query_that_orders_is_refused(embedded: Server, ranged: RunRanged) -> None:
    fill(embedded, "Thing", 3, n=0)
    with pytest.raises(QueryError, match="cannot be cut into ranges: it orders or ranges on n"):
        ranged(embedded, Ordered, ranges=4)
    assert left_in(embedded)[RUN_KIND] == 0


def test_who_wants_to_share_a_file_is_told_how_to_serve_it(tmp_path: Path) -> None:
    file = tmp_path / "my data.db"
    file.touch()
    context = RunContext(Options(), tmp_path / "state", lambda event: None)
    with (
        prepare(Increment, {}, TargetOptions(local=str(file)), context) as prepared,
        pytest.raises(UsageError, match=f"`bulkup local serve '{re.escape(str(file))}'`"),
    ):
        start(prepared, cutting=Cutting(4))


def test_state_is_private(embedded: Server, ranged: RunRanged, tmp_path: Path) -> None:
    fill(embedded, "Thing", 60, n=0)
    ranged(embedded, Increment, ranges=3)
    found = list((tmp_path / "state").rglob("*"))
    assert any("ranges" in path.parts for path in found)
    for path in found:
        assert path.stat().st_mode & 0o77 == 0, path


def test_the_ledger_knows_how_many_ranges_are_finished(
    embedded: Server, ranged: RunRanged, ledgers: Ledgers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who leaves says so, and does not wait until somebody conducts."""
    monkeypatch.setattr(work, "TIMES", Times())
    fill(embedded, "Thing", 100, n=0)
    ranged(embedded, Increment, ranges=5, limit=30, batch_size=5)
    runs, _ = ledgers(embedded)
    (record,) = runs.all_records()
    (listed,) = runs_on(record.run_info.target, [record], [], 0.0)
    assert isinstance(listed, ListedRun)
    assert (listed.state, listed.counts.handled) == ("stopped", 30)
    assert listed.ranges > listed.ranges_finished > 0


def test_a_run_is_not_abandoned_while_somebody_works_on_a_range(
    embedded: Server, ranged: RunRanged, ledgers: Ledgers
) -> None:
    fill(embedded, "Thing", 60, n=0)
    ranged(embedded, Increment, ranges=3, limit=10, batch_size=5)
    runs, ranges = ledgers(embedded)
    (record,) = runs.all_records()
    one = next(one for one in ranges_of(ranges, record) if not one.state.is_over)
    held = take(ranges, one, this_process(), clock=Clock(), stop=StopRequest())
    with pytest.raises(HeldError, match="is working on a range of run"):
        abandon(runs, record, "given up", clock=Clock(), stop=StopRequest())
    ranges.write(replace(held, lease=replace(held.lease, until=0)))
    (record,) = runs.all_records()
    abandon(runs, record, "given up", clock=Clock(), stop=StopRequest())
    assert left_in(embedded)[CLAIM_KIND] == 0


def test_what_an_earlier_version_reads_is_not_a_run_without_shards(
    embedded: Server, ranged: RunRanged
) -> None:
    """It would take one for a run of which every entity is done."""
    fill(embedded, "Thing", 60, n=0)
    ranged(embedded, Increment, ranges=3, limit=10, batch_size=5)
    (stored,) = embedded.client().query(kind=RUN_KIND).fetch()
    assert "shards" not in stored
    ranged(embedded, Increment)
    (stored,) = embedded.client().query(kind=RUN_KIND).fetch()
    assert stored["shards"] == "[]"


def test_resume_joins_a_run_and_reports_one_that_others_have_finished(
    embedded: Server, ranged: RunRanged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = fill(embedded, "Thing", 100, n=0)
    for state in ("state", "other"):
        assert ranged(embedded, Failing, ranges=4, limit=20, batch_size=5, state=state).next_command

    def resume_in(state: str) -> bulkup.Report:
        context = RunContext(Options(), tmp_path / state, lambda event: None)
        target = TargetOptions(project=embedded.project)
        with (
            open_unfinished(None, context) as checkpoint,
            prepare_resume(checkpoint, target, {}, context) as prepared,
        ):
            return resume(prepared, checkpoint)

    for state in ("state", "other"):
        report = resume_in(state)
        assert (report.state, report.exit_code) == (RunState.FINISHED, Exit.DONE_WITH_FAILURES)
        assert (report.counts.handled, len(report.failures)) == (100, 10)
    assert Counter(e["n"] for e in everything(client, "Thing")) == {1: 90, 0: 10}
    with pytest.raises(NotFoundError):
        resume_in("other")


def test_the_successor_begins_once(embedded: Server, ranged: RunRanged) -> None:
    client = fill(embedded, "Thing", 60, n=0)
    both = [
        InThread(
            lambda place=place: ranged(  # type: ignore[misc]
                embedded, f"{UPDATERS}:BeforeIncrement", ranges=4, batch_size=5, state=place,
                wait_s=60.0,
            )
        )
        for place in ("state", "other")
    ]  # fmt: skip
    for runner in both:
        report = runner.join()
        assert (report.state, report.counts.handled) == (RunState.FINISHED, 60)
    assert {(e["before"], e["n"]) for e in everything(client, "Thing")} == {(1, 1)}
    assert left_in(embedded)[RUN_KIND] == 2
    assert left_in(embedded)[CLAIM_KIND] == 0


def test_entities_are_counted_once(
    embedded: Server, ranged: RunRanged, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(embedded, "Thing", 60, n=0)
    counted, count = [], Rpc.count

    def counting(rpc: Rpc, *args: Any) -> Any:
        counted.append(1)
        return count(rpc, *args)

    monkeypatch.setattr(Rpc, "count", counting)
    monkeypatch.setattr(splits, "_probed", lambda *_: [])
    report = ranged(embedded, Increment, ranges=4)
    assert (report.total, len(counted)) == (60, 1)

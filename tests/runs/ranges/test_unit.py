"""The seam for those who work on ranges elsewhere: RangeWorker, begin, conclude."""

from __future__ import annotations

import pickle
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bulkup.core.errors import Exit
from bulkup.core.events import Event, Report, RunEnded, RunStarted
from bulkup.core.model import RunState
from bulkup.engine.options import Options
from bulkup.engine.throttle.max_rate import MaxRate
from bulkup.runs.context import RunContext
from bulkup.runs.launch import begin, conclude, look, range_ids, work_of
from bulkup.runs.prepare import PreparedRun, prepare
from bulkup.runs.ranges import at_work
from bulkup.runs.ranges.unit import RangedWork, RangeEnd, RangeWorker, WorkingRange
from bulkup.runs.ranges.view import RunView
from bulkup.runs.target import TargetOptions
from bulkup.state.record import RunRecord
from tests.conftest import Server
from tests.engine.conftest import everything, fill
from tests.runs.ranges.conftest import QUICK

pytestmark = pytest.mark.sampled(5)

UPDATER = """
    from bulkup import Updater

    class Up(Updater):
        max_failures = 2

        def get_query(self):
            return self.client.query(kind="Thing")

        def handle_entity(self, entity):
            if entity.get("bad"):
                raise ValueError("bad")
            entity["n"] = entity["n"] + 1
            self.put(entity)
"""


class Launched:
    """A run that was begun, and what its launcher has heard."""

    def __init__(self, prepared: PreparedRun, record: RunRecord, scratch: Path) -> None:
        self.prepared = prepared
        self.record = record
        self.scratch = scratch
        self.events: list[Event] = []

    @property
    def work(self) -> RangedWork:
        shipped: RangedWork = pickle.loads(pickle.dumps(work_of(self.prepared, self.record)))
        return shipped

    def worker(self) -> RangeWorker:
        return RangeWorker(self.work, self.scratch, times=QUICK)

    @property
    def ids(self) -> list[str]:
        return range_ids(self.prepared, self.record)

    def conclude(self) -> Report:
        return conclude(self.prepared, self.record)


Launch = Callable[..., Launched]


@pytest.fixture
def launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Launch]:
    file = tmp_path / "up.py"
    file.write_text(textwrap.dedent(UPDATER))
    with ExitStack() as stack:

        def launch_it(server: Server, ranges: int = 4, **options: Any) -> Launched:
            monkeypatch.setenv("DATASTORE_EMULATOR_HOST", server.host)
            events: list[Event] = []
            context = RunContext(Options(**options), tmp_path / "state", events.append)
            prepared = stack.enter_context(
                prepare(f"{file}:Up", {}, TargetOptions(server.project), context)
            )
            record = begin(prepared, ranges=ranges)
            assert isinstance(record, RunRecord)
            launched = Launched(prepared, record, tmp_path / "scratch")
            launched.events = events
            return launched

        yield launch_it


def test_workers_elsewhere_finish_a_run(server: Server, launch: Launch) -> None:
    client = fill(server, "Thing", 120, n=0)
    launched = launch(server, batch_size=7)
    with launched.worker() as worker:
        results = [worker.work_on(range_id) for range_id in launched.ids]
    assert {result.end for result in results} == {RangeEnd.FINISHED}
    assert sum(result.counts.handled for result in results) == 120
    state = look(launched.prepared, launched.record)
    assert (state.finished, state.counts.handled) == (state.total, 120)
    report = launched.conclude()
    assert (report.state, report.counts.handled) == (RunState.FINISHED, 120)
    assert {e["n"] for e in everything(client, "Thing")} == {1}
    kinds = [type(event) for event in launched.events]
    assert (kinds.count(RunStarted), kinds.count(RunEnded)) == (1, 1)


def test_a_range_may_be_asked_for_again(embedded: Server, launch: Launch) -> None:
    client = fill(embedded, "Thing", 60, n=0)
    launched = launch(embedded)
    with launched.worker() as worker, launched.worker() as other:
        for range_id in launched.ids:
            assert worker.work_on(range_id).end is RangeEnd.FINISHED
            assert other.work_on(range_id).end is RangeEnd.FINISHED
    assert {e["n"] for e in everything(client, "Thing")} == {1}


def test_a_range_that_is_not_there_is_stopped(embedded: Server, launch: Launch) -> None:
    fill(embedded, "Thing", 10, n=0)
    launched = launch(embedded)
    with launched.worker() as worker:
        result = worker.work_on(launched.ids[0] + ".7")
    assert (result.end, result.run_is_over) == (RangeEnd.STOPPED, False)
    assert "there is no range" in result.why


def test_a_runner_that_drops_ranges_does_not_succeed(embedded: Server, launch: Launch) -> None:
    fill(embedded, "Thing", 60, n=0)
    launched = launch(embedded)
    with launched.worker() as worker:
        worker.work_on(launched.ids[0])
    report = launched.conclude()
    assert (report.exit_code, report.state) == (Exit.FAILED, RunState.FAILED)
    assert "ranges are not finished" in report.reason
    assert report.next_command.startswith("bulkup resume ")


def test_an_exhausted_budget_stops_all_workers_and_raises_nothing(
    embedded: Server, launch: Launch
) -> None:
    fill(embedded, "Thing", 60, n=0, bad=lambda i: i % 3 == 0)
    launched = launch(embedded, batch_size=5)
    with launched.worker() as worker, launched.worker() as other:
        results = [worker.work_on(range_id) for range_id in launched.ids]
        assert [r for r in results if r.end is RangeEnd.STOPPED and r.run_is_over]
        stopped = other.work_on(launched.ids[-1])
        assert (stopped.end, stopped.run_is_over) == (RangeEnd.STOPPED, True)
    report = launched.conclude()
    assert (report.exit_code, report.over_budget) == (Exit.FAILED, True)


def test_nobody_works_before_somebody_has_said_how_fast(
    embedded: Server, launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process conducts, and has not written the rate yet."""
    fill(embedded, "Thing", 20, n=0)
    launched = launch(embedded, max_rate=MaxRate(50.0))
    monkeypatch.setattr(RunView, "_conduct", lambda self: None)
    monkeypatch.setattr(at_work, "SHARE_WITHIN_S", 0.2)
    with launched.worker() as worker:
        result = worker.work_on(launched.ids[0])
    assert (result.end, result.handled_here) == (RangeEnd.HELD, 0)


def test_a_worker_concludes(embedded: Server, launch: Launch) -> None:
    fill(embedded, "Thing", 30, n=0)
    launched = launch(embedded)
    with launched.worker() as worker, launched.worker() as other:
        for range_id in launched.ids:
            worker.work_on(range_id)
        for one in (worker, worker, other):
            report = one.conclude()
            assert (report.state, report.counts.handled) == (RunState.FINISHED, 30)


def test_a_worker_is_stopped_by_its_caller(embedded: Server, launch: Launch) -> None:
    fill(embedded, "Thing", 30, n=0)
    launched = launch(embedded)
    working = WorkingRange()
    working.stop("the machine goes away")
    with launched.worker() as worker:
        result = worker.work_on(launched.ids[0], working)
        assert (result.end, result.why) == (RangeEnd.STOPPED, "the machine goes away")
        assert not result.run_is_over
        assert worker.work_on(launched.ids[0]).end is RangeEnd.FINISHED

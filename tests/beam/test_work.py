"""The DoFn on Beam's own runner: what it does with held ranges, and with a process that is busy."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("apache_beam", reason="Apache Beam is not installed")

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.util import assert_that, equal_to

from bulkup.beam import work as work_module
from bulkup.beam import workers as workers_module
from bulkup.beam.turn import Turn, TurnTracker
from bulkup.beam.work import WorkOnRange, WorkOnRanges
from bulkup.beam.workers import Workers
from bulkup.core.errors import UpdaterError
from bulkup.core.model import TargetInfo
from bulkup.runs.ranges.unit import RangedWork, RangeEnd, RangeResult, WorkingRange

WORK = RangedWork("20261129-120000-0000ab", "u.py:U", "", TargetInfo("p"))


class Asked:
    """Stands in for a process's connection to a run, and answers what the test says."""

    answers: dict[str, list[RangeResult]]
    calls: list[str]
    open_now = 0

    def __init__(self, work: RangedWork, scratch: Path) -> None:
        assert scratch.stat().st_mode & 0o777 == 0o700
        Asked.open_now += 1

    def work_on(self, range_id: str, working: WorkingRange | None = None) -> RangeResult:
        Asked.calls.append(range_id)
        left = Asked.answers.get(range_id, [])
        return left.pop(0) if left else RangeResult(range_id, RangeEnd.FINISHED)

    def close(self) -> None:
        Asked.open_now -= 1


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    Asked.answers, Asked.calls, Asked.open_now = {}, [], 0
    monkeypatch.setattr(workers_module, "RangeWorker", Asked)
    monkeypatch.setattr(work_module, "workers", Workers())
    yield
    assert Asked.open_now == 0


def held(range_id: str, seconds: float) -> RangeResult:
    return RangeResult(range_id, RangeEnd.HELD, held_until=time.time() + seconds)


def run(ids: list[str], ends: list[tuple[str, RangeEnd]]) -> None:
    options = PipelineOptions(["--runner=FnApiRunner"])
    with beam.Pipeline(options=options) as pipeline:
        results = pipeline | beam.Create(ids) | WorkOnRanges(WORK)
        assert_that(
            results | beam.Map(lambda result: (result.range_id, result.end)), equal_to(ends)
        )


def test_a_held_range_comes_back_when_its_lease_is_over_and_is_asked_for_no_sooner() -> None:
    Asked.answers = {"a": [held("a", 3.0)]}
    began = time.monotonic()
    run(["a", "b"], [("a", RangeEnd.FINISHED), ("b", RangeEnd.FINISHED)])
    assert sorted(Asked.calls) == ["a", "a", "b"]
    assert time.monotonic() - began >= 3.0  # Beam's runner brings it back at once


def test_a_stopped_range_is_told_and_fails_no_bundle() -> None:
    Asked.answers = {"a": [RangeResult("a", RangeEnd.STOPPED, why="2 failures")]}
    run(["a"], [("a", RangeEnd.STOPPED)])


def test_on_a_runner_that_drops_residuals_the_dofn_waits() -> None:
    Asked.answers = {"a": [held("a", 1.5)]}
    do_fn = WorkOnRange(WORK)
    do_fn.setup()
    tracker: Any = TurnTracker(Turn("a", comes_back=False))
    assert [result.end for result in do_fn.process("a", tracker)] == [RangeEnd.FINISHED]
    assert Asked.calls == ["a", "a"]
    do_fn.teardown()


def test_while_another_thread_works_the_range_goes_back_to_the_runner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(work_module, "BUSY_S", 0.01)
    do_fn = WorkOnRange(WORK)
    do_fn.setup()
    deferred = []

    class View(TurnTracker):
        def defer_remainder(self, seconds: object) -> None:
            deferred.append(self.try_split(0))

    with work_module.workers.alone(wait_s=0) as alone:
        assert alone
        tracker: Any = View(Turn("a", comes_back=True))
        thread = threading.Thread(target=lambda: [*do_fn.process("a", tracker)])
        thread.start()
        thread.join()
    assert Asked.calls == []
    ((primary, residual),) = deferred
    assert primary.is_over
    assert residual.range_id == "a"
    do_fn.teardown()


def test_a_range_that_was_given_away_while_it_waited_is_left_alone() -> None:
    do_fn = WorkOnRange(WORK)

    class View(TurnTracker):
        def defer_remainder(self, seconds: object) -> None:
            assert self.try_split(0) is None

    tracker: Any = View(Turn("a", comes_back=True))
    assert tracker.try_split(0.5) is not None
    assert [*do_fn.process("a", tracker)] == []
    assert Asked.calls == []


def test_an_updater_that_cannot_be_loaded_is_the_runners_to_show(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def cannot(work: RangedWork, scratch: Path) -> None:
        raise UpdaterError("u.py is another one than the run's")

    monkeypatch.setattr(workers_module, "RangeWorker", cannot)
    with pytest.raises(Exception, match="another one than the run's"):
        run(["a"], [])


def test_a_process_that_stops_takes_no_further_range() -> None:
    work_module.workers.stop("interrupted")
    run(["a", "b"], [("a", RangeEnd.STOPPED), ("b", RangeEnd.STOPPED)])
    assert Asked.calls == []

"""Ranges that are split while they are worked on."""

from __future__ import annotations

import random
import threading
from collections import deque

import pytest

from bulkup.core.model import RunState
from bulkup.datastore.call_error import CallError
from bulkup.runs.ranges.unit import RangeEnd, RangeResult, RangeWorker, WorkingRange
from bulkup.state.lease import Lease
from tests.conftest import Server
from tests.engine.conftest import everything, fill
from tests.runs.ranges.conftest import InThread
from tests.runs.ranges.test_unit import Launch, Launched, launch

pytestmark = pytest.mark.sampled(5)

__all__ = ["launch"]


class Splitting:
    """Works on a range in a thread, and pauses it at an entity so that it can be split there."""

    def __init__(self, launched: Launched, worker: RangeWorker, at: int) -> None:
        self.working = WorkingRange()
        self._reached = threading.Event()
        self._at = at
        updater = launched_updater(worker)
        handle = updater.handle_entity

        def pausing(entity: object) -> None:
            if entity["i"] == self._at:  # type: ignore[index]
                self._reached.set()
                self._go_on.wait(60)
            handle(entity)

        self._go_on = threading.Event()
        updater.handle_entity = pausing

    def split(
        self, range_id: str, worker: RangeWorker, fraction: float
    ) -> tuple[RangeResult, str | None]:
        results: list[RangeResult] = []
        thread = threading.Thread(
            target=lambda: results.append(worker.work_on(range_id, self.working))
        )
        thread.start()
        assert self._reached.wait(60)
        answers: list[str | None] = []
        asking = threading.Thread(target=lambda: answers.append(self.working.try_split(fraction)))
        asking.start()
        while self.working.request is None:
            pass
        self._go_on.set()
        asking.join()
        thread.join()
        return results[0], answers[0]


def launched_updater(worker: RangeWorker):  # type: ignore[no-untyped-def]
    return worker._prepared.updater


@pytest.mark.parametrize("fraction", [0.0, 0.5])
def test_a_range_is_split_while_it_is_worked_on(
    server: Server, launch: Launch, fraction: float
) -> None:
    client = fill(server, "Thing", 200, n=0)
    launched = launch(server, ranges=1, batch_size=5)
    (only,) = launched.ids
    with launched.worker() as worker, launched.worker() as other:
        first, child = Splitting(launched, worker, 42).split(only, worker, fraction)
        assert child == f"{only}.1"
        assert launched.ids == [only, child]
        assert first.end is RangeEnd.FINISHED
        least, most = (42, 60) if not fraction else (60, 180)
        assert least <= first.counts.handled <= most
        second = other.work_on(child)
        assert first.counts.handled + second.counts.handled == 200
    report = launched.conclude()
    assert (report.state, report.counts.handled) == (RunState.FINISHED, 200)
    assert {e["n"] for e in everything(client, "Thing")} == {1}


def test_what_was_split_off_must_be_done_too(embedded: Server, launch: Launch) -> None:
    fill(embedded, "Thing", 100, n=0)
    launched = launch(embedded, ranges=1, batch_size=5)
    (only,) = launched.ids
    with launched.worker() as worker:
        _, child = Splitting(launched, worker, 42).split(only, worker, 0.0)
        assert child is not None
        assert launched.conclude().reason == "1 of 2 ranges are not finished"


def test_nothing_is_split_before_and_after_the_work(embedded: Server, launch: Launch) -> None:
    fill(embedded, "Thing", 20, n=0)
    launched = launch(embedded, ranges=1)
    working = WorkingRange()
    assert working.try_split(0.5) is None
    with launched.worker() as worker:
        worker.work_on(launched.ids[0], working)
    assert working.try_split(0.5) is None
    assert len(launched.ids) == 1


@pytest.mark.parametrize("applied", [True, False])
def test_a_split_whose_commit_fails_leaves_no_hole(
    embedded: Server, launch: Launch, monkeypatch: pytest.MonkeyPatch, applied: bool
) -> None:
    client = fill(embedded, "Thing", 100, n=0)
    launched = launch(embedded, ranges=1, batch_size=5)
    (only,) = launched.ids
    update = Lease.update

    def failing(lease: Lease, change, *, over=False, successor=None, extra_mutations=()):  # type: ignore[no-untyped-def]
        if extra_mutations and not over:
            if applied:
                update(lease, change, extra_mutations=extra_mutations)
            raise CallError.named("Commit", "UNAVAILABLE", "the cable is cut", 1)
        update(lease, change, over=over, successor=successor, extra_mutations=extra_mutations)

    with launched.worker() as worker:
        with monkeypatch.context() as patch:
            patch.setattr(Lease, "update", failing)
            result, child = Splitting(launched, worker, 42).split(only, worker, 0.0)
        assert (result.end, child) == (RangeEnd.STOPPED, None)
        assert len(launched.ids) == (2 if applied else 1)
        for range_id in launched.ids:
            assert worker.work_on(range_id).end is RangeEnd.FINISHED
    report = launched.conclude()
    assert (report.state, report.counts.handled) == (RunState.FINISHED, 100)
    assert {e["n"] for e in everything(client, "Thing")} == {1}


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(seed, marks=pytest.mark.chaos) for seed in range(2, 12))]
)
def test_splits_at_random_lose_nothing(embedded: Server, launch: Launch, seed: int) -> None:
    """Two workers take ranges from a queue, to which each split adds one."""
    rng = random.Random(seed)
    client = fill(embedded, "Thing", 300, n=0)
    launched = launch(embedded, ranges=2, batch_size=3, shards=rng.choice([1, 3]))
    queue, lock = deque(launched.ids), threading.Lock()
    at_work: set[WorkingRange] = set()
    over = threading.Event()

    def work() -> None:
        with launched.worker() as worker:
            while True:
                with lock:
                    if not queue:
                        return
                    range_id, working = queue.popleft(), WorkingRange()
                    at_work.add(working)
                assert worker.work_on(range_id, working).end is RangeEnd.FINISHED
                with lock:
                    at_work.discard(working)

    def split() -> None:
        while not over.is_set():
            with lock:
                working = rng.choice([*at_work]) if at_work else None
                # With the lock, so that no worker finds the queue empty meanwhile.
                child = (
                    working.try_split(rng.choice([0.0, 0.5, 0.9]), within_s=0.2)
                    if working
                    else None
                )
                if child is not None:
                    queue.append(child)
            over.wait(0.01)

    splitter = threading.Thread(target=split)
    splitter.start()
    workers = [InThread(work) for _ in range(2)]  # type: ignore[arg-type]
    for one in workers:
        one._thread.join()
    over.set()
    splitter.join()
    assert [one.error for one in workers] == [None, None]
    with launched.worker() as worker:
        assert [worker.work_on(id_).end for id_ in launched.ids if id_ in queue] == []
    report = launched.conclude()
    assert (report.state, report.counts.handled) == (RunState.FINISHED, 300), report.reason
    assert {e["n"] for e in everything(client, "Thing")} == {1}

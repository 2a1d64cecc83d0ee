"""What a runner says about how it is doing, and what of it is in the run's timeline.

Time passes on the run's clock, when a handler or a server says so.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.cloud.datastore import Entity

import bulkup
from bulkup import Updater
from bulkup.core.events import Event, Progress, RunStarted, Warned
from bulkup.core.vitals import Phase, Vitals
from bulkup.datastore.rpc import Rpc
from bulkup.engine import splits
from bulkup.engine.latencies import OVER_S, Latencies
from bulkup.engine.stopwatch import Doing, Stopwatch
from bulkup.engine.throttle.max_rate import MaxRate
from bulkup.state.timeline import TIMELINE_NAME, read_timeline
from tests.chaos.proxy import Action, Lose, Pass, Seen, proxy_to
from tests.conftest import Server
from tests.engine.conftest import Hours, Run, Start, fill

pytestmark = pytest.mark.client_side


class Now:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


# --- the parts ---


def test_a_stopwatch_gives_each_second_to_one_thing() -> None:
    now = Now()
    watch = Stopwatch(now)
    now.now += 1  # before the work
    assert watch.switch(Doing.HANDLING) is Doing.NOTHING
    now.now += 2
    before = watch.switch(Doing.COMMITTING)
    now.now += 4
    watch.switch(before)
    now.now += 8
    waits = watch.read()
    assert (waits.handling_s, waits.committing_s, waits.reading_s) == (10, 4, 0)
    now.now += 16
    assert watch.read().handling_s == 26


@pytest.mark.parametrize("scale_s", [0.0002, 0.013, 1.7, 70.0])
def test_latencies_are_told_to_an_eighth(scale_s: float) -> None:
    now = Now()
    latencies = Latencies(now)
    times = [scale_s * (1 + 4 * number / 999) for number in range(1000)]
    random.Random(7).shuffle(times)
    for seconds in times:
        latencies.answered(seconds)
    median_s, p99_s = latencies.read()
    assert median_s == pytest.approx(3 * scale_s, rel=0.13)
    assert p99_s == pytest.approx(4.96 * scale_s, rel=0.13)


def test_latencies_forget_what_was_long_ago() -> None:
    now = Now()
    latencies = Latencies(now)
    assert latencies.read() == (None, None)
    latencies.answered(10.0)
    now.now += OVER_S - 0.1
    latencies.answered(0.001)
    median_s, p99_s = latencies.read()
    assert median_s == pytest.approx(0.001, rel=0.13)
    assert p99_s == pytest.approx(10.0, rel=0.13)
    now.now += 6
    assert latencies.read()[1] == pytest.approx(0.001, rel=0.13)
    now.now += 100_000_000
    assert latencies.read() == (None, None)


def test_an_odd_latency_is_not_an_error() -> None:
    latencies = Latencies(Now())
    for seconds in (0.0, -1.0, 1e-9, 1e9):
        latencies.answered(seconds)
    assert latencies.read()[1] is not None


# --- a run ---


class Touch(Updater):
    def get_query(self) -> Any:
        return self.client.query(kind="Thing")

    def handle_entity(self, entity: Entity) -> None:
        entity["n"] = entity.get("n", 0) + 1
        self.put(entity)


def taking(hours: Hours, seconds: float) -> type[Updater]:
    class Taking(Touch):
        def handle_entity(self, entity: Entity) -> None:
            hours.passed += seconds
            super().handle_entity(entity)

    return Taking


class Told:
    """A listener that keeps the vitals."""

    def __init__(self, also: Callable[[Event], None] = lambda _: None) -> None:
        self.events: list[Event] = []
        self._also = also

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self._also(event)

    @property
    def progress(self) -> list[Progress]:
        return [event for event in self.events if isinstance(event, Progress)]

    @property
    def vitals(self) -> list[Vitals]:
        return [event.vitals for event in self.progress if event.vitals is not None]


def test_handlers_that_take_long_are_where_the_time_goes(
    embedded: Server, start_on: Start, hours: Hours
) -> None:
    fill(embedded, "Thing", 12)
    told = Told()
    start_on(embedded, taking(hours, 1.1), told, shards=1)
    assert len(told.vitals) == len(told.progress) > 10
    last = told.vitals[-1]
    assert last.phase is Phase.WORKING
    assert last.waits.handling_s == pytest.approx(12 * 1.1, abs=0.9)
    assert last.waits.committing_s < 2
    assert last.shards_done == 1
    assert (last.limit_per_s, last.limit_why) == (None, "")
    assert last.latency_median_s is not None
    during = told.vitals[5]
    assert [shard.id for shard in during.shards] == [1]
    assert during.batch_size > 0
    assert during.in_flight_limit > 0


def test_a_slow_commit_is_waited_for_and_shows_in_the_latency(
    embedded: Server, start_on: Start, hours: Hours, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(embedded, "Thing", 40)
    is_waiting = threading.Event()
    wait = Rpc.wait

    def waiting(rpc: Rpc, *seconds: float) -> None:
        is_waiting.set()
        wait(rpc, *seconds)

    monkeypatch.setattr(Rpc, "wait", waiting)
    with proxy_to(embedded.host) as proxy:

        def slow_commits(seen: Seen) -> Action:
            if seen.method == "Commit":
                is_waiting.clear()
                assert is_waiting.wait(60)
                hours.passed += 3.0
            return Pass()

        def begin(event: Event) -> None:
            if isinstance(event, RunStarted):
                proxy.faults = slow_commits

        told = Told(begin)
        start_on(
            replace(embedded, host=proxy.address), Touch, told, batch_size=10, in_flight=1, shards=1
        )
    last = told.vitals[-1]
    # During the first commits the run may be waiting for the next page.
    assert last.waits.committing_s >= 3
    assert last.waits.committing_s + last.waits.handling_s + last.waits.reading_s >= 9
    assert last.latency_median_s == pytest.approx(3.0, rel=0.15)
    assert max(vitals.in_flight for vitals in told.vitals) <= 1


def test_the_rate_limit_is_waited_for_and_named(
    embedded: Server, start_on: Start, hours: Hours
) -> None:
    fill(embedded, "Thing", 6)
    told = Told()
    start_on(embedded, Touch, told, max_rate=MaxRate(20.0), batch_size=2, shards=1)
    last = told.vitals[-1]
    assert (last.limit_per_s, last.limit_why) == (20.0, "--max-rate")
    assert last.waits.paced_s > 0.05


def test_retries_and_conflicts_are_counted_by_kind(
    embedded: Server, start_on: Start, hours: Hours
) -> None:
    client = fill(embedded, "Thing", 20)

    class Overtaken(Touch):
        def handle_entity(self, entity: Entity) -> None:
            if "other" not in entity and entity.key.id == 7:
                other = Entity(entity.key)
                other.update({**entity, "other": True})
                client.put(other)
            super().handle_entity(entity)

    with proxy_to(embedded.host) as proxy:
        lost = {"Commit": grpc.StatusCode.UNAVAILABLE, "RunQuery": grpc.StatusCode.ABORTED}

        def lose_first(seen: Seen) -> Action:
            code = lost.pop(seen.method, None)
            return Pass() if code is None else Lose(code)

        def begin(event: Event) -> None:
            if isinstance(event, RunStarted):
                proxy.faults = lose_first

        told = Told(begin)
        start_on(replace(embedded, host=proxy.address), Overtaken, told, shards=1)
    last = told.vitals[-1]
    assert last.retries_by == {"Commit: UNAVAILABLE": 1, "RunQuery: ABORTED": 1}
    assert last.conflicts == 1
    waiting = [vitals for vitals in told.vitals if vitals.phase is Phase.WAITING]
    assert "Commit: UNAVAILABLE, try 1 failed" in " ".join(vitals.why for vitals in waiting)


def test_each_shard_says_how_far_it_is(
    embedded: Server, start_on: Start, hours: Hours, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splits, "MIN_PROBED_ENTITIES", 1)
    fill(embedded, "Thing", 300)
    told = Told()
    start_on(embedded, taking(hours, 0.11), told, shards=3, batch_size=10)
    assert (
        3 <= max(len(vitals.shards) for vitals in told.vitals) <= 6
    )  # some have commits in flight
    shares = [shard.share for vitals in told.vitals for shard in vitals.shards]
    known = [share for share in shares if share is not None]
    assert known
    assert all(0 <= share <= 1 for share in known)
    assert told.vitals[-1].shards_done >= 3
    middle = told.vitals[len(told.vitals) // 2]
    assert sum(shard.handled for shard in middle.shards) <= 300
    assert [shard.id for shard in middle.shards] == sorted(shard.id for shard in middle.shards)


def test_async_handlers_are_waited_for(embedded: Server, run: Run) -> None:
    class Napping(Updater):
        concurrency = 4

        def get_query(self) -> Any:
            return self.client.query(kind="Thing")

        async def handle_entity(self, entity: Entity) -> None:
            await asyncio.sleep(0.02)
            self.put(entity)

    fill(embedded, "Thing", 40)
    told = Told()
    run(embedded, Napping, listener=told)
    waits = told.vitals[-1].waits
    assert waits.handling_s > 0.1
    assert waits.handling_s > waits.reading_s + waits.committing_s


@bulkup.updater(kind="Thing")
def napping(entity: Entity) -> Entity:
    time.sleep(0.02)
    entity["n"] = 1
    return entity


def test_handlers_in_worker_processes_are_waited_for(embedded: Server, run: Run) -> None:
    fill(embedded, "Thing", 40)
    told = Told()
    run(embedded, napping, processes=2, listener=told)
    last = told.vitals[-1]
    assert last.waits.handling_s > 0.2
    assert last.latency_median_s is not None
    assert last.shards_done == 1


# --- the timeline of a run ---


def folder_of(state_dir: Path) -> Path:
    (folder,) = (path.parent for path in state_dir.glob("*/checkpoint.sqlite"))
    return folder


def test_each_runner_continues_the_timeline_of_its_run(
    embedded: Server, start_on: Start, hours: Hours, tmp_path: Path
) -> None:
    fill(embedded, "Thing", 9)
    updater = taking(hours, 1.1)
    start_on(embedded, updater, lambda event: None, limit=4, shards=1)
    first = read_timeline(folder_of(tmp_path / "state"))
    start_on(embedded, updater, lambda event: None, shards=1)
    samples = read_timeline(folder_of(tmp_path / "state"))
    assert samples[: len(first)] == first
    assert {sample.runner for sample in first} == {1}
    assert {sample.runner for sample in samples[len(first) :]} == {2}
    assert (first[-1].counts.handled, samples[-1].counts.handled) == (4, 9)
    assert samples[-1].total == 9
    assert samples[-1].waits.handling_s > 3


def test_a_dry_run_leaves_no_timeline(embedded: Server, run: Run, tmp_path: Path) -> None:
    fill(embedded, "Thing", 3)
    told = Told()
    run(embedded, Touch, dry_run=True, listener=told)
    assert not list(tmp_path.glob(f"**/{TIMELINE_NAME}"))
    assert told.vitals


def test_a_timeline_that_cannot_be_written_is_one_warning(
    embedded: Server, start_on: Start, hours: Hours, tmp_path: Path
) -> None:
    fill(embedded, "Thing", 5)

    def obstruct(event: Event) -> None:
        if isinstance(event, RunStarted):
            (folder_of(tmp_path / "state") / TIMELINE_NAME).mkdir()

    told = Told(obstruct)
    report = start_on(embedded, taking(hours, 1.1), told)
    assert report.success
    warned = [event.message for event in told.events if isinstance(event, Warned)]
    assert sum("its timeline ends here" in message for message in warned) == 1

"""Handlers that take seconds, and a server that does not answer: what is shown, and lost by a kill.

Time passes on the run's clock, when a handler or a server says so; no test waits for it.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from google.cloud.datastore import Entity

import bulkup
from bulkup import Updater
from bulkup.core.clock import Clock
from bulkup.core.errors import Exit
from bulkup.core.events import Event, Progress, RunStarted, Warned, WarningKind
from bulkup.core.model import Counts
from bulkup.engine.progress import ProgressTracker
from bulkup.report.progress_text import progress_line
from tests.chaos.proxy import Action, Pass, Seen, proxy_to
from tests.conftest import Server
from tests.engine.conftest import Hours, Run, Start, everything, fill

pytestmark = pytest.mark.client_side


def slow(hours: Hours, seconds: Callable[[int], float]) -> type[Updater]:
    """An updater that takes so long for its nth entity."""

    class Slow(Updater):
        calls = 0

        def get_query(self) -> Any:
            return self.client.query(kind="Thing")

        def handle_entity(self, entity: Entity) -> None:
            self.calls += 1
            hours.passed += seconds(self.calls)
            entity["n"] = 1
            self.put(entity)

    return Slow


def named(events: list[Event]) -> list[str]:
    return [
        event.message
        for event in events
        if isinstance(event, Warned) and event.kind is WarningKind.SLOW_HANDLER
    ]


def test_a_batch_holds_seconds_of_handling_not_minutes(
    embedded: Server, start_on: Start, hours: Hours, tmp_path: Path
) -> None:
    client = fill(embedded, "Thing", 30)
    report = start_on(embedded, slow(hours, lambda n: 0.5), lambda event: None)
    assert (report.exit_code, report.counts.written) == (Exit.DONE, 30)
    assert all(entity["n"] == 1 for entity in everything(client, "Thing"))
    (path,) = (tmp_path / "state").glob("**/checkpoint.sqlite")
    with closing(sqlite3.connect(path)) as db:
        sizes = [handled for (handled,) in db.execute("SELECT handled FROM batches")]
    assert max(sizes) <= 5
    assert sum(sizes) == 30


def test_progress_counts_entities_as_they_are_handled_and_what_is_written_apart(
    embedded: Server, start_on: Start, hours: Hours
) -> None:
    fill(embedded, "Thing", 12)
    events: list[Event] = []
    start_on(embedded, slow(hours, lambda n: 1.1), events.append)
    shown = [event for event in events if isinstance(event, Progress)]
    assert {event.handled for event in shown} >= set(range(1, 13))
    assert all(event.counts.written <= event.handled for event in shown)
    ahead = next(event for event in shown if event.counts.written < event.handled)
    assert progress_line(ahead, dry_run=False).startswith(f"{ahead.handled} of 12")


def test_a_resumed_run_counts_what_was_handled_before(
    embedded: Server, start_on: Start, hours: Hours
) -> None:
    fill(embedded, "Thing", 9)
    updater = slow(hours, lambda n: 1.1)
    start_on(embedded, updater, lambda event: None, limit=4)
    events: list[Event] = []
    start_on(embedded, updater, events.append)
    shown = [event.handled for event in events if isinstance(event, Progress)]
    assert shown == sorted(shown)
    assert (shown[-1], set(shown) >= {5, 6, 7, 8, 9}) == (9, True)


@pytest.mark.parametrize("dry_run", [False, True], ids=["run", "dry run"])
def test_a_slow_handler_is_named_once_with_what_helps(
    embedded: Server, start_on: Start, hours: Hours, dry_run: bool
) -> None:
    fill(embedded, "Thing", 9)
    events: list[Event] = []
    start_on(embedded, slow(hours, lambda n: 1.5), events.append, dry_run=dry_run)
    (message,) = named(events)
    assert message.startswith("the updater takes 1.5 s for an entity: ")
    assert "--processes 8" in message


def test_a_slow_async_handler_is_named_with_what_helps(
    embedded: Server, start_on: Start, hours: Hours
) -> None:
    class SlowAsync(Updater):
        concurrency = 1

        def get_query(self) -> Any:
            return self.client.query(kind="Thing")

        async def handle_entity(self, entity: Entity) -> None:
            hours.passed += 5.0
            self.put(entity)

    fill(embedded, "Thing", 6)
    events: list[Event] = []
    start_on(embedded, SlowAsync, events.append)
    (message,) = named(events)
    assert "s for an entity: concurrency = 2 handles twice as many at a time" in message


@pytest.mark.parametrize("calls", [(), (1,), (3, 6, 9)])
def test_a_handler_that_is_slow_now_and_then_is_not_named(
    embedded: Server, start_on: Start, hours: Hours, calls: tuple[int, ...]
) -> None:
    fill(embedded, "Thing", 9)
    events: list[Event] = []
    start_on(embedded, slow(hours, lambda n: 3.0 if n in calls else 0.001), events.append)
    assert not named(events)


@bulkup.updater(kind="Thing")
def sleeps(entity: Entity) -> Entity:
    time.sleep(1.01)
    entity["n"] = 1
    return entity


@pytest.mark.slow
def test_a_slow_handler_in_worker_processes_is_named_and_commits_as_it_goes(
    embedded: Server, run: Run, tmp_path: Path
) -> None:
    fill(embedded, "Thing", 12)
    events: list[Event] = []
    report = run(embedded, sleeps, processes=2, listener=events.append)
    assert (report.exit_code, report.counts.written) == (Exit.DONE, 12)
    (message,) = named(events)
    assert "--processes 4" in message
    (path,) = (tmp_path / "state").glob("**/checkpoint.sqlite")
    with closing(sqlite3.connect(path)) as db:
        assert max(handled for (handled,) in db.execute("SELECT handled FROM batches")) <= 6


def test_a_server_that_does_not_answer_is_named(
    embedded: Server, start_on: Start, hours: Hours
) -> None:
    fill(embedded, "Thing", 5)
    was_named = threading.Event()
    shown: list[str] = []
    with proxy_to(embedded.host) as proxy:

        def stall(seen: Seen) -> Action:
            if seen.method == "RunQuery" and not was_named.is_set():
                hours.passed += 7.0
                was_named.wait(60)
            return Pass()

        def listen(event: Event) -> None:
            if isinstance(event, RunStarted):
                proxy.faults = stall
            if isinstance(event, Progress) and event.waiting:
                shown.append(progress_line(event, dry_run=False))
                was_named.set()

        there = replace(embedded, host=proxy.address)
        report = start_on(there, slow(hours, lambda n: 0.0), listen)
        assert report.exit_code is Exit.DONE
    assert f"; waiting for {proxy.address}, " in shown[0]


def test_a_server_that_falls_silent_before_the_run_begins_is_named_once(
    embedded: Server, start_on: Start, hours: Hours
) -> None:
    fill(embedded, "Thing", 5)
    was_named = threading.Event()
    queries: list[str] = []
    events: list[Event] = []
    with proxy_to(embedded.host) as proxy:

        def stall(seen: Seen) -> Action:
            queries.append(seen.method)
            if queries.count("RunQuery") > 1 and not was_named.is_set():
                hours.passed += 7.0
                was_named.wait(60)
            return Pass()

        def listen(event: Event) -> None:
            events.append(event)
            if isinstance(event, Warned) and event.kind is WarningKind.WAITING:
                was_named.set()

        proxy.faults = stall
        there = replace(embedded, host=proxy.address)
        report = start_on(there, slow(hours, lambda n: 0.0), listen)
        assert report.exit_code is Exit.DONE
    assert was_named.is_set()
    before = events[: next(n for n, e in enumerate(events) if isinstance(e, RunStarted))]
    (warned,) = [event for event in before if isinstance(event, Warned)]
    assert f"waiting for {proxy.address}, which has not answered for " in warned.message


def test_only_after_five_seconds() -> None:
    now = 0.0
    silent = [0.0]
    events: list[Any] = []
    tracker = ProgressTracker(
        events.append,
        Clock(monotonic=lambda: now),
        Counts(),
        unanswered=lambda: ("localhost:8081", silent[0]),
    )
    for silent[0] in (0.0, 4.9, 5.0, 7.2, 0.0):
        now += 1.0
        tracker.tick()
    assert [event.waiting for event in events] == [
        None, None, "waiting for localhost:8081, 5 s", "waiting for localhost:8081, 7 s", None,
    ]  # fmt: skip

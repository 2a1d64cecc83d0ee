"""`bulkup verify` beside live writers: no false finding, and none is missed."""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from google.cloud import datastore
from google.cloud.datastore import Entity

import bulkup
from bulkup import Updater
from bulkup.core.errors import Exit
from bulkup.core.events import Event, Found, RunStarted
from bulkup.engine import suspects
from tests.conftest import Server
from tests.engine.conftest import fill
from tests.runs.conftest import Verify, double, keys_of, named

pytestmark = pytest.mark.sampled(5)


@contextmanager
def working(job: Callable[[threading.Event], None]) -> Iterator[None]:
    """A thread that works until the block ends; what it raises is raised here."""
    over, raised = threading.Event(), []

    def work() -> None:
        try:
            job(over)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if raised:
        raise raised[0]


def put_new(client: datastore.Client, *ids: int) -> None:
    """Create entities that are not done."""
    for i in ids:
        entity = Entity(client.key("Thing", i))
        entity.update(i=i, twice=0)
        client.put(entity)


def test_while_others_write_there_is_no_false_finding_and_none_of_20_is_missed(
    server: Server, check: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspects, "RECHECK_S", 0.5)
    undone, planted, flicker = range(1, 61), range(1, 21), range(21, 61)
    client = fill(server, "Thing", 200, twice=lambda i: 0 if i in undone else 2 * i)
    live = server.client()
    half_done: queue.Queue[tuple[int, threading.Event]] = queue.Queue()
    born = [1_000, 1_001, 1_002] if server.name != "LF" else []
    restored: set[int] = set()

    class Double(Updater):
        """Meets entities that a user is just changing: what it has read is half done, and is
        completed before it is read again."""

        def get_query(self) -> Any:
            return self.client.query(kind="Thing")

        def handle_entity(self, entity: Entity) -> None:
            i = entity["i"]
            if i in flicker and i not in restored:
                assert entity["twice"] == 0
                completed = threading.Event()
                half_done.put((i, completed))
                assert completed.wait(60)
            entity["twice"] = 2 * i
            self.put(entity)

    def change(i: int, **properties: Any) -> None:
        with live.transaction():
            entity = live.get(live.key("Thing", i))
            entity.update(properties)
            live.put(entity)

    def write_all_the_time(over: threading.Event) -> None:
        """Users edit everything, also what was planted and stays undone, and create more."""
        chance = random.Random(1)
        while not over.is_set():
            change(chance.randint(1, 200), note=chance.random())
            while not half_done.empty():
                i, completed = half_done.get()
                change(i, twice=2 * i)
                restored.add(i)
                completed.set()
            if restored:
                put_new(live, *born[1:])

    found: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Found) and not event.young:
            found.append(event.failure.key)

    with working(write_all_the_time):
        report = check(server, Double, listener=listen, shards=3)
    assert restored == set(flicker)
    assert set(found) == named(*planted)
    assert len(found) == report.counts.failed == 20
    assert report.counts.add_up
    assert report.verification is not None
    assert report.verification.done_since == len(flicker)
    assert report.verification.tells_births == (server.name != "LF")
    assert report.verification.young <= len(born)
    assert client.get(client.key("Thing", 1))["twice"] == 0


@pytest.mark.parametrize("name", ["embedded", "fs"])
def test_what_is_created_meanwhile_is_listed_apart(
    request: pytest.FixtureRequest, name: str, check: Verify
) -> None:
    server: Server = request.getfixturevalue(name)
    fill(server, "Thing", 3, twice=lambda i: 2 * i if i > 1 else 0)
    live = server.client()
    made = []

    class Double(Updater):
        def get_query(self) -> Any:
            query = self.client.query(kind="Thing")
            query.order = ["i"]
            return query

        def handle_entity(self, entity: Entity) -> None:
            entity["twice"] = 2 * entity["i"]
            self.put(entity)

    def create(event: Event) -> None:
        if not made and isinstance(event, RunStarted):
            made.extend(range(100, 107))
            with working(lambda _: put_new(live, *made)):
                pass

    report = check(server, Double, listener=create)
    assert keys_of(report) == named(1)
    assert report.exit_code is Exit.PENDING
    verification = report.verification
    assert verification is not None
    assert verification.young == 7
    assert len(verification.young_keys) == 5
    assert set(verification.young_keys) <= named(*made)


def test_young_ones_alone_are_clean(embedded: Server, check: Verify) -> None:
    fill(embedded, "Thing", 1, twice=2)
    live = embedded.client()

    def create(event: Event) -> None:
        if isinstance(event, RunStarted):
            with working(lambda _: put_new(live, 9)):
                pass

    report = check(embedded, double, listener=create)
    assert report.exit_code is Exit.DONE
    assert report.verification is not None
    assert report.verification.young_keys == ("Key('Thing', 9)",)


def test_what_leaves_the_query_while_it_is_read_again_is_not_a_finding(
    server: Server, check: Verify
) -> None:
    fill(server, "Thing", 4, old=True)
    live = server.client()
    handled: queue.Queue[tuple[int, threading.Event]] = queue.Queue()
    seen: set[int] = set()

    @bulkup.updater(kind="Thing", filters=[("old", "=", True)])
    def renew(entity: Entity) -> Entity:
        if entity["i"] not in seen:
            seen.add(entity["i"])
            changed = threading.Event()
            handled.put((entity["i"], changed))
            assert changed.wait(60)
        entity["old"] = False
        return entity

    def write(over: threading.Event) -> None:
        for _ in range(4):
            i, changed = handled.get(timeout=60)
            entity = live.get(live.key("Thing", i))
            if i == 1:
                live.delete(entity.key)
            else:
                entity.update({"note": 1} if i == 4 else {"old": False})
                live.put(entity)
            changed.set()

    with working(write):
        report = check(server, renew)
    assert keys_of(report) == named(4)
    assert (report.counts.handled, report.counts.vanished, report.counts.failed) == (4, 3, 1)
    assert report.verification is not None
    assert report.verification.filtered


def test_what_others_keep_changing_is_named_after_all(
    embedded: Server, check: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(embedded, "Thing", 1, n=0)
    live = embedded.client()
    handled: queue.Queue[int] = queue.Queue()
    looks = []

    @bulkup.updater(kind="Thing")
    def renew(entity: Entity) -> Entity:
        looks.append(entity["n"])
        answered = threading.Event()
        handled.put(answered)  # type: ignore[arg-type]
        assert answered.wait(60)
        entity["done"] = True
        return entity

    def write(over: threading.Event) -> None:
        while not over.is_set():
            try:
                answered: Any = handled.get(timeout=0.05)
            except queue.Empty:
                continue
            entity = live.get(live.key("Thing", 1))
            entity["n"] += 1
            live.put(entity)
            answered.set()

    with working(write):
        report = check(embedded, renew)
    assert keys_of(report) == named(1)
    assert looks == list(range(suspects.MAX_LOOKS))


@pytest.mark.parametrize(
    ("value", "unsteady"), [(time.time_ns, 3), (random.random, 3), (lambda: 5, 0)]
)
def test_results_that_differ_each_time_are_said(
    embedded: Server, check: Verify, value: Callable[[], Any], unsteady: int
) -> None:
    many = {f"p{number}": number for number in range(20)}
    fill(embedded, "Thing", 3, **many)

    @bulkup.updater(kind="Thing")
    def stamp(entity: Entity) -> Entity:
        entity["at"] = value()
        for name in "abcdefgh":  # whose order in a message is another one each time
            entity[name] = name
        return entity

    report = check(embedded, stamp)
    assert report.counts.failed == 3
    assert report.verification is not None
    assert report.verification.unsteady == unsteady

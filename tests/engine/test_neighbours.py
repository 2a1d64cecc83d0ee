"""Handlers that read and write other entities: each read guards the write of the same key."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from google.api_core.retry import Retry
from google.cloud import datastore
from google.cloud.datastore import Entity, Key
from google.cloud.datastore.query import PropertyFilter

import bulkup
from bulkup import Updater
from bulkup.core.events import Event, Report, WouldChange
from bulkup.engine import splits
from bulkup.testing import handle, offline_client
from tests.conftest import Server
from tests.engine.conftest import Run, everything, fill

pytestmark = pytest.mark.sampled(5)


class Count(Updater):
    """Counts the things of each group, in counters that it makes when they are missing."""

    def get_query(self) -> Any:
        return self.client.query(kind="Thing")

    def handle_entity(self, entity: Entity) -> None:
        key = self.client.key("Counter", f"g{entity['g']}")
        counter = self.read(key)
        if counter is None:
            counter = Entity(key)
            counter["n"] = 0
        counter["n"] += 1
        self.put(counter)

    def read(self, key: Key) -> Entity | None:
        found: Entity | None = self.client.get(key)
        return found


def of_each_group(client: datastore.Client) -> dict[str, int]:
    return {counter.key.name: counter["n"] for counter in everything(client, "Counter")}


@pytest.mark.one_in(2)
@pytest.mark.parametrize(
    ("batch_size", "shards"), [(7, 1), (500, 3)], ids=["batches of 7", "3 shards"]
)
def test_counters_of_neighbours_count_each_entity_once(
    server: Server, run: Run, monkeypatch: pytest.MonkeyPatch, batch_size: int, shards: int
) -> None:
    monkeypatch.setattr(splits, "MIN_PROBED_ENTITIES", 1)
    client = fill(server, "Thing", 30, g=lambda i: i * i % 7)
    report = run(server, Count, batch_size=batch_size, shards=shards)
    assert of_each_group(client) == Counter(f"g{i * i % 7}" for i in range(1, 31))
    assert (report.counts.handled, report.counts.puts, report.counts.failed) == (30, 30, 0)


def test_a_counter_of_all_is_read_once_for_each_entity(embedded: Server, run: Run) -> None:
    """Only the first of many handlers that read what the last one wrote is called twice."""
    client = fill(embedded, "Thing", 20, g=1)
    calls = []

    class Calls(Count):
        def read(self, key: Key) -> Entity | None:
            calls.append(key)
            return super().read(key)

    assert run(embedded, Calls).success
    assert of_each_group(client) == {"g1": 20}
    assert len(calls) == 21


def test_a_handler_with_transactions_of_its_own_is_called_once(server: Server, run: Run) -> None:
    """Else they would be applied twice, though nobody else writes."""

    class Transacts(Count):
        def handle_entity(self, entity: Entity) -> None:
            key = self.client.key("Counter", "g1")
            seen = len(list(self.client.query(kind="Thing").fetch()))  # what others put, too
            with self.client.transaction():
                counter = self.client.get(key) or Entity(key)
                counter["n"] = counter.get("n", 0) + 1
                self.client.put(counter)
            entity["seen"] = seen
            self.put(entity)

    client = fill(server, "Thing", 6)
    assert run(server, Transacts).success
    assert of_each_group(client) == {"g1": 6}


# --- each way to read ---


def with_timeout(client: datastore.Client, key: Key) -> Entity | None:
    return client.get(key, timeout=20, retry=Retry())


def with_missing(client: datastore.Client, key: Key) -> Entity | None:
    missing: list[Entity] = []
    found = client.get_multi([key], missing=missing)
    assert len(found) + len(missing) == 1
    return found[0] if found else None


def with_deferred(client: datastore.Client, key: Key) -> Entity | None:
    return client.get(key, deferred=[])


def in_a_transaction(client: datastore.Client, key: Key) -> Entity | None:
    with client.transaction():
        return client.get(key)


def by_query(client: datastore.Client, key: Key) -> Entity | None:
    query = client.query(kind=key.kind)
    query.add_filter(filter=PropertyFilter("__key__", "=", key))
    return next(iter(query.fetch()), None)


def by_query_in_a_transaction(client: datastore.Client, key: Key) -> Entity | None:
    with client.transaction():
        return by_query(client, key)


def by_kindless_query(client: datastore.Client, key: Key) -> Entity | None:
    query = datastore.Query(client)
    query.add_filter(filter=PropertyFilter("__key__", "=", key))
    return next(iter(query.fetch(limit=1)), None)


def by_two_queries(client: datastore.Client, key: Key) -> Entity | None:
    query = client.query(kind=key.kind)
    query.keys_only()
    found = [client.get(hit.key) for hit in query.fetch() if hit.key == key]
    return found[0] if found else None


def on_a_thread(client: datastore.Client, key: Key) -> Entity | None:
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(client.get, key).result()


WAYS = [
    with_timeout, with_missing, with_deferred, in_a_transaction,
    by_query, by_query_in_a_transaction, by_kindless_query,
    by_two_queries, on_a_thread,
]  # fmt: skip

WAY = {way.__name__: way for way in WAYS}
GETS = {name: way for name, way in WAY.items() if "quer" not in name}


def test_what_earlier_handlers_write_is_seen_in_every_way_to_read(server: Server, run: Run) -> None:
    class Reads(Count):
        def read(self, key: Key) -> Entity | None:
            return WAY[key.name[1:]](self.client, key)

    client = fill(server, "Thing", 2 * len(WAY), g=lambda i: list(WAY)[i % len(WAY)])
    report = run(server, Reads)
    assert (report.reason, report.counts.puts, report.counts.conflicts) == ("", 2 * len(WAY), 0)
    assert of_each_group(client) == {f"g{name}": 2 for name in WAY}


class Raced(Updater):
    """A live user writes a neighbour just after the handler has read it, once."""

    ways = WAY
    deletes = False
    raced: set[str]

    def get_query(self) -> Any:
        self.raced = set()
        return self.client.query(kind="Thing")

    def handle_entity(self, entity: Entity) -> None:
        name = entity["way"]
        key = self.client.key("Counter", name)
        found = self.ways[name](self.client, key)
        if name not in self.raced:
            self.raced.add(name)
            live = datastore.Client(project=self.client.project)
            theirs = live.get(key) or Entity(key)
            theirs["live"] = True
            live.put(theirs)
        self.write(key, found)

    def write(self, key: Key, found: Entity | None) -> None:
        if found is None:
            found = Entity(key)
        found["n"] = found.get("n", 0) + 1
        self.put(found)


class RacedDelete(Raced):
    """Deletes what it has read, unless a live user was there."""

    def write(self, key: Key, found: Entity | None) -> None:
        if found is None or "live" not in found:
            self.delete(key)


@pytest.mark.one_in(2)
@pytest.mark.parametrize(("updater", "n"), [(Raced, 2), (RacedDelete, 1)])
def test_a_live_write_after_any_read_is_kept(
    server: Server, run: Run, updater: type[Raced], n: int
) -> None:
    client = fill(server, "Thing", len(WAY), way=lambda i: list(WAY)[i - 1])
    for name in WAY:
        counter = Entity(client.key("Counter", name))
        counter["n"] = 1
        client.put(counter)
    report = run(server, updater)
    assert report.reason == ""
    after = {counter.key.name: dict(counter) for counter in everything(client, "Counter")}
    assert after == {name: {"n": n, "live": True} for name in WAY}


@pytest.mark.parametrize(("updater", "conflicts"), [(Raced, len(GETS)), (RacedDelete, 0)])
def test_what_a_live_user_makes_after_a_read_that_found_nothing_is_kept(
    server: Server, run: Run, updater: type[Raced], conflicts: int
) -> None:
    client = fill(server, "Thing", len(GETS), way=lambda i: list(GETS)[i - 1])
    report = run(server, updater)
    assert (report.reason, report.counts.conflicts) == ("", conflicts)
    after = {counter.key.name: dict(counter) for counter in everything(client, "Counter")}
    written = {"n": 1} if conflicts else {}
    assert after == {name: {**written, "live": True} for name in GETS}


# --- one call ---


def test_a_handler_reads_what_it_has_put_and_deleted_itself(server: Server, run: Run) -> None:
    class Tags(Updater):
        """Counts tags, some of them twice in one call."""

        def get_query(self) -> Any:
            return self.client.query(kind="Thing")

        def handle_entity(self, entity: Entity) -> None:
            for tag in entity["tags"]:
                key = self.client.key("Tag", tag)
                counter = self.client.get(key)
                if counter is None:
                    counter = Entity(key)
                    counter["n"] = 0
                counter["n"] += 1
                self.put(counter)
            self.put(self.client.get(self.client.key("Tag", "a")))  # unchanged since the last put
            gone = self.client.key("Gone", entity["i"])
            self.put(Entity(gone))
            self.delete(gone)
            missing: list[Entity] = []
            tag_b, other = self.client.key("Tag", "b"), self.client.key("Thing", 1)
            found = self.client.get_multi([other, gone, tag_b], missing=missing, timeout=20)
            assert [e.key for e in found] == [other, tag_b]
            assert [e.key for e in missing] == [gone]

    client = fill(server, "Thing", 4, tags=lambda i: ["a", "b", "a"])
    report = run(server, Tags)
    assert (report.counts.handled, report.counts.failed) == (4, 0)
    assert [tag["n"] for tag in everything(client, "Tag")] == [8, 4]
    assert everything(client, "Gone") == []


def test_what_a_failed_call_has_read_is_forgotten(server: Server, run: Run) -> None:
    """A guard of the first call would refuse the blind put of the second."""
    client = fill(server, "Thing", 2)
    key = client.key("Note", 1)

    class Fails(Updater):
        max_failures = -1

        def get_query(self) -> Any:
            return self.client.query(kind="Thing")

        def handle_entity(self, entity: Entity) -> None:
            if entity["i"] == 1:
                assert self.client.get(key) is None
                client.put(Entity(key))  # somebody else
                raise ValueError("no")
            note = Entity(key)
            note["blind"] = True
            self.put(note)

    report = run(server, Fails)
    assert (report.counts.failed, report.counts.puts, report.counts.conflicts) == (1, 1, 0)
    assert client.get(key)["blind"]


def test_an_entity_of_the_past_guards_nothing(fs: Server, run: Run) -> None:
    client = fill(fs, "Thing", 1)
    key = client.key("Note", 1)
    note = Entity(key)
    note["text"] = "first"
    client.put(note)
    read_time = client._datastore_api.lookup(
        request={"project_id": client.project, "keys": [key.to_protobuf()]}
    ).read_time
    note["text"] = "second"
    client.put(note)

    class Restore(Updater):
        def get_query(self) -> Any:
            return self.client.query(kind="Thing")

        def handle_entity(self, entity: Entity) -> None:
            old = self.client.get(key, read_time=read_time)
            past = self.client.transaction(read_only=True, read_time=read_time)
            past.begin()
            assert self.client.get(key, transaction=past) == old
            past.rollback()
            self.put(old)

    report = run(fs, Restore)
    assert (report.reason, report.counts.conflicts) == ("", 0)
    assert client.get(key)["text"] == "first"


# --- other runners ---


def test_two_runs_at_once_count_into_the_same_counters(server: Server, run: Run) -> None:
    client = fill(server, "Thing", 15, g=lambda i: i % 2)
    fill(server, "Other", 15, g=lambda i: i % 2)
    reports: list[Report] = []

    class CountOthers(Count):
        def get_query(self) -> Any:
            return self.client.query(kind="Other")

    other = threading.Thread(target=lambda: reports.append(run(server, CountOthers, batch_size=4)))
    other.start()
    reports.append(run(server, Count, batch_size=4))
    other.join()
    assert [report.success for report in reports] == [True, True]
    assert of_each_group(client) == {"g0": 14, "g1": 16}


# --- functions ---


@bulkup.updater(kind="Thing")
def count_in_counters(entity: Entity) -> Any:
    client = bulkup.client()
    key = client.key("Counter", f"g{entity['g']}")
    counter = client.get(key)
    if counter is None:
        counter = Entity(key)
        counter["n"] = 0
    counter["n"] += 1
    yield counter


def test_a_function_reads_with_a_client_whose_reads_guard(embedded: Server, run: Run) -> None:
    client = fill(embedded, "Thing", 9, g=lambda i: i % 2)
    dry = run(embedded, count_in_counters, dry_run=True)
    assert of_each_group(client) == {}
    report = run(embedded, count_in_counters)
    assert of_each_group(client) == {"g0": 4, "g1": 5}
    assert (report.reason, report.counts) == ("", dry.counts)


def test_a_function_cannot_write_through_its_client_in_a_dry_run(
    embedded: Server, run: Run
) -> None:
    @bulkup.updater(kind="Thing")
    def writes(entity: Entity) -> None:
        bulkup.client().put(Entity(bulkup.client().key("Note", 1)))

    client = fill(embedded, "Thing", 1)
    assert "dry run" in run(embedded, writes, dry_run=True).reason
    assert everything(client, "Note") == []


def test_there_is_a_client_only_while_a_handler_runs() -> None:
    @bulkup.updater(kind="Thing")
    def keeps(entity: Entity) -> Entity:
        entity["project"] = bulkup.client().project
        with ThreadPoolExecutor(1) as threads, pytest.raises(RuntimeError, match="own thread"):
            threads.submit(bulkup.client).result()
        return entity

    with pytest.raises(RuntimeError, match="while bulkup runs a handler"):
        bulkup.client()
    (put,) = handle(keeps, Entity(Key("Thing", 1, project="p"))).puts
    assert put["project"] == offline_client().project
    with pytest.raises(RuntimeError, match="while bulkup runs a handler"):
        bulkup.client()


class Busy(Count):
    """Somebody else counts, too, whenever the handler has read."""

    kept: Entity | None = None
    times = 12

    def read(self, key: Key) -> Entity | None:
        counter = self.kept or self.client.get(key)
        if self.times:
            self.times -= 1
            live = datastore.Client(project=self.client.project)
            theirs = live.get(key)
            theirs["n"] += 100
            live.put(theirs)
        return counter


class BusyAndOld(Busy):
    """Puts what it has read before, so calling it again changes nothing."""

    def get_query(self) -> Any:
        self.kept = self.client.get(self.client.key("Counter", "g1"))
        return super().get_query()


@pytest.mark.parametrize(
    ("updater", "n", "conflicts", "reason"),
    [(Busy, 1201, 12, ""), (BusyAndOld, 900, 0, "contended")],
)
def test_a_busy_counter_is_tried_longer_unless_the_handler_does_not_read_it_again(
    embedded: Server, run: Run, updater: type[Busy], n: int, conflicts: int, reason: str
) -> None:
    client = fill(embedded, "Thing", 1, g=1)
    counter = Entity(client.key("Counter", "g1"))
    counter["n"] = 0
    client.put(counter)
    report = run(embedded, updater)
    assert reason in report.reason
    assert report.success == (not reason)
    assert client.get(counter.key)["n"] == n
    if not reason:
        assert report.counts.conflicts == conflicts


# --- dry runs ---


class Once(Updater):
    """Makes what is missing, and deletes duplicates before they are handled."""

    def get_query(self) -> Any:
        return self.client.query(kind="Thing")

    def handle_entity(self, entity: Entity) -> None:
        group = self.client.key("Group", f"g{entity['g']}")
        if self.client.get(group) is None:
            made = Entity(group)
            made["first"] = entity["i"]
            self.put(made)
        self.delete(self.client.key("Thing", entity["i"] + 20))
        gone = self.client.key("Thing", 21)
        if entity["i"] == 2:
            assert self.client.get(gone) is None
            self.delete(gone)


def test_a_dry_run_reads_what_it_would_have_written(server: Server, run: Run) -> None:
    client = fill(server, "Thing", 30, g=lambda i: i % 3)
    events: list[Event] = []
    dry = run(server, Once, dry_run=True, listener=events.append)
    assert everything(client, "Group") == []
    real = run(server, Once)
    assert dry.counts == real.counts
    assert (real.counts.puts, real.counts.vanished) == (3, 10)
    puts = [e for e in events if isinstance(e, WouldChange) and e.action == "put"]
    assert [(e.key, e.changes[0].after) for e in puts] == [
        (f"Key('Group', 'g{g}')", str(first)) for g, first in ((1, 1), (2, 2), (0, 3))
    ]

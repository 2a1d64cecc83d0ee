"""Updater.get and aget: one lookup for many, which guards like every read and is never stale."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.cloud.datastore import Entity

from bulkup import Updater
from bulkup.datastore.rpc import Rpc
from bulkup.testing import handle
from tests.conftest import Server
from tests.engine.conftest import Run, everything, fill


class Asks(Updater):
    max_failures = -1

    def get_query(self) -> Any:
        return self.client.query(kind="Thing")

    def customer(self, entity: Entity) -> Any:
        return self.client.key("Customer", (entity["i"] - 1) % 3 + 1)


class OneByOne(Asks):
    def handle_entity(self, entity: Entity) -> None:
        (customer,) = self.get([self.customer(entity)])
        assert customer is not None
        entity["n"] = customer["n"]
        customer["n"] = "changed and not put: nobody else sees it"
        self.put(entity)


class InBatches(Asks):
    def handle_batch(self, entities: list[Entity]) -> None:
        for entity, customer in zip(
            entities, self.get(self.customer(entity) for entity in entities), strict=True
        ):
            assert customer is not None
            (again,) = self.get([customer.key])
            assert again is not None
            entity["n"] = again["n"]
            self.put(entity)


class AtOnce(Asks):
    async def handle_entity(self, entity: Entity) -> None:
        (customer,) = await self.aget([self.customer(entity)])
        assert customer is not None
        entity["n"] = customer["n"]
        self.put(entity)


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many keys each lookup asks for."""
    asked: list[int] = []
    lookup = Rpc.lookup

    def counted(rpc: Rpc, keys: Any) -> Any:
        if any(key.path[-1].kind == "Customer" for key in keys):
            asked.append(len(keys))
        return lookup(rpc, keys)

    monkeypatch.setattr(Rpc, "lookup", counted)
    return asked


@pytest.mark.parametrize(
    ("updater", "most"), [(OneByOne, 3), (InBatches, 1), (AtOnce, 20)], ids=lambda v: str(v)
)
def test_what_many_need_is_looked_up_once(
    embedded: Server, run: Run, lookups: list[int], updater: type[Updater], most: int
) -> None:
    client = fill(embedded, "Thing", 60, n=0)
    fill(embedded, "Customer", 3, n=lambda i: i)
    for dry_run in (True, False):
        lookups.clear()
        report = run(embedded, updater, dry_run=dry_run)
        assert (report.reason, report.counts.puts) == ("", 60)
        assert 1 <= len(lookups) <= most
    assert [thing["n"] for thing in everything(client, "Thing")] == [1, 2, 3] * 20


def test_entities_come_in_the_order_of_their_keys(embedded: Server, run: Run) -> None:
    found: list[Any] = []

    class Reads(Asks):
        def handle_entity(self, entity: Entity) -> None:
            keys = [self.client.key("Customer", i) for i in (2, 9, 1, 2)]
            made = Entity(self.client.key("Customer", 8))
            self.put(made)
            self.delete(self.client.key("Customer", 3))
            found.append(self.get([*keys, made.key, self.client.key("Customer", 3)]))

    fill(embedded, "Thing", 1)
    fill(embedded, "Customer", 3)
    assert run(embedded, Reads).reason == ""
    (entities,) = found
    assert [None if e is None else e.key.id for e in entities] == [2, None, 1, 2, 8, None]


@pytest.mark.parametrize("form", ["handle_entity", "async"])
def test_a_conflict_reads_again_what_get_has_read(embedded: Server, run: Run, form: str) -> None:
    """Somebody writes the customer between its lookup and the commit."""
    live = embedded.client()

    class Counts(Asks):
        raced = False

        def count(self, entity: Entity, customer: Any) -> None:
            if not Counts.raced and entity["i"] == 2:
                Counts.raced = True
                theirs = live.get(customer.key)
                theirs["n"] += 100
                live.put(theirs)
            if entity["i"] > 1:
                customer["n"] += 1
                self.put(customer)

        def handle_entity(self, entity: Entity) -> None:
            self.count(entity, self.get([self.client.key("Customer", 1)])[0])

    class CountsAsync(Counts):
        async def handle_entity(self, entity: Entity) -> None:  # type: ignore[override]
            self.count(entity, (await self.aget([self.client.key("Customer", 1)]))[0])

    client = fill(embedded, "Thing", 6)
    fill(embedded, "Customer", 1, n=0)
    report = run(embedded, Counts if form == "handle_entity" else CountsAsync)
    assert (report.reason, report.counts.failed) == ("", 0)
    assert everything(client, "Customer")[0]["n"] == 105
    assert report.counts.conflicts >= 1


def test_what_was_absent_is_inserted(embedded: Server, run: Run) -> None:
    """A put of what `get` has not found, and somebody has made meanwhile, does not overwrite it."""
    live = embedded.client()

    class Makes(Asks):
        def handle_entity(self, entity: Entity) -> None:
            key = self.client.key("Customer", 1)
            (customer,) = self.get([key])
            if customer is None:
                theirs = Entity(key)
                theirs["n"] = 100
                live.put(theirs)
                customer = Entity(key)
                customer["n"] = 0
            customer["n"] += 1
            self.put(customer)

    client = fill(embedded, "Thing", 2)
    assert run(embedded, Makes).reason == ""
    assert everything(client, "Customer")[0]["n"] == 102


def test_what_a_handler_writes_through_its_client_is_read_again(embedded: Server, run: Run) -> None:
    class Direct(Asks):
        def handle_entity(self, entity: Entity) -> None:
            (customer,) = self.get([self.client.key("Customer", 1)])
            assert customer is not None
            entity["n"] = customer["n"]
            self.put(entity)
            theirs = self.client.get(customer.key)
            theirs["n"] += 1
            self.client.put(theirs)

    client = fill(embedded, "Thing", 4, n=0)
    fill(embedded, "Customer", 1, n=0)
    run(embedded, Direct)
    numbers = [thing["n"] for thing in everything(client, "Thing")]
    assert numbers == sorted(set(numbers)), "no two have read the same"


def test_a_single_key_is_refused_with_what_to_write(embedded: Server) -> None:
    updater = OneByOne()
    updater.client = embedded.client()
    with pytest.raises(TypeError, match=r"write self.get\(\[key\]\)"):
        updater.get(updater.client.key("Customer", 1))


def test_a_unit_test_reads_with_any_client(embedded: Server) -> None:
    fill(embedded, "Customer", 3, n=lambda i: i)
    for updater in OneByOne(), InBatches(), AtOnce():
        updater.client = embedded.client()
        entity = Entity(updater.client.key("Thing", 2))
        entity["i"] = 2
        assert handle(updater, entity).puts[0]["n"] == 2
    assert asyncio.run(updater.aget([])) == []

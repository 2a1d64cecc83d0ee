"""Random handlers over a few entities end as if each had been called after the one before was
written, whatever the batches. Repeat a failed one by its seed."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from google.cloud.datastore import Entity, Key
from google.cloud.datastore.query import PropertyFilter

from bulkup import Updater
from tests.conftest import Server
from tests.engine.conftest import Run, everything, fill

THINGS = 14
COUNTERS = 3

Where = tuple[str, int]
Step = tuple[str, Where, Where, str]
"""What to do, with two keys, and how to read."""


def script(seed: int, i: int) -> list[Step]:
    """What the handler of Thing `i` does."""
    rng = random.Random(f"{seed}/{i}")
    others = [("Thing", n) for n in range(1, THINGS + 1) if n != i]
    places = [*others, *[("Counter", n) for n in range(1, COUNTERS + 1)] * 3]
    names = ["count", "count", "count", "drop", "copy", "blind", "own", "raise"]
    return [
        (
            rng.choices(names, [3, 3, 3, 1, 2, 1, 2, 0.3])[0],
            rng.choice(places),
            rng.choice(places),
            rng.choice(["get", "timeout", "multi", "query", "shared"]),
        )
        for _ in range(rng.randint(1, 4))
    ]


class Model:
    """The same in memory, one handler after the other."""

    def __init__(self, seed: int) -> None:
        self.stored: dict[Where, int] = {("Thing", i): 0 for i in range(1, THINGS + 1)}
        made: set[Where] = set()
        self.failed = 0
        for i in range(1, THINGS + 1):
            own = ("Thing", i)
            if own not in self.stored or own in made:
                continue
            after = dict(self.stored)
            try:
                for what, place, other, _ in script(seed, i):
                    self.step(after, what, own if what == "own" else place, other, i)
            except ValueError:
                self.failed += 1
                continue
            made |= {place for place in after if place not in self.stored}
            made -= {place for place in self.stored if place not in after}
            self.stored = after

    @staticmethod
    def step(after: dict[Where, int], what: str, place: Where, other: Where, i: int) -> None:
        if what == "raise":
            raise ValueError("no")
        if what == "drop":
            after.pop(place, None)
        elif what == "blind":
            after[place] = i
        elif what == "copy" and other in after:
            after[place] = after[other] + i
        elif what == "copy":
            after.pop(place, None)
        else:
            after[place] = mixed(after.get(place, 0), i)


def mixed(n: int, i: int) -> int:
    """Depends on the order."""
    return (n * 3 + i) % 1_000_003


class Random(Updater):
    seed = 0
    queries = True
    max_failures = -1

    def get_query(self) -> Any:
        return self.client.query(kind="Thing")

    def handle_entity(self, entity: Entity) -> None:
        self.written: set[Key] = set()
        self.owner: Entity | None = None
        self.follow(entity)

    def follow(self, entity: Entity, steps: list[Step] | None = None) -> None:
        for what, place, other, how in steps or script(self.seed, entity.key.id):
            key = self.client.key(*place)
            if what == "raise":
                raise ValueError("no")
            if what == "own":
                entity["n"] = mixed(entity["n"], entity.key.id)
                self.put(entity)
            elif what == "drop":
                self.read(key, how)
                self.delete(key, owner=self.owner)
                self.written.add(key)
            elif what == "blind":
                self.write(None, key, entity.key.id)
            elif what == "copy":
                found = self.read(self.client.key(*other), how)
                if found is None:
                    self.delete(key, owner=self.owner)
                    self.written.add(key)
                else:
                    self.write(None, key, found["n"] + entity.key.id)
            else:
                found = self.read(key, how)
                n = 0 if found is None else found["n"]
                self.write(found, key, mixed(n, entity.key.id))

    def write(self, entity: Entity | None, key: Key, n: int) -> None:
        entity = Entity(key) if entity is None else entity
        entity["n"] = n
        self.put(entity, owner=self.owner)
        self.written.add(key)

    def read(self, key: Key, how: str) -> Entity | None:
        if how == "query" and self.queries and key not in self.written:  # they find what is stored
            query = self.client.query(kind=key.kind)
            query.add_filter(filter=PropertyFilter("__key__", "=", key))
            return next(iter(query.fetch()), None)
        if how == "shared":
            return self.get([key])[0]
        if how == "multi":
            return next(iter(self.client.get_multi([key], missing=[])), None)
        found: Entity | None = self.client.get(key, timeout=20 if how == "timeout" else None)
        return found


def in_batches(updater: Random, entities: list[Entity]) -> None:
    """Where two entities write the same one, this raises, and each is handled alone."""
    updater.written = set()
    for entity in entities:
        updater.owner = entity
        updater.follow(entity)


async def waiting(updater: Random, entity: Entity) -> None:
    """Of those that run at once, each reads and writes at another moment."""
    rng = random.Random(f"{updater.seed}/{entity.key.id}/pause")
    call = Waiting.of(updater, entity)
    for one in script(updater.seed, entity.key.id):
        await asyncio.sleep(rng.choice([0, 0, 0.001, 0.01]))
        call.follow(entity, [one])


class Waiting(Random):
    """One call of several that run at once: what it has written is its own."""

    @classmethod
    def of(cls, updater: Random, entity: Entity) -> Waiting:
        call = cls()
        call.written, call.owner = set(), None
        call.client = updater.client
        call.put, call.delete = updater.put, updater.delete  # type: ignore[method-assign]
        call.get = updater.get  # type: ignore[method-assign]
        return call


FORMS: dict[str, dict[str, Any]] = {
    "handle_entity": {},
    "async": {"handle_entity": waiting},
    "handle_batch": {"handle_batch": in_batches, "handle_entity": Updater.handle_entity},
}


def check(server: Server, run: Run, seed: int, form: str = "handle_entity") -> None:
    client = fill(server, "Thing", THINGS, n=0)
    updater = type("Random", (Random,), {"seed": seed, **FORMS[form]})
    batch_size = random.Random(seed).choice([1, 2, 5, 500])
    dry = run(server, type("Random", (updater,), {"queries": False}), dry_run=True)
    report = run(server, updater, batch_size=batch_size)
    model = Model(seed)
    stored = {
        (kind, entity.key.id): entity["n"]
        for kind in ("Thing", "Counter")
        for entity in everything(client, kind)
    }
    assert stored == model.stored, f"batches of {batch_size}"
    assert (report.counts.failed, report.counts.conflicts) == (model.failed, 0)
    assert dry.counts.failed == model.failed


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(3))
def test_random_handlers_end_as_if_called_one_after_the_other(
    embedded: Server, run: Run, seed: int, form: str
) -> None:
    check(embedded, run, seed, form)


@pytest.mark.chaos
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("seed", range(3, 33))
def test_random_handlers_end_as_if_called_one_after_the_other_on_any_server(
    server: Server, run: Run, seed: int, form: str
) -> None:
    check(server, run, seed, form)

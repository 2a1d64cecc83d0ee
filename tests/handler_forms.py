"""Updaters of every form, for the type checkers that users run (`test_types.py`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from google.cloud.datastore import Entity

import bulkup
from bulkup import Updater


class Plain(Updater):
    def handle_entity(self, entity: Entity) -> None:
        self.put(entity)


class Waits(Updater):
    concurrency = 8

    async def handle_entity(self, entity: Entity) -> None:
        found = await self.aget([entity.key])
        for other in found:
            if other is not None:
                self.put(other)

    async def aclose(self) -> None:
        await asyncio.sleep(0)


class Batch(Updater):
    def handle_batch(self, entities: list[Entity]) -> None:
        for entity, other in zip(entities, self.get([e.key for e in entities]), strict=True):
            if other is None:
                self.fail(entity, "gone")
                self.fail(entity.key, ValueError("gone"))
            else:
                self.put(other, owner=entity)
                self.delete(other, owner=entity.key)
                self.log("x", owner=entity)


@dataclass
class Person:
    name: str


class Typed(Updater[Person]):
    kind = "Person"

    async def handle_entity(self, entity: Person) -> None:
        self.put(entity)


class TypedBatch(Updater[Person]):
    kind = "Person"

    def handle_batch(self, entities: list[Person]) -> None:
        for entity in entities:
            self.put(entity)


@bulkup.updater(kind="Person", concurrency=4)
async def function(person: Entity) -> Entity:
    await asyncio.sleep(0)
    return person


@bulkup.updater(kind="Person")
async def generator(person: Entity) -> AsyncIterator[Entity]:
    yield person


@bulkup.updater(kind="Person", batch=True)
def batch(people: list[Entity]) -> list[Entity]:
    return people

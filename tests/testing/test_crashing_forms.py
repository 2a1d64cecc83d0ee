"""Runs of every form of handler are killed at each of their commits, and end the same."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from google.cloud.datastore import Entity

import bulkup
from bulkup import Updater
from bulkup.testing import crash_test

pytestmark = pytest.mark.sampled(5)

THINGS = [{"__key__": ["Thing", i], "i": i, "n": 0} for i in range(1, 7)]


class Counts(Updater):
    """Counts up, makes a child, and counts in a total of its own: applied twice, all show it."""

    def get_query(self) -> Any:
        return self.client.query(kind="Thing")

    def written(self, entity: Entity, total: Entity | None) -> list[Entity]:
        if total is None:
            total = Entity(self.client.key("Total", entity["i"]))
        total["n"] = total.get("n", 0) + 1
        entity["n"] += 1
        child = Entity(self.client.key("Child", parent=entity.key))
        child["n"] = entity["n"]
        return [entity, total, child]

    def keys(self, entities: list[Entity]) -> list[Any]:
        return [self.client.key("Total", entity["i"]) for entity in entities]


class InBatches(Counts):
    def handle_batch(self, entities: list[Entity]) -> None:
        for entity, total in zip(entities, self.get(self.keys(entities)), strict=True):
            self.put(self.written(entity, total), owner=entity)


class RaisesInBatches(InBatches):
    """Each batch is handled again, one by one."""

    def handle_batch(self, entities: list[Entity]) -> None:
        super().handle_batch(entities)
        if len(entities) > 1:
            raise ValueError("together")


class AtOnce(Counts):
    concurrency = 4

    async def handle_entity(self, entity: Entity) -> None:
        (total,) = await self.aget(self.keys([entity]))
        await asyncio.sleep(0.002 * (entity["i"] % 3))
        self.put(self.written(entity, total))


@bulkup.updater(kind="Thing", batch=True)
def batch_function(entities: list[Entity]) -> Any:
    return [{"n": entity["n"] + 1} for entity in entities]


@bulkup.updater(kind="Thing")
async def async_function(entity: Entity) -> Any:
    await asyncio.sleep(0)
    return {"n": entity["n"] + 1}


FORMS = [InBatches, AtOnce]


@pytest.mark.parametrize(
    "updater",
    [
        *FORMS,
        *(
            pytest.param(form, marks=pytest.mark.chaos)
            for form in (RaisesInBatches, batch_function, async_function)
        ),
    ],
    ids=lambda updater: updater.__name__,
)
def test_a_run_of_any_form_that_is_killed_at_any_commit_ends_the_same(updater: Any) -> None:
    result = crash_test(updater, THINGS)
    assert result.crashes >= 6
    assert not result.idempotent

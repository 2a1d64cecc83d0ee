"""The updaters that are measured."""

from __future__ import annotations

import time
from typing import Any

import bulkup
from benchmarks.canned import FIRST_ID, KIND

BUSY_NS = 100_000


class _OnPeople(bulkup.Updater):
    def get_query(self) -> Any:
        return self.client.query(kind=KIND)


class Touch(_OnPeople):
    """Reads two properties, sets one."""

    def handle_entity(self, entity: Any) -> None:
        entity["visits"] = entity["group"] + len(entity["name"]) + 10_000
        self.put(entity)


@bulkup.updater(kind=KIND)
def touch(entity: Any) -> Any:
    """Reads two properties, sets one."""
    entity["visits"] = entity["group"] + len(entity["name"]) + 10_000
    return entity


class Remove(bulkup.BulkDelete):
    def get_query(self) -> Any:
        return self.client.query(kind=KIND)


class Busy(_OnPeople):
    """Spends 100 µs of Python, in CPU time, on every entity."""

    def handle_entity(self, entity: Any) -> None:
        until = time.thread_time_ns() + BUSY_NS
        while time.thread_time_ns() < until:
            pass
        entity["visits"] = entity["group"] + 10_000
        self.put(entity)


class Failing(_OnPeople):
    """Fails for one entity in `every`."""

    every: int = bulkup.param(40)

    def handle_entity(self, entity: Any) -> None:
        if (entity.key.id - FIRST_ID) % self.every == 0:
            raise ValueError(f"the benchmark wants {entity['name']} to fail")
        entity["visits"] = entity["group"] + 10_000
        self.put(entity)

"""Updaters whose data shows whether an entity was handled too often or too rarely."""

from __future__ import annotations

import asyncio
import os
import time
from typing import Any

from google.cloud.datastore import Entity, Query

from bulkup import Updater


class Increment(Updater):
    """Not idempotent: applied twice, n is 2."""

    def get_query(self) -> Query:
        return self.client.query(kind="Thing")

    def handle_entity(self, entity: Entity) -> None:
        entity["n"] = entity["n"] + 1
        self.put(entity)


class Ensure(Updater):
    """Makes an entity that is not there. Not idempotent either."""

    def get_query(self) -> Query:
        return self.client.query(kind="Thing")

    def handle_entity(self, entity: Entity) -> None:
        entity["n"] = entity.get("n", 0) + 1
        self.put(entity)


class AtLeastOne(Updater):
    """Idempotent."""

    idempotent = True

    def get_query(self) -> Query:
        return self.client.query(kind="Thing")

    def handle_entity(self, entity: Entity) -> None:
        if entity["n"] < 1:
            entity["n"] = 1
            self.put(entity)


class OneChild(Updater):
    """Creates one child per entity, with an id from the server; no version guards that write."""

    def get_query(self) -> Query:
        return self.client.query(kind="Thing")

    def handle_entity(self, entity: Entity) -> None:
        self.put(Entity(self.client.key("Child", parent=entity.key)))


class IncrementWithChild(Updater):
    """Both writes in one handler call: they are applied together or not at all."""

    def get_query(self) -> Query:
        return self.client.query(kind="Thing")

    def handle_entity(self, entity: Entity) -> None:
        entity["n"] = entity["n"] + 1
        child = Entity(self.client.key("Child", parent=entity.key))
        child["n"] = entity["n"]
        self.put(entity, child)


class InBatches(Updater):
    """The same for several entities at once, each with its own child."""

    def get_query(self) -> Query:
        return self.client.query(kind="Thing")

    def handle_batch(self, entities: list[Entity]) -> None:
        for entity in entities:
            entity["n"] = entity["n"] + 1
            child = Entity(self.client.key("Child", parent=entity.key))
            child["n"] = entity["n"]
            self.put(entity)
            self.put(child, owner=entity)


class AtOnce(Updater):
    """The same for entities that wait at the same time, and not for equally long."""

    concurrency = 4

    def get_query(self) -> Query:
        return self.client.query(kind="Thing")

    async def handle_entity(self, entity: Entity) -> None:
        await asyncio.sleep(entity.key.id % 3 / 1000)
        entity["n"] = entity["n"] + 1
        child = Entity(self.client.key("Child", parent=entity.key))
        child["n"] = entity["n"]
        self.put(entity, child)


class Move(Updater):
    """Moves 7 from each entity to the next one in a ring; the sum over all is unchanged."""

    def get_query(self) -> Query:
        return self.client.query(kind="Thing")

    def handle_entity(self, entity: Entity) -> None:
        other = self.client.get(self.client.key("Thing", entity["next"]))
        entity["amount"] = entity["amount"] - 7
        entity["n"] = entity["n"] + 1
        other["amount"] = other["amount"] + 7
        self.put(entity, other)


RENAMED = 1_000_000
"""What Rename adds to an id: the new key is behind the cursor, where the scan would meet it."""


class Rename(Updater):
    """Gives each entity a new key of the queried kind."""

    def get_query(self) -> Query:
        return self.client.query(kind="Thing")

    def handle_entity(self, entity: Entity) -> None:
        renamed = Entity(self.client.key("Thing", entity.key.id + RENAMED))
        renamed.update(entity)
        renamed["n"] = entity["n"] + 1
        self.put(renamed)
        self.delete(entity)


class CopyWithNewId(Updater):
    """Makes a copy of each entity, of the queried kind, with an id from the server."""

    def get_query(self) -> Query:
        return self.client.query(kind="Thing")

    def handle_entity(self, entity: Entity) -> None:
        entity["n"] = entity["n"] + 1
        copy = Entity(self.client.key("Thing"))
        copy.update(entity)
        copy["of"] = entity.key.id
        self.put(entity, copy)


MAKERS = ("Rename", "CopyWithNewId")


class Neighbours(Updater):
    """Counts the things of a group in a counter that it makes, and moves amounts. Only plain reads:
    the official client gives up sooner than bulkup does."""

    def get_query(self) -> Query:
        return self.client.query(kind="Thing")

    def handle_entity(self, entity: Entity) -> None:
        group = self.client.key("Group", entity.key.id % 4 + 1)
        found = self.client.get_multi([group, self.client.key("Thing", entity["next"])], missing=[])
        other = next(other for other in found if other.key != group)
        if len(found) == 1:
            counter = Entity(group)
            counter["n"] = 0
            self.put(counter)
        counter = self.client.get(group)  # perhaps as it was put just now
        counter["n"] += 1
        entity["n"] += 1
        entity["amount"] -= 7
        other["amount"] += 7
        self.put(entity, other, counter)


class Filtered(Updater):
    """Increments only things that are open."""

    def get_query(self) -> Query:
        query = self.client.query(kind="Thing")
        query.add_filter(filter=_open())
        return query

    def handle_entity(self, entity: Entity) -> None:
        entity["n"] = entity["n"] + 1
        self.put(entity)


class Kindless(Updater):
    """Queries all kinds; the query must not return bulkup's own entities."""

    def get_query(self) -> Query:
        return self.client.query()

    def handle_entity(self, entity: Entity) -> None:
        if entity.kind.startswith("Bulkup"):
            raise AssertionError(f"handled {entity.key}")
        entity["n"] = entity["n"] + 1
        self.put(entity)


class Poisoned(Updater):
    """Some entities cannot be written, each for its own reason."""

    def get_query(self) -> Query:
        return self.client.query(kind="Thing")

    def handle_entity(self, entity: Entity) -> None:
        poison = entity.get("poison")
        if poison == "too large":
            entity["blob"] = b"x" * 5_000_000
            entity.exclude_from_indexes.add("blob")
        elif poison == "long string":
            entity["text"] = "x" * 1501
        elif poison == "bad name":
            entity["__x__"] = 1
        elif poison == "raises":
            raise ValueError("this one is poisoned")
        elif poison == "type":
            entity["thing"] = object()
        entity["n"] = entity["n"] + 1
        self.put(entity)


SLOWLY_S = "BULKUP_TEST_SLOWLY_S"
"""How long Slow takes for an entity, in the environment."""


class Slow(Poisoned):
    """The same, with time for other processes to be killed."""

    def handle_entity(self, entity: Entity) -> None:
        time.sleep(float(os.environ.get(SLOWLY_S, "0")))
        super().handle_entity(entity)


class Stamped(Increment):
    """Notes when it was handled, and by which process."""

    def handle_entity(self, entity: Entity) -> None:
        entity["at"] = time.time()
        entity["by"] = str(os.getpid())
        super().handle_entity(entity)


class Talkative(Poisoned):
    """Logs a line for each entity, the poisoned ones too."""

    def handle_entity(self, entity: Entity) -> None:
        self.log(f"saw {entity.key.id}")
        super().handle_entity(entity)


class Sparse(Updater):
    """Writes only some of the entities."""

    def get_query(self) -> Query:
        return self.client.query(kind="Thing")

    def handle_entity(self, entity: Entity) -> None:
        if entity["sparse"]:
            entity["n"] = entity["n"] + 1
            self.put(entity)


class Nothing(Updater):
    """A run without entities."""

    def get_query(self) -> Query:
        return self.client.query(kind="Vacuum")

    def handle_entity(self, entity: Entity) -> None:
        raise AssertionError("there is nothing")


def _open() -> Any:
    from google.cloud.datastore.query import PropertyFilter

    return PropertyFilter("open", "=", True)


class BeforeIncrement(Updater):
    """The first run of a chain."""

    then = Increment

    def get_query(self) -> Query:
        return self.client.query(kind="Thing")

    def handle_entity(self, entity: Entity) -> None:
        entity["before"] = entity.get("before", 0) + 1
        self.put(entity)

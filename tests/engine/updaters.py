"""Updaters for worker processes, which import this file and nothing of pytest."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from google.cloud import datastore
from google.cloud.datastore import Entity

import bulkup
from bulkup import Updater, param


class Stamp(Updater):
    """Counts up, and says in which process."""

    def get_query(self) -> Any:
        return self.client.query(kind="Thing")

    def handle_entity(self, entity: Entity) -> None:
        entity["n"] += 1
        entity["by"] = os.getpid()
        self.put(entity)


class Mixed(Stamp):
    """A bit of all that a handler can do."""

    max_failures = -1

    def handle_entity(self, entity: Entity) -> None:
        i = entity["i"]
        self.log(f"at {i}")
        if i % 10 == 3:
            raise ValueError(f"no {i}\x1b[31m")
        if i % 10 == 4:
            raise SystemExit(3)
        if i % 10 == 5:
            return
        if i % 10 == 6:
            self.put(entity)  # unchanged
            return
        if i % 10 == 7:
            self.delete(entity)
            return
        if i % 10 == 8:
            self.put(Entity(self.client.key("Made")))
        entity["n"] += 1
        self.put(entity)


class Raced(Stamp):
    """Somebody writes every tenth entity while it is handled."""

    def handle_entity(self, entity: Entity) -> None:
        if entity["i"] % 10 == 0 and not entity["touched"]:
            live = datastore.Client(project=self.client.project)
            theirs = live.get(entity.key)
            theirs["touched"] = True
            live.put(theirs)
        entity["n"] += 1
        self.put(entity)


class ToTheNext(Stamp):
    """Writes its neighbour too: an entity that another chunk, or another worker, has as well."""

    def handle_entity(self, entity: Entity) -> None:
        entity["n"] += 1
        self.put(entity)
        following = self.client.get(self.client.key("Thing", entity["i"] + 1))
        if following is not None:
            following["got"] += 1
            self.put(following)


class IntoOne(Stamp):
    """All write the same one."""

    def handle_entity(self, entity: Entity) -> None:
        entity["n"] += 1
        total = self.client.get(self.client.key("Total", 1))
        total["n"] += 1
        self.put(entity, total)


class IntoGroups(Stamp):
    """Counts in counters that it makes when they are missing, and reads each in its own way."""

    def handle_entity(self, entity: Entity) -> None:
        key = self.client.key("Group", entity["i"] % 3 + 1)
        counter = self.client.get(key, timeout=20 if entity["i"] % 2 else None)
        if counter is None:
            counter = Entity(key)
            counter["n"] = 0
        counter["n"] += 1
        self.put(counter)


class Prints(Stamp):
    def handle_entity(self, entity: Entity) -> None:
        print(f"ünder way: {entity['i']}")
        print(f"also {entity['i']}", file=sys.stderr)
        sys.stdout.buffer.write(b"raw %d\n" % entity["i"])
        entity["n"] += 1
        self.put(entity)


class Reads(Stamp):
    """Reads another entity first."""

    max_failures = -1

    def handle_entity(self, entity: Entity) -> None:
        self.client.get(self.client.key("Thing", 1))
        super().handle_entity(entity)


class KeepsState(Stamp):
    """Uses what __init__, get_query and a parameter have set."""

    step: int = param(1)

    def __init__(self) -> None:
        self.by_init = self.step

    def get_query(self) -> Any:
        self.by_query = 100
        return super().get_query()

    def handle_entity(self, entity: Entity) -> None:
        entity["n"] += self.by_init + self.by_query
        self.put(entity)


class Changing(Stamp):
    """Its file, a copy of this one, is another one as soon as it has been imported."""

    @classmethod
    def change(cls) -> None:
        with Path(__file__).open("a") as file:
            file.write("# changed\n")


@bulkup.updater(kind="Thing", order="n")
def away(entity: Entity) -> Entity:
    entity["n"] += 1000
    entity["times"] += 1
    return entity


@bulkup.updater(kind="Thing", order="tags")
def by_tags(entity: Entity) -> Entity:
    entity["times"] += 1
    return entity


@bulkup.updater(kind="Thing", keys_only=True)
def drop(entity: Entity) -> Any:
    return bulkup.delete(entity)


class Renames(Stamp):
    """Puts new keys of the queried kind, behind the others."""

    def handle_entity(self, entity: Entity) -> None:
        renamed = Entity(self.client.key("Thing", entity.key.id + 1_000_000))
        renamed.update(entity)
        self.put(renamed)
        self.delete(entity)


class RenamesDirectly(Stamp):
    """The same, through the client."""

    def handle_entity(self, entity: Entity) -> None:
        renamed = Entity(self.client.key("Thing", entity.key.id + 1_000_000))
        renamed.update(entity)
        self.client.put(renamed)
        self.client.delete(entity.key)

"""Updaters with the mistakes that tests of users should find, and some without."""

from __future__ import annotations

from collections import Counter
from typing import Any

from google.cloud.datastore import Entity

import bulkup
from bulkup import Updater

PEOPLE: list[dict[str, Any]] = [
    {"first": "Ada", "last": "Lovelace"},
    {"first": "Grace", "last": "Hopper"},
]
WITH_NAMES = [{**person, "full_name": f"{person['first']} {person['last']}"} for person in PEOPLE]


@bulkup.updater(kind="Person")
def full_name(person: Entity, *, sep: str = " ") -> Entity:
    """Backfill full_name on every Person."""
    person["full_name"] = sep.join([person["first"], person["last"]])
    return person


@bulkup.updater(kind="Person")
def misspelled_read(person: Entity) -> Entity:
    person["full_name"] = f"{person['fist']} {person['last']}"
    return person


@bulkup.updater(kind="Person")
def misspelled_write(person: Entity) -> Entity:
    person["ful_name"] = f"{person['first']} {person['last']}"
    return person


class Forgotten(Updater):
    """The put is missing."""

    def get_query(self) -> Any:
        return self.client.query(kind="Person")

    def handle_entity(self, person: Entity) -> None:
        person["full_name"] = f"{person['first']} {person['last']}"


@bulkup.updater(kind="Person")
def increment(person: Entity) -> Entity:
    person["n"] = person.get("n", 0) + 1
    return person


@bulkup.updater(kind="Person", idempotent=True)
def increment_and_claim(person: Entity) -> Entity:
    person["n"] = person.get("n", 0) + 1
    return person


SEEN: Counter[str] = Counter()


@bulkup.updater(kind="Person")
def numbered_by_the_module(person: Entity) -> Entity:
    SEEN["people"] += 1
    person["number"] = SEEN["people"]
    return person


class NumberedBySelf(Updater):
    """Numbers them from one."""

    number = 0

    def get_query(self) -> Any:
        return self.client.query(kind="Person")

    def handle_entity(self, person: Entity) -> None:
        self.number += 1
        person["number"] = self.number
        self.put(person)


class NumberedByTheClass(NumberedBySelf):
    """The same, with a counter that all instances share."""

    def handle_entity(self, person: Entity) -> None:
        NumberedByTheClass.number += 1
        person["number"] = self.number
        self.put(person)


class CountsInFinish(Updater):
    """`finish` adds, and may be called twice."""

    def get_query(self) -> Any:
        return self.client.query(kind="Person")

    def handle_entity(self, person: Entity) -> None:
        person["done"] = True
        self.put(person)

    def finish(self, success: bool, report: Any) -> None:
        key = self.client.key("Total", 1)
        total = self.client.get(key) or Entity(key)
        total["n"] = total.get("n", 0) + report.counts.handled
        self.client.put(total)


class Archive(Updater):
    """Copies each to a new entity, which names it, deletes it, and logs."""

    def get_query(self) -> Any:
        return self.client.query(kind="Person")

    def handle_entity(self, person: Entity) -> None:
        copy = Entity(self.client.key("Archived"))
        copy.update(person)
        copy["of"] = person.key
        self.put(copy)
        self.delete(person)
        self.log(f"archived {person.key.id}")


class Counted(Updater):
    """Counts what its predecessor has numbered."""

    def get_query(self) -> Any:
        return self.client.query(kind="Person")

    def handle_entity(self, person: Entity) -> None:
        person["counted"] = person["done"]
        self.put(person)
        self.log("counted")


class WithSuccessor(Updater):
    """Marks each, and then counts them."""

    then = Counted

    def get_query(self) -> Any:
        return self.client.query(kind="Person")

    def handle_entity(self, person: Entity) -> None:
        person["done"] = True
        self.put(person)

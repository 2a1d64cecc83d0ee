"""What no entity can be fails where a handler puts it, in a dry run as in a run."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from google.api_core.exceptions import GoogleAPICallError, InvalidArgument
from google.cloud.datastore import Client, Entity, Key
from google.cloud.datastore.helpers import GeoPoint
from google.cloud.datastore_v1.types import datastore as types

from bulkup import Updater
from bulkup.core import limits
from bulkup.core.limits import LimitError, check_key, check_properties, check_whole
from bulkup.datastore.keys import key_to_pb
from bulkup.datastore.messages import EntityPb, Mutation
from bulkup.datastore.value_codec import write_entity
from bulkup.testing import offline_client
from tests.conftest import Server
from tests.engine.conftest import Run, everything, fill

pytestmark = pytest.mark.sampled(5)

MIB = 1024 * 1024


def property_(name: str, value: Any, exclude: bool = False) -> Callable[[Client], Entity]:
    def make(client: Client) -> Entity:
        excluded = (name,) if exclude else ()
        entity = Entity(client.key("Item", 1), exclude_from_indexes=excluded)
        entity[name] = value
        return entity

    return make


def keyed(*path: Any, **options: Any) -> Callable[[Client], Entity]:
    return lambda client: Entity(client.key(*path, **options))


def foreign(client: Client) -> Entity:
    return Entity(Key("Item", 1, project="other-p"))


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"a": value}
    return value


def numbers(count: int) -> dict[str, list[int]]:
    return {f"a{i}": list(range(i * 1000, i * 1000 + 1000)) for i in range(count // 1000)}


def many(count: int) -> Callable[[Client], Entity]:
    def make(client: Client) -> Entity:
        entity = Entity(client.key("Item", 1))
        entity.update(numbers(count))
        entity["n"] = 1
        return entity

    return make


LAX = frozenset({"LF", "FS"})
"""Emulators that store what the service refuses."""

BAD: dict[str, tuple[Callable[[Client], Entity], str, frozenset[str]]] = {
    "long string": (property_("bio", "x" * 1501), '"bio" is longer than 1500', frozenset()),
    "long in UTF-8": (property_("bio", "ö" * 751), "longer than 1500 bytes", frozenset()),
    "long blob": (property_("bio", b"x" * 1501), "longer than 1500 bytes", frozenset()),
    "long element": (property_("bio", ["a", "x" * 1501]), "longer than 1500 bytes", frozenset()),
    "long nested": (property_("a", {"b": "x" * 1501}), '"a.b" is longer', frozenset()),
    "long excluded": (
        property_("bio", "x" * MIB, exclude=True), "longer than 1048487 bytes", frozenset({"LF"}),
    ),
    "reserved name": (property_("__x__", 1), '"__x__" is reserved', frozenset()),
    "long name": (property_("n" * 1501, 1), "property.name is longer", frozenset()),
    "reserved nested name": (property_("a", {"__x__": 1}), '"__x__" is reserved', frozenset()),
    "array in array": (property_("a", [[1]]), "array that contains an array", frozenset()),
    "deep": (property_("a", nested(21)), "At most 20 nested", frozenset()),
    "geo point": (property_("a", GeoPoint(90.5, 0)), "Geo point outside", frozenset()),
    "many index entries": (many(20_000), "Too many indexed properties: 20001", frozenset({"LF"})),
    "reserved kind": (keyed("__Item__", 1), 'kind "__Item__" is reserved', frozenset()),
    "long kind": (keyed("K" * 1501, 1), "kind is longer", LAX),
    "reserved key name": (keyed("Item", "__x__"), '"__x__" is reserved', frozenset()),
    "long key name": (keyed("Item", "n" * 1501), "element name is longer", frozenset()),
    "deep key": (keyed(*("K", 1) * 101), "Cannot exceed 100 elements", frozenset()),
    "other project": (foreign, "mismatched databases", LAX),
    "bad namespace": (keyed("Item", 1, namespace="a b"), "namespace id", LAX),
}  # fmt: skip


class Puts(Updater):
    """Puts one bad entity for each one, and then a good one."""

    max_failures = -1
    make: Callable[[Client], Entity]

    def get_query(self) -> Any:
        return self.client.query(kind="Seed")

    def handle_entity(self, entity: Entity) -> None:
        entity["n"] = 1
        self.put(entity)
        if entity.key.id == 1:
            self.put(type(self).make(self.client))


@pytest.mark.parametrize("name", BAD)
def test_a_dry_run_fails_what_a_run_fails_in_the_same_words(
    embedded: Server, run: Run, name: str
) -> None:
    make, sentence, _ = BAD[name]
    updater = type("Puts", (Puts,), {"make": staticmethod(make)})
    client = fill(embedded, "Seed", 2)
    dry = run(embedded, updater, dry_run=True)
    real = run(embedded, updater)
    (expected,), (failure,) = dry.failures, real.failures
    assert sentence in failure.error
    assert (expected.key, expected.step, expected.error) == (
        failure.key, failure.step, failure.error,
    )  # fmt: skip
    assert failure.step == "write"
    assert [seed.get("n") for seed in everything(client, "Seed")] == [None, 1]
    assert everything(client, "Item") == []


def check_all(pb: Any, project: str) -> None:
    limits.check_key_to_write(pb.key, (project, ""), complete=True)
    check_properties(pb)
    check_whole(pb, pb.ByteSize())


@pytest.mark.parametrize("name", BAD)
def test_the_limits_are_those_of_the_servers(server: Server, name: str) -> None:
    make, sentence, lax = BAD[name]
    client = server.client()
    pb = EntityPb()
    write_entity(pb, make(client))
    with pytest.raises(LimitError, match=re.escape(sentence)) as refused:
        check_all(pb, client.project)
    request = types.CommitRequest(
        project_id=client.project,
        mode=types.CommitRequest.Mode.NON_TRANSACTIONAL,
        mutations=[types.Mutation.wrap(Mutation(upsert=pb))],
    )
    if server.name in lax:
        return
    with pytest.raises(GoogleAPICallError) as answer:
        client._datastore_api.commit(request=request)
    assert isinstance(answer.value, InvalidArgument)
    if server.name == "EM":
        assert answer.value.message == refused.value.message


class Own(Updater):
    """Changes the handled entity itself: only what is changed is looked at."""

    max_failures = -1

    def get_query(self) -> Any:
        return self.client.query(kind="Seed")

    def handle_entity(self, entity: Entity) -> None:
        CHANGES[entity.key.id](entity)
        self.put(entity)


def exclude(entity: Entity) -> None:
    entity.exclude_from_indexes.add("bio")
    entity["bio"] = "x" * 1501


def large(entity: Entity) -> None:
    entity.exclude_from_indexes.update({"a", "b"})
    entity["a"] = entity["b"] = "x" * (MIB // 2)


def index(entity: Entity) -> None:
    entity.exclude_from_indexes.discard("text")


CHANGES: dict[int, Callable[[Entity], Any]] = {
    1: lambda e: e.update(i="x" * 1501),
    2: lambda e: e.update(bio="x" * 1501),
    3: lambda e: e.update(__x__=1),
    4: lambda e: e["tags"].append("x" * 1501),
    5: lambda e: e["home"].update(city="x" * 1501),
    6: large,
    7: index,
    8: lambda e: e.update(numbers(21_000)),
    9: exclude,
    10: lambda e: e.update(text=e["text"] + "y", i=2),
}


def test_changes_of_the_handled_entity_are_checked(server: Server, run: Run) -> None:
    client = fill(server, "Seed", 10)
    for seed in everything(client, "Seed"):
        seed.exclude_from_indexes.add("text")
        seed.update(tags=["a"], home=Entity(), text="x" * 2000)
        client.put(seed)
    dry = run(server, Own, dry_run=True)
    real = run(server, Own)
    said = {failure.key: failure.error for failure in real.failures}
    assert said == {failure.key: failure.error for failure in dry.failures}
    assert sorted(said) == sorted(f"Key('Seed', {i})" for i in range(1, 9))
    assert all("INVALID_ARGUMENT: " in error for error in said.values())
    assert 'add "bio" to the entity\'s exclude_from_indexes' in said["Key('Seed', 2)"]
    assert "nested Entity's exclude_from_indexes" in said["Key('Seed', 5)"]
    assert "maximum entity size" in said["Key('Seed', 6)"]
    assert "Too many indexed properties" in said["Key('Seed', 8)"]
    stored = {seed.key.id: seed for seed in everything(client, "Seed")}
    assert stored[9]["bio"] == "x" * 1501
    assert stored[10]["i"] == 2
    assert all(stored[i]["i"] == i for i in range(1, 9))


def test_keys_to_delete_are_checked(embedded: Server, run: Run) -> None:
    class Deletes(Own):
        def handle_entity(self, entity: Entity) -> None:
            self.delete(self.client.key("Item", "n" * 1501))

    fill(embedded, "Seed", 1)
    for options in ({"dry_run": True}, {}):
        (failure,) = run(embedded, Deletes, **options).failures
        assert "element name is longer than 1500 bytes" in failure.error


def test_a_key_at_its_limits_is_fine() -> None:
    client = offline_client()
    for key in (client.key(*("K", 1) * 100), client.key("K" * 1500, "n" * 1500)):
        check_key(key_to_pb(key), complete=True)

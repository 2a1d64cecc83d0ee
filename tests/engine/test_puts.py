"""What a handler's puts and deletes come to, when it has several for one entity."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from google.cloud.datastore import Entity, Key
from google.cloud.datastore_v1.types import query as query_types

from bulkup import Updater
from bulkup.datastore.lazy_entity import LazyEntity
from bulkup.datastore.messages import Mutation
from bulkup.datastore.pages import PageResult, page_result
from bulkup.engine.call_setup import CallSetup
from bulkup.engine.handle import Handler
from bulkup.engine.handled import Handled, written
from bulkup.engine.scan import QueryPlan

EntityResult: Any = query_types.EntityResult.pb()

Handle = Callable[[Any, Entity], None]


def read(version: int = 7) -> Any:
    result = EntityResult(version=version, cursor=b"c")
    result.entity.key.partition_id.project_id = "p"
    result.entity.key.path.add(kind="Thing", id=5)
    properties = result.entity.properties
    properties["n"].integer_value = 1
    properties["name"].string_value = "Ada"
    properties["tags"].array_value.values.add(string_value="red")
    properties["home"].entity_value.properties["city"].string_value = "Köln"
    return result


def handled(handle: Handle, *, ranged: bool = False, version: int = 7) -> Handled:
    updater = type("Fix", (Updater,), {"handle_entity": handle})()
    query = QueryPlan(None, "", False, False, frozenset({"n"} if ranged else ()))
    result = page_result(read(version))
    handler = Handler(CallSetup(updater, query))
    with handler.open():
        return handler.handle(result, result.entity.key, b"c")


def put_of(item: Handled) -> dict[str, Any]:
    (write,) = item.writes
    assert not write.deletes
    return dict(LazyEntity(written(write)))


@pytest.fixture(params=[False, True], ids=["patched in place", "patched in a copy"])
def ranged(request: pytest.FixtureRequest) -> bool:
    """Whether the query ranges on a property. Then the original message is still needed, so the put
    patches a copy."""
    return bool(request.param)


@pytest.mark.parametrize("back", ["list", "moved", "deleted"])
def test_undoing_one_of_two_changes_keeps_the_other(ranged: bool, back: str) -> None:
    def handle(self: Any, entity: Entity) -> None:
        own = entity.key
        entity["n"] = 2
        if back == "list":
            entity["tags"].append("blue")
        elif back == "moved":
            entity.key = Key("Thing", 6, project="p")
        else:
            name = entity.pop("name")
        self.put(entity)
        if back == "list":
            entity["tags"].pop()
        elif back == "moved":
            entity.key = own
        else:
            entity["name"] = name
        self.put(entity)

    item = handled(handle, ranged=ranged)

    assert item.unchanged == 0
    stored = dict(LazyEntity(written(item.writes[-1])))
    assert stored == {"n": 2, "name": "Ada", "tags": ["red"], "home": {"city": "Köln"}}


def test_the_last_put_is_written(ranged: bool) -> None:
    def handle(self: Any, entity: Entity) -> None:
        entity["n"] = 2
        self.put(entity)
        entity["n"] = 3
        entity["new"] = True
        self.put(entity)
        entity["n"] = 99  # after the last put, so it is not written

    item = handled(handle, ranged=ranged)
    found = put_of(item)
    assert (found["n"], found["new"], found["name"]) == (3, True, "Ada")
    assert found["tags"] == ["red"]
    assert dict(found["home"]) == {"city": "Köln"}


def test_putting_the_same_entity_twice_loses_nothing(ranged: bool) -> None:
    def handle(self: Any, entity: Entity) -> None:
        entity["n"] = 2
        self.put(entity)
        self.put(entity)

    assert put_of(handled(handle, ranged=ranged))["n"] == 2


def test_a_property_that_is_changed_back_is_stored_as_before(ranged: bool) -> None:
    def handle(self: Any, entity: Entity) -> None:
        entity["n"] = 2
        entity["new"] = 1
        self.put(entity)
        entity["n"] = 1
        del entity["new"]
        self.put(entity)

    item = handled(handle, ranged=ranged)
    # Either no write at all, or one of what is there already.
    for write in item.writes:
        assert written(write) == read().entity


def test_lists_and_nested_entities_changed_between_puts_are_written(ranged: bool) -> None:
    def handle(self: Any, entity: Entity) -> None:
        entity["n"] = 2
        entity["home"]["city"] = "Bonn"
        self.put(entity)
        entity["tags"].append("blue")
        entity["home"]["zip"] = "53111"
        self.put(entity)
        entity["home"]["city"] = "Ulm"
        self.put(entity)

    found = put_of(handled(handle, ranged=ranged))
    assert found["n"] == 2
    assert found["tags"] == ["red", "blue"]
    assert dict(found["home"]) == {"city": "Ulm", "zip": "53111"}


def test_a_put_after_a_delete_puts_and_a_delete_after_a_put_deletes(ranged: bool) -> None:
    def put_last(self: Any, entity: Entity) -> None:
        entity["n"] = 2
        self.put(entity)
        self.delete(entity)
        self.put(entity)

    assert put_of(handled(put_last, ranged=ranged))["n"] == 2

    def delete_last(self: Any, entity: Entity) -> None:
        entity["n"] = 2
        self.put(entity)
        self.delete(entity)

    (write,) = handled(delete_last, ranged=ranged).writes
    assert write.deletes
    assert written(write) == read().entity.key


def test_an_unchanged_put_writes_nothing(ranged: bool) -> None:
    def handle(self: Any, entity: Entity) -> None:
        assert entity["name"] == "Ada"
        assert entity["tags"] == ["red"]
        entity["n"] = 1
        self.put(entity)

    item = handled(handle, ranged=ranged)
    assert not item.writes
    assert item.unchanged == 1


def test_a_failed_put_writes_nothing_and_can_be_fixed_when_caught(
    ranged: bool,
) -> None:
    def fails(self: Any, entity: Entity) -> None:
        entity["n"] = 2
        self.put(entity)
        entity["bad"] = object()
        self.put(entity)

    item = handled(fails, ranged=ranged)
    assert item.failure is not None
    assert not item.writes

    def fixed(self: Any, entity: Entity) -> None:
        entity["n"] = 2
        entity["bad"] = object()
        with pytest.raises(ValueError, match="bad"):
            self.put(entity)
        entity["bad"] = 1
        self.put(entity)

    found = put_of(handled(fixed, ranged=ranged))
    assert (found["n"], found["bad"]) == (2, 1)


def test_the_guard_is_the_version_that_was_read() -> None:
    def handle(self: Any, entity: Entity) -> None:
        entity["n"] = 2
        self.put(entity)

    (guarded,) = handled(handle, version=2**52).writes
    mutation = Mutation.FromString(guarded.mutation)
    assert mutation.WhichOneof("operation") == "update"
    assert mutation.base_version == 2**52
    assert mutation.conflict_resolution_strategy == Mutation.FAIL
    (plain,) = handled(handle, version=0).writes
    mutation = Mutation.FromString(plain.mutation)
    assert mutation.WhichOneof("operation") == "upsert"
    assert not mutation.base_version
    assert not mutation.conflict_resolution_strategy


def test_a_put_under_another_key_leaves_the_original_entity_unchanged() -> None:
    def handle(self: Any, entity: Entity) -> None:
        entity["n"] = 2
        self.put(entity)
        entity.key = entity.key.parent or entity.key.__class__("Thing", 6, project="p")
        self.put(entity)

    first, second = handled(handle).writes
    assert [written(w).key.path[0].id for w in (first, second)] == [5, 6]
    assert Mutation.FromString(second.mutation).WhichOneof("operation") == "upsert"


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
def test_a_copy_keeps_the_values_that_were_read_when_the_entity_is_changed_and_put(
    copied: Callable[[Entity], Entity], ranged: bool
) -> None:
    def handle(self: Any, entity: Entity) -> None:
        old = copied(entity)
        entity["n"] = 2
        entity["new"] = True
        self.put(entity)
        assert old["n"] == 1
        assert "new" not in old
        old.key = entity.key.__class__("Archive", 5, project="p")
        self.put(old)

    item = handled(handle, ranged=ranged)
    assert item.failure is None
    now, archived = (LazyEntity(written(write)) for write in item.writes)
    assert (now["n"], now["new"]) == (2, True)
    assert (archived["n"], "new" in archived, archived.key.kind) == (1, False, "Archive")


def test_a_restored_value_is_written(ranged: bool) -> None:
    def handle(self: Any, entity: Entity) -> None:
        was = entity["n"]
        entity["n"] = was + 1
        self.put(entity)
        entity["n"] = was
        self.put(entity)

    item = handled(handle, ranged=ranged)
    assert not item.writes or put_of(item)["n"] == 1


def test_a_property_restored_after_its_removal_is_kept(ranged: bool) -> None:
    def handle(self: Any, entity: Entity) -> None:
        name = entity.pop("name")
        self.put(entity)
        entity["name"] = name
        self.put(entity)

    item = handled(handle, ranged=ranged)
    assert not item.writes or put_of(item)["name"] == "Ada"


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_stays_as_it_was_read(ranged: bool, copied: Callable[[Entity], Entity]) -> None:
    def handle(self: Any, entity: Entity) -> None:
        old = copied(entity)
        old.key = Key("Archive", 5, project="p")
        entity["n"] = 2
        del entity["name"]
        self.put(entity)
        self.put(old)
        assert old["n"] == 1

    item = handled(handle, ranged=ranged)
    assert item.failure is None, item.failure
    new, old = [dict(LazyEntity(written(write))) for write in item.writes]
    assert new["n"] == 2
    assert "name" not in new
    assert (old["n"], old["name"]) == (1, "Ada")


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_made_after_a_put_is_written_when_put(copied: Any, ranged: bool) -> None:
    def handle(self: Any, entity: Entity) -> None:
        entity["n"] = 2
        self.put(entity)
        self.put(copied(entity))

    assert put_of(handled(handle, ranged=ranged))["n"] == 2


def test_a_restored_value_is_not_a_change_even_if_the_entity_was_copied(ranged: bool) -> None:
    def handle(self: Any, entity: Entity) -> None:
        self.saved = copy.copy(entity)
        entity["n"] = 2
        self.put(entity)
        entity["n"] = 1
        self.put(entity)

    item = handled(handle, ranged=ranged)
    assert (len(item.writes), item.unchanged) == (0, 1)


def test_a_restored_property_is_indexed_as_before(ranged: bool) -> None:
    def handle(self: Any, entity: Entity) -> None:
        entity.exclude_from_indexes.add("name")
        self.put(entity)

    (first,) = handled(handle, ranged=ranged).writes
    result = PageResult(version=8, cursor=b"c")
    result.entity.MergeFromString(written(first).SerializeToString())

    def away_and_back(self: Any, entity: Entity) -> None:
        name = entity.pop("name")
        self.put(entity)
        entity["name"] = name
        entity["n"] = 2
        self.put(entity)

    updater = type("Fix", (Updater,), {"handle_entity": away_and_back})()
    handler = Handler(CallSetup(updater, QueryPlan(None, "", False, False, frozenset())))
    with handler.open():
        item = handler.handle(result, result.entity.key, b"c")
    (write,) = item.writes
    assert written(write).properties["name"].exclude_from_indexes


def test_an_entity_put_by_a_failed_handler_is_written_by_a_later_put() -> None:
    """The first put altered the message, and came to nothing."""
    saved: list[Entity] = []

    def handle(self: Any, entity: Entity) -> None:
        if saved:
            self.put(saved[0])
            return
        saved.append(entity)
        entity["n"] = 2
        self.put(entity)
        raise RuntimeError("the next step failed")

    updater = type("Fix", (Updater,), {"handle_entity": handle})()
    handler = Handler(CallSetup(updater, QueryPlan(None, "", False, False, frozenset())))
    one, other = page_result(read()), read()
    other.entity.key.path[-1].id = 6
    other = page_result(other)
    with handler.open():
        failed = handler.handle(one, one.entity.key, b"c")
        item = handler.handle(other, other.entity.key, b"c")
    assert failed.failure is not None
    assert not failed.writes
    assert put_of(item)["n"] == 2


@pytest.mark.parametrize("keeps_before", [False, True], ids=["ranged", "dry run"])
def test_an_undecodable_value_fails_only_its_own_entity(keeps_before: bool) -> None:
    """Where all of an entity is looked into after its handler."""

    def handle(self: Any, entity: Entity) -> None:
        entity["n"] = 2
        self.put(entity)

    result = page_result(read())
    result.entity.properties["bad"] = b"\x8a\x01\x02\xff\xfe"  # a text that is not UTF-8
    updater = type("Fix", (Updater,), {"handle_entity": handle})()
    ranged: frozenset[str] = frozenset() if keeps_before else frozenset({"n"})
    query = QueryPlan(None, "", False, False, ranged)
    handler = Handler(CallSetup(updater, query, keeps_before=keeps_before))
    with handler.open():
        item = handler.handle(result, result.entity.key, b"c")
    assert item.failure is not None
    assert not item.writes

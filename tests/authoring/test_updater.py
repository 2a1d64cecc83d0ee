"""What users write: the base class, the decorator, param()."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest
from google.cloud.datastore import Entity

import bulkup
from bulkup import REMOVE, BulkDelete, BulkPut, Updater, param
from bulkup.authoring.function_updater import FunctionUpdater
from bulkup.core.errors import UpdaterError, UsageError
from bulkup.testing import handle, offline_client, query

CLIENT = offline_client()


def entity(name: str = "a", **properties: Any) -> Entity:
    made = Entity(CLIENT.key("Thing", name))
    made.update(properties)
    return made


def refused(use: Callable[[], object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        use()


def writes_of(function: Callable[..., Any]) -> Any:
    return handle(bulkup.updater(kind="Thing")(function), entity())


def test_the_decorated_function_is_the_function() -> None:
    def fix(entity: Any) -> Any:
        return entity

    assert bulkup.updater(kind="Thing")(fix) is fix


def test_a_function_may_return_an_entity_a_deletion_several_or_none() -> None:
    one, two = entity("one"), entity("two")
    assert writes_of(lambda e: one).puts == (one,)
    assert writes_of(lambda e: bulkup.delete(one)).deletes == (one.key,)
    assert writes_of(lambda e: bulkup.delete(one.key)).deletes == (one.key,)
    mixed = writes_of(lambda e: [one, bulkup.delete(two), None, (two,)])
    assert (mixed.puts, mixed.deletes) == ((one, two), (two.key,))
    assert writes_of(lambda e: None).puts == ()


@pytest.mark.parametrize("result", ["text", 5, True, ["text"], CLIENT.key("A", 1), [{"a": 1}, 5]])
def test_anything_else_a_function_returns_is_refused(result: object) -> None:
    with pytest.raises(TypeError, match=r"returns an Entity, bulkup\.delete"):
        writes_of(lambda e: result)


def patched_by(patch: Any, **properties: Any) -> Entity:
    (put,) = handle(bulkup.updater(kind="Thing")(lambda e: patch), entity(**properties)).puts
    return put  # type: ignore[no-any-return]


def test_a_dict_changes_these_properties_and_keeps_the_rest() -> None:
    assert patched_by({"b": 2, "c": None}, a=1, b=1) == entity(a=1, b=2, c=None)
    assert patched_by({}, a=1) == entity(a=1)
    assert patched_by(MappingProxyType({"a": 2}), a=1) == entity(a=2)


def test_a_nested_dict_replaces_the_whole_property() -> None:
    assert patched_by({"home": {"city": "Bern"}}, home={"city": "Köln", "zip": 5}) == entity(
        home={"city": "Bern"}
    )


def test_remove_removes_a_property_and_none_makes_it_null() -> None:
    gone = patched_by({"a": bulkup.REMOVE, "b": None, "z": bulkup.REMOVE}, a=1, b=1, c=1)
    assert gone == entity(b=None, c=1)


def test_remove_is_one_object_wherever_it_is_copied() -> None:
    for copied in (copy.deepcopy({"a": bulkup.REMOVE})["a"], pickle.loads(pickle.dumps(REMOVE))):
        assert copied is bulkup.REMOVE is REMOVE
    assert repr(REMOVE) == "bulkup.REMOVE"


def test_delete_without_arguments_deletes_the_handled_entity() -> None:
    assert writes_of(lambda e: bulkup.delete()).deletes == (entity().key,)


def test_delete_takes_several_and_a_list_that_may_be_empty() -> None:
    one, two, three = entity("one"), entity("two"), entity("three")
    assert writes_of(lambda e: bulkup.delete(one, two.key)).deletes == (one.key, two.key)
    assert writes_of(lambda e: bulkup.delete([one, two], three)).deletes == (
        one.key, two.key, three.key,
    )  # fmt: skip
    assert writes_of(lambda e: bulkup.delete([])).deletes == ()


def test_patches_deletions_and_entities_may_be_mixed() -> None:
    one, two = entity("one"), entity("two")
    mixed = writes_of(lambda e: ({"a": 1}, one, [bulkup.delete(two)], None))
    assert (mixed.puts, mixed.deletes) == ((entity(a=1), one), (two.key,))

    def yields(e: Any) -> Any:
        yield {"a": 1}
        yield bulkup.delete(two)

    assert writes_of(yields).puts == (entity(a=1),)


def test_kind_filters_and_order_make_the_query() -> None:
    function: Any = bulkup.updater(
        kind="Thing", filters=[("age", ">=", 18)], order=["-age", "name"], keys_only=True
    )(lambda e: e)
    made = query(function)
    assert made.kind == "Thing"
    (only,) = made.filters
    assert (only.property_name, only.operator, only.value) == ("age", ">=", 18)
    assert made.order == ["-age", "name"]
    assert made.projection == ["__key__"]


def test_order_may_be_a_single_name() -> None:
    function: Any = bulkup.updater(kind="Thing", order="name")(lambda e: e)
    assert query(function).order == ["name"]


def test_a_query_function_gets_the_client() -> None:
    function: Any = bulkup.updater(query=lambda client: client.query(kind="Other"))(lambda e: e)
    assert query(function).kind == "Other"


def test_a_misused_decorator_says_how_to_use_it() -> None:
    refused(lambda: bulkup.updater(lambda e: e), r'@bulkup\.updater\(kind="\.\.\."\)')  # type: ignore[arg-type]
    refused(lambda: bulkup.updater(), "either kind=")
    refused(lambda: bulkup.updater("A", query=lambda c: c), "either kind=")
    refused(lambda: bulkup.updater(""), "name of a kind")
    refused(lambda: bulkup.updater(5), "name of a kind")  # type: ignore[arg-type]
    refused(lambda: bulkup.updater(query="A"), "takes a function")  # type: ignore[arg-type]
    refused(lambda: bulkup.updater(query=lambda c: c, keys_only=True), "go with kind=")
    refused(lambda: bulkup.updater("A", filters=("age", ">=", 18)), "takes a list")  # type: ignore[arg-type]
    refused(lambda: bulkup.updater("A", filters=[("age", 18)]), "takes a list")  # type: ignore[list-item]
    refused(lambda: bulkup.updater("A", filters=[5]), "takes a list")  # type: ignore[list-item]
    refused(lambda: bulkup.updater("A")(Updater), "subclass of bulkup.Updater")


def test_the_failure_budget_and_rewriting_reach_the_class_form() -> None:
    function = bulkup.updater(kind="A", max_failures=3, rewrite_unchanged=True)(lambda e: e)
    made = FunctionUpdater(function)
    assert (made.max_failures, made.rewrite_unchanged) == (3, True)


class Everything(Updater):
    def handle_entity(self, entity: Entity) -> None:
        self.put(entity)
        entity["later"] = True
        self.put([entity, entity], (e for e in [entity]))
        self.delete(entity, entity.key, [entity.key])
        self.log(5)


def test_put_and_delete_take_one_or_several() -> None:
    writes = handle(Everything, entity())
    assert [dict(e) for e in writes.puts] == [{}, {"later": True}, {"later": True}, {"later": True}]
    assert writes.deletes == (entity().key,) * 3
    assert writes.logs == ("5",)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda u: u.put("a"), "put takes entities, not a str"),
        (lambda u: u.put(Entity()), "has no key"),
        (lambda u: u.put(None), "not a NoneType"),
        (lambda u: u.delete("a"), "cannot delete a str"),
        (lambda u: u.delete(Entity()), "has no key"),
        (lambda u: u.delete(CLIENT.key("A")), "incomplete key"),
    ],
)
def test_put_and_delete_refuse_what_cannot_be_written(call: Any, says: str) -> None:
    made = type("Fix", (Updater,), {"handle_entity": lambda self, e: call(self)})
    with pytest.raises(TypeError, match=says):
        handle(made, entity())


def test_a_method_that_returns_an_entity_fails_because_nothing_would_be_written() -> None:
    made = type("Fix", (Updater,), {"handle_entity": lambda self, e: e})
    with pytest.raises(TypeError, match=r"handle_entity of Fix returned a Entity.*self\.put"):
        handle(made, entity())


def test_writing_outside_handle_entity_is_refused() -> None:
    for call in (Updater().put, Updater().delete):
        with pytest.raises(RuntimeError, match="while bulkup runs handle_entity"):
            call(entity())
    with pytest.raises(RuntimeError, match="while bulkup runs handle_entity"):
        Updater().log("a")


def test_a_missing_method_is_named() -> None:
    with pytest.raises(UpdaterError, match="has no get_query"):
        Updater().get_query()
    with pytest.raises(NotImplementedError, match="has no handle_entity"):
        handle(Updater, entity())


def test_bulk_put_and_bulk_delete() -> None:
    assert handle(BulkPut, entity(a=1)).puts == (entity(a=1),)
    assert BulkPut.rewrite_unchanged
    assert handle(BulkDelete, entity()).deletes == (entity().key,)


class WithParameters(Updater):
    size: int = param(3, help="how large")
    name: str = param()


def test_on_an_instance_created_by_hand_a_parameter_reads_as_its_default() -> None:
    made = WithParameters()
    assert made.size == 3
    made.size = 4
    assert (made.size, WithParameters().size) == (4, 3)


def test_reading_a_parameter_with_neither_default_nor_value_fails() -> None:
    with pytest.raises(AttributeError, match="'name' of WithParameters has neither a value nor"):
        _ = WithParameters().name

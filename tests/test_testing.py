"""The helpers for users' own tests."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from google.cloud.datastore import Entity

import bulkup
from bulkup import Updater, param
from bulkup.core.errors import ParameterError, UsageError
from bulkup.testing import handle, offline_client, query


class Fix(Updater):
    day: date = param()
    updater: str = param("u")

    def get_query(self) -> Any:
        return self.client.query(kind=f"Kind{self.day.year}")

    def handle_entity(self, entity: Entity) -> None:
        entity["day"] = self.day.isoformat() + self.updater
        self.put(entity)
        if "fail" in entity:
            raise ValueError("failed")


def thing(**properties: Any) -> Entity:
    entity = Entity(offline_client().key("Thing", 1))
    entity.update(properties)
    return entity


def test_parameters_are_values_or_strings_of_any_name() -> None:
    assert handle(Fix, thing(), day="2024-01-31").puts[0]["day"] == "2024-01-31u"
    assert handle(Fix, thing(), day=date(2024, 1, 31), updater="v").puts[0]["day"] == "2024-01-31v"
    assert query(Fix, day="2024-01-31").kind == "Kind2024"


def test_puts_are_snapshots() -> None:
    @bulkup.updater(kind="Thing")
    def twice(entity: Entity) -> Any:
        entity["tags"] = ["one"]
        yield entity
        entity["tags"].append("two")
        yield entity

    assert [e["tags"] for e in handle(twice, thing()).puts] == [["one"], ["one", "two"]]


def test_an_instance_keeps_its_parameters_and_client() -> None:
    made = Fix()
    made.day = date(2023, 1, 1)
    made.client = client = offline_client()
    assert handle(made, thing()).puts[0]["day"] == "2023-01-01u"
    assert made.client is client
    with pytest.raises(TypeError, match="has its parameters already"):
        handle(made, thing(), day="2024-01-31")


def test_the_handlers_exception_is_raised_and_leaves_no_state() -> None:
    made = Fix()
    made.day = date(2023, 1, 1)
    with pytest.raises(ValueError, match="failed"):
        handle(made, thing(fail=1))
    with pytest.raises(RuntimeError, match="while bulkup runs handle_entity"):
        made.log("after")


def test_wrong_parameters_are_refused_like_on_the_command_line() -> None:
    with pytest.raises(ParameterError, match="needs -p day"):
        handle(Fix, thing())
    with pytest.raises(ParameterError, match="no parameter dya"):
        handle(Fix, thing(), dya="2024-01-31")


def test_a_function_that_is_not_decorated_is_refused() -> None:
    with pytest.raises(UsageError, match=r"@bulkup\.updater"):
        handle(lambda entity: entity, thing())

"""Patches that functions of typed entities return are checked as what handlers put is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

import pydantic
import pytest

import bulkup
from tests.cli.shell import entity, put
from tests.conftest import Server
from tests.engine.conftest import Run


class DictPerson(TypedDict):
    name: str
    age: int


@dataclass
class DataPerson:
    name: str
    age: int


class ModelPerson(pydantic.BaseModel, strict=True):
    name: str
    age: int


@pytest.mark.parametrize("model", [DictPerson, DataPerson, ModelPerson])
@pytest.mark.parametrize("form", ["one", "batch", "async"])
def test_a_patch_is_checked_by_the_types_of_the_fields(
    embedded: Server, run: Run, model: Any, form: str
) -> None:
    client = embedded.client()
    ages = {1: 30, 2: "31", 3: bulkup.REMOVE, 4: None, 5: 40}
    put(client, [entity(client, "Person", i, name=str(i), age=20 + i) for i in ages])

    def patch(person: Any) -> Any:
        name = person["name"] if model is DictPerson else person.name
        return {"age": ages[int(name)], "other": 1.5}

    def patch_all(people: Any) -> Any:
        return list(map(patch, people))

    async def patch_async(person: Any) -> Any:
        return patch(person)

    function: Any = {"one": patch, "batch": patch_all, "async": patch_async}[form]
    function.__annotations__ = {"person": model, "people": list[model]}
    mark = bulkup.updater(kind="Person", max_failures=-1, batch=form == "batch", concurrency=1)
    fix = mark(function)
    report = run(embedded, fix, shards=1)
    assert report.counts.failed == 2, report
    assert sorted(failure.key for failure in report.failures) == [
        "Key('Person', 2)", "Key('Person', 4)",
    ]  # fmt: skip
    assert all("property 'age'" in failure.error for failure in report.failures), report.failures
    after = {e.key.id: e.get("age") for e in client.query(kind="Person").fetch()}
    assert after == {1: 30, 2: 22, 3: None, 4: 24, 5: 40}

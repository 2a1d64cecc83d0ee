"""What an export may hold, and a commit refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bulkup.local import messages as m
from bulkup.local.access import LocalFile, OpenFile
from bulkup.local.importing.load import load_export
from bulkup.local.importing.report import Group
from bulkup.local.status import RpcError
from bulkup.local.storage import Storage
from tests.local.importing.made import (
    PLACE,
    entity,
    made,
    people,
)


def test_reserved_kinds_and_keys_that_nobody_could_look_up_are_counted(path: Path) -> None:
    foreign = entity("K", 1)
    foreign.key.partition_id.project_id = "elsewhere"
    odd = [
        entity("__BlobInfo__", "a"), entity("__BlobInfo__", "b"), entity("K", "__x__"),
        entity("K", 1, namespace="bad namespace"), foreign, m.Entity(), *people(1),
    ]  # fmt: skip
    report = load_export(path, made(odd))
    assert (report.entities, report.exported) == (1, 7)
    assert report.skipped == (
        Group("__BlobInfo__", 'The kind "__BlobInfo__" is reserved.', 2, "[__BlobInfo__: 'a']"),
        Group("", "The key path must not be empty.", 1, "[]"),
        Group("K", 'The key path element name "__x__" is reserved.', 1, "[K: '__x__']"),
        Group("K", 'Illegal string "bad namespace" in namespace id.', 1, "[K: 1]"),
        Group("K", "It is of another database: elsewhere/(default)", 1, "[K: 1]"),
    )


def value(**fields: Any) -> Any:
    return m.Value(**fields)


def odd_entities() -> dict[str, Any]:
    incomplete = m.Key()
    incomplete.path.add(kind="K", id=1)
    incomplete.path.add(kind="K")
    lists = value()
    lists.array_value.values.add().array_value.values.add(integer_value=1)
    nested = value()
    nested.entity_value.properties["s"].string_value = "x" * 1501
    nested.entity_value.properties["n"].integer_value = 5
    array = value()
    array.array_value.values.add(string_value="y" * 1501)
    array.array_value.values.add(string_value="short")
    odd = {
        "long": value(string_value="x" * 1501),
        "blob": value(blob_value=b"x" * 1501),
        "text": value(string_value="text", meaning=15),
        "zlib": value(blob_value=b"z", meaning=22),
        "key": value(key_value=incomplete),
        "array_in_array": lists,
        "nested": nested,
        "array": array,
        "excluded": value(
            array_value={"values": [value(integer_value=1)]}, exclude_from_indexes=True
        ),
        "point": value(geo_point_value={"latitude": 91.0}),
        "meaning": value(integer_value=1, meaning=9),
        "nothing": value(),
    }
    found = {name: entity("Odd", name, odd=one, n=1) for name, one in odd.items()}
    found["reserved"] = entity("Odd", "reserved", __x__=1, n=1)
    found["large"] = entity(
        "Odd",
        "large",
        n=1,
        a=value(string_value="x" * 600_000, exclude_from_indexes=True),
        b=value(string_value="x" * 600_000, exclude_from_indexes=True),
    )
    return found


def test_what_a_commit_refuses_is_loaded_as_it_is_and_told(path: Path) -> None:
    odd = odd_entities()
    report = load_export(path, made([*odd.values(), *people(1)]))
    assert report.entities == len(odd) + 1
    assert report.irregular_entities == len(odd)
    assert {group.kind for group in report.irregular} == {"Odd"}
    by_key = sorted(odd.values(), key=lambda one: one.key.path[0].name)
    with LocalFile(path, PLACE) as file:
        loaded = list(file.entities("Odd"))
        assert loaded == by_key
        assert file.count("Odd") == len(odd)


def queried(file: LocalFile, name: str, **given: Any) -> list[str]:
    request = file._request(m.RunQueryRequest)
    request.query.kind.add(name="Odd")
    condition = request.query.filter.property_filter
    condition.property.name = name
    condition.op = m.PropertyFilter.EQUAL
    condition.value.CopyFrom(value(**given))
    batch = m.RunQueryResponse.FromString(file._answer("RunQuery", request)).batch
    return [one.entity.key.path[0].name for one in batch.entity_results]


def test_what_an_index_can_hold_of_them_is_found(path: Path) -> None:
    odd = odd_entities()
    load_export(path, made([*odd.values()]))
    with LocalFile(path, PLACE) as file:
        assert len(queried(file, "n", integer_value=1)) == len(odd)
        assert queried(file, "odd", string_value="text") == ["text"]
        assert queried(file, "odd", string_value="short") == ["array"]
        assert queried(file, "odd.n", integer_value=5) == ["nested"]
        assert queried(file, "odd", integer_value=1) == ["array_in_array", "meaning"]


@pytest.mark.parametrize("defer", [False, True])
@pytest.mark.parametrize("name", [one for one in odd_entities() if one != "excluded"])
def test_an_updater_can_mend_them_and_nothing_else(path: Path, name: str, defer: bool) -> None:
    odd = odd_entities()[name]
    load_export(path, made([odd]))
    storage = Storage(path)
    try:
        file = OpenFile(storage, PLACE)
        if defer:
            for number in range(3):
                file.put([entity("Other", number + 1, n=1)])
        touched = type(odd)()
        touched.CopyFrom(odd)
        touched.properties["touched"].integer_value = 1
        with pytest.raises(RpcError):
            file.put([touched])
        corrected = entity("Odd", name, n=2)
        file.put([corrected])
        assert queried(file, "n", integer_value=1) == []
        assert queried(file, "n", integer_value=2) == [name]
    finally:
        storage.close()

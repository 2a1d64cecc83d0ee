"""The dry run's texts: what changes, in one printable line, the difference in sight."""

from __future__ import annotations

import datetime
from typing import Any

from google.cloud.datastore import Entity, Key
from google.cloud.datastore.helpers import GeoPoint

from bulkup.datastore.entity_diff import TEXT_WIDTH, describe_changes, value_text
from bulkup.datastore.entity_patch import encode_put
from bulkup.datastore.lazy_entity import LazyEntity
from bulkup.datastore.messages import ValuePb

KEY = Key("City", 5, project="p")


def lazy(**properties: Any) -> LazyEntity:
    entity = Entity(key=KEY)
    entity.update(properties)
    return LazyEntity(encode_put(entity))


def changes(entity: LazyEntity, **assigned: Any) -> Any:
    entity.update(assigned)
    return describe_changes(entity, encode_put(entity, rewrite=True))


def test_only_what_changes_is_described_and_by_name() -> None:
    entity = lazy(b=1, a="x", same=[1])
    del entity["b"]
    assert changes(entity, a="y", c=None) == (
        ("a", "'x'", "'y'"),
        ("b", "1", None),
        ("c", None, "None"),
    )
    assert changes(lazy(a=1)) == ()


def test_all_properties_of_a_new_or_moved_entity_are_new() -> None:
    entity = lazy(a=1)
    assert describe_changes(None, encode_put(entity, rewrite=True)) == (("a", None, "1"),)
    entity.key = Key("City", 6, project="p")
    assert describe_changes(entity, encode_put(entity)) == (("a", None, "1"),)


def test_values_are_shown_as_short_printable_python() -> None:
    inner = Entity()
    inner.update(n=1, x="\n")
    values = {
        "text": ("\x1b[31m\u202e", r"'\x1b[31m\u202e'"),
        "blob": (b"\x00", r"b'\x00'"),
        "time": (datetime.datetime(2020, 1, 2, 3, 4, 5, 6), "2020-01-02T03:04:05.000006+00:00"),
        "place": (GeoPoint(1.0, -2.5), "GeoPoint(1.0, -2.5)"),
        "key": (Key("A", "\r", project="p", namespace="n"), r"Key('A', '\r', namespace='n')"),
        "list": ([1, 2.0, True, None, inner], r"[1, 2.0, True, None, {'n': 1, 'x': '\n'}]"),
    }
    found = describe_changes(
        None, encode_put(lazy(**{n: v for n, (v, _) in values.items()}), rewrite=True)
    )
    assert {name: after for name, _, after in found} == {n: text for n, (_, text) in values.items()}
    assert value_text(ValuePb()) == "<unknown type>"
    assert value_text(ValuePb(timestamp_value={"seconds": 10**15})) == f"<timestamp of {10**15} s>"


def test_long_values_are_cut_to_where_they_differ() -> None:
    [(_, before, after)] = changes(lazy(a="x" * 500 + "old"), a="x" * 500 + "new")
    assert before == f"…{'x' * 20}old'"
    assert after == f"…{'x' * 20}new'"
    [(_, before, after)] = changes(lazy(a="x" * 500), a="y" * 500)
    assert before == f"'{'x' * (TEXT_WIDTH - 2)}…"
    assert after == f"'{'y' * (TEXT_WIDTH - 2)}…"
    [(_, before, after)] = changes(lazy(a="x" * 500), a="x" * 600)
    assert before != after
    assert max(len(before), len(after)) <= TEXT_WIDTH


def test_a_change_of_index_flags_alone_is_shown() -> None:
    entity = lazy(a="x" * 100, b=[{"c": 1}])
    entity.exclude_from_indexes.add("a")
    entity["b"][0].exclude_from_indexes.add("c")
    (_, a_before, a_after), (_, b_before, b_after) = changes(entity)
    assert a_before.endswith("… (indexed)")
    assert a_after.endswith("… (not indexed)")
    assert len(a_after) <= TEXT_WIDTH
    assert (b_before, b_after) == (
        "[{'c': 1}]",
        "[{'c': 1}] (other index flags or meanings inside)",
    )

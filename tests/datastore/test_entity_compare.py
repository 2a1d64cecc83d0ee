"""Entities are compared to the bit, and keys relative to where each entity is."""

from __future__ import annotations

from typing import Any

import pytest

from bulkup.datastore.entity_compare import (
    EntityComparison,
    Partition,
    property_differences,
    with_properties,
)
from bulkup.datastore.keys import key_bytes
from bulkup.datastore.messages import EntityPb, ValuePb
from bulkup.datastore.pages import PageEntity
from tests.local.differential.build import Geo, Place, Time, Unindexed

A, B = Place("shop"), Place("shop", "copy")
HERE = EntityComparison(Partition("shop", "", ""), Partition("shop", "", ""))
APART = EntityComparison(Partition("shop", "", ""), Partition("shop", "", "copy"))


def entity(place: Place, **properties: Any) -> Any:
    return PageEntity.FromString(place.entity(("Item", 1), properties).SerializeToString())


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0), (0.0, -0.0), (1, True), ("a", b"a"), ("a", Unindexed("a")), (None, ""),
        ([1, 2], [2, 1]), ([1], [Unindexed(1)]), ({"x": 1}, {"x": Unindexed(1)}), ([], None),
        (Time(1), Time(1, 1000)), (Geo(0.0, 0.0), Geo(-0.0, 0.0)),
    ],
)  # fmt: skip
def test_values_that_look_alike_differ(one: Any, other: Any) -> None:
    for comparison, place in ((HERE, A), (APART, B)):
        assert comparison.differing(entity(A, p=one), entity(place, p=other)) == ["p"]
        assert comparison.differing(entity(A, p=one), entity(place, p=one)) == []


def test_a_meaning_is_part_of_a_value() -> None:
    one, other = ValuePb(string_value="a"), ValuePb(string_value="a", meaning=15)
    assert HERE.differing(entity(A, p=one), entity(A, p=other)) == ["p"]


def test_nan_equals_itself() -> None:
    assert HERE.differing(entity(A, p=float("nan")), entity(A, p=float("nan"))) == []


def test_properties_of_one_side_differ() -> None:
    assert HERE.differing(entity(A, p=1, q=2), entity(A, q=2)) == ["p"]
    assert HERE.differing(entity(A, q=2), entity(A, p=1, q=2)) == ["p"]
    assert HERE.differing(entity(A, p=1), entity(A, q=1)) == ["p", "q"]


def test_the_order_of_nested_properties_says_nothing() -> None:
    names = [f"n{i}" for i in range(50)]
    forth, back = (EntityPb() for _ in range(2))
    for pb, order in ((forth, names), (back, reversed(names))):
        for name in order:
            pb.properties[name].integer_value = 1
    one, other = ValuePb(entity_value=forth), ValuePb(entity_value=back)
    serialized = [PageEntity(properties={"p": value.SerializeToString()}) for value in (one, other)]
    assert HERE.differing(*serialized) == []


@pytest.mark.parametrize("wrap", [lambda key: key, lambda key: [1, key], lambda key: {"n": key}])
def test_a_key_inside_a_value_is_relative_to_its_own_side(wrap: Any) -> None:
    own_a, own_b = wrap(A.key("Item", 2)), wrap(B.key("Item", 2))
    foreign = wrap(Place("other").key("Item", 2))
    assert APART.differing(entity(A, p=own_a), entity(B, p=own_b)) == []
    assert APART.differing(entity(A, p=foreign), entity(B, p=foreign)) == []
    # A copy whose references still lead to the original differs from it.
    assert APART.differing(entity(A, p=own_a), entity(B, p=own_a)) == ["p"]
    assert HERE.differing(entity(A, p=own_a), entity(A, p=own_b)) == ["p"]


def test_a_relative_key_is_the_same_in_every_partition() -> None:
    one, other = Partition("shop", "", ""), Partition("shop", "db", "copy")
    key = A.key("Item", 2, "Part", "a")
    moved = A.key("Item", 2, "Part", "a")
    moved.partition_id.database_id, moved.partition_id.namespace_id = "db", "copy"
    relative = one.relative(key_bytes(key))
    assert relative == other.relative(key_bytes(moved)) == other.relative(key_bytes(key))
    assert one.absolute(relative) == key_bytes(key)
    assert other.absolute(relative) == key_bytes(moved)


def test_types_say_what_differs() -> None:
    one = entity(A, p=1, q="a", r="x")
    other = entity(A, p="1", q=Unindexed("a"), s=None)
    found = property_differences(one, other, HERE.differing(one, other))
    assert {one.name: one.types() for one in found} == {
        "p": ("integer", "string"),
        "q": ("string", "string, not indexed"),
        "r": ("string", "absent"),
        "s": ("absent", "null"),
    }


def test_chosen_properties_are_taken_from_another_entity() -> None:
    now, then = entity(A, p=1, q=2, new=3), entity(A, p=5, gone=6, q=7)
    made = PageEntity.FromString(with_properties(now, then, ["p", "gone", "new"]))
    assert HERE.differing(made, entity(A, p=5, q=2, gone=6)) == []

"""Encoded keys and values sort in Datastore's order."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkup.local import messages as m
from bulkup.local.encoding import (
    KEY,
    Partition,
    decode_path,
    decode_value,
    encode_path,
    encode_value,
    key_message,
    path_end,
)

HOME = Partition("p", "", "")
names = st.text(min_size=1, max_size=6, alphabet=st.sampled_from("ab\x00\x01ÿé\U0001f600z"))
idents = st.one_of(st.integers(1, 2**63 - 1), names)
paths = st.lists(st.tuples(names, idents), min_size=1, max_size=4)


def path_of(elements: list[tuple[str, Any]]) -> bytes:
    key = m.Key()
    for kind, ident in elements:
        key.path.add(kind=kind, **{"name" if isinstance(ident, str) else "id": ident})
    return encode_path(key.path)


def rank(elements: list[tuple[str, Any]]) -> list[tuple[bytes, int, Any]]:
    """How keys compare: element by element; kind, then ids before names."""
    return [
        (kind.encode(), 1, ident.encode()) if isinstance(ident, str) else (kind.encode(), 0, ident)
        for kind, ident in elements
    ]


@given(paths, paths)
def test_paths_sort_as_their_elements_do(one: Any, other: Any) -> None:
    assert (path_of(one) < path_of(other)) == (rank(one) < rank(other))


@given(paths)
def test_a_path_survives_a_round_trip(path: Any) -> None:
    assert list(decode_path(path_of(path))) == path
    key = key_message(HOME, path_of(path))
    assert encode_path(key.path) == path_of(path)


@given(paths, paths)
def test_the_range_of_an_ancestor_holds_its_descendants_and_nothing_else(
    one: Any, other: Any
) -> None:
    inside = path_of(one) <= path_of(other) < path_end(path_of(one))
    assert inside == (other[: len(one)] == one)


def value(**fields: Any) -> Any:
    return m.Value(**fields)


def timestamp(micros: int) -> Any:
    out = m.Value()
    out.timestamp_value.seconds, rest = divmod(micros, 10**6)
    out.timestamp_value.nanos = rest * 1000
    return out


def point(latitude: float, longitude: float) -> Any:
    out = m.Value()
    out.geo_point_value.latitude = latitude
    out.geo_point_value.longitude = longitude
    return out


def key_value(*path: tuple[str, Any]) -> Any:
    return m.Value(key_value=key_message(HOME, path_of(list(path))))


IN_ORDER = [
    value(null_value=0),
    value(integer_value=-(2**63)),
    timestamp(-62135596800 * 10**6),
    value(integer_value=-1),
    value(integer_value=0),
    timestamp(1),
    value(integer_value=2),
    value(integer_value=2**63 - 1),
    value(boolean_value=False),
    value(boolean_value=True),
    value(string_value=""),
    value(blob_value=b"\x00"),
    value(string_value="a"),
    value(string_value="ab"),
    value(string_value="b"),
    value(string_value="é"),
    value(blob_value=b"\xff"),
    value(double_value=-math.inf),
    value(double_value=-1.5),
    value(double_value=-5e-324),
    value(double_value=-0.0),
    value(double_value=0.0),
    value(double_value=5e-324),
    value(double_value=1.5),
    value(double_value=math.inf),
    value(double_value=math.nan),
    point(-90, 0),
    point(1, -2),
    point(1, 2),
    key_value(("A", 1)),
    key_value(("A", 1), ("B", 1)),
    key_value(("A", 2)),
    key_value(("A", "1")),
    key_value(("B", 1)),
]


def test_values_sort_by_type_and_then_by_value() -> None:
    encoded = [encode_value(one) or b"" for one in IN_ORDER]
    assert encoded == sorted(encoded)
    assert len(set(encoded)) == len(encoded)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (timestamp(7), value(integer_value=7)),
        (value(string_value="x"), value(blob_value=b"x")),
    ],
)
def test_equal_values_have_equal_bytes(one: Any, other: Any) -> None:
    assert encode_value(one) == encode_value(other)


def test_an_integer_never_equals_a_double() -> None:
    assert encode_value(value(integer_value=7)) != encode_value(value(double_value=7.0))


@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
def test_integers_sort_by_number(one: int, other: int) -> None:
    encoded = [encode_value(value(integer_value=n)) or b"" for n in (one, other)]
    assert (encoded[0] < encoded[1]) == (one < other)


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_doubles_sort_by_number(one: float, other: float) -> None:
    encoded = [encode_value(value(double_value=n)) or b"" for n in (one, other)]
    assert (encoded[0] < encoded[1]) == (one < other)


@pytest.mark.parametrize("stored", IN_ORDER, ids=range(len(IN_ORDER)))
def test_a_projection_returns_the_value(stored: Any) -> None:
    encoded = encode_value(stored)
    assert encoded is not None
    found = decode_value(encoded)
    assert encode_value(found) == encoded
    if stored.WhichOneof("value_type") == "timestamp_value":
        assert found.integer_value == m.micros_of(stored.timestamp_value)
    elif stored.WhichOneof("value_type") == "blob_value" and stored.blob_value != b"\xff":
        assert found.string_value.encode() == stored.blob_value
    elif stored.double_value == stored.double_value:
        assert found.meaning == 18
        found.meaning = 0
        assert found == stored


@pytest.mark.parametrize(
    "junk", [b"", b"\x00", b"A", b"A\x00", b"A\x00\x01\x01abc", b"A\x00\x01\x09"]
)
def test_other_bytes_are_not_a_path(junk: bytes) -> None:
    if not junk:
        assert list(decode_path(junk)) == []
        return
    with pytest.raises(ValueError, match="not an encoded path"):
        list(decode_path(junk))


def test_a_key_value_includes_its_partition() -> None:
    key = m.Key()
    key.partition_id.project_id = "q"
    key.partition_id.namespace_id = "n"
    key.path.add(kind="A", id=1)
    encoded = encode_value(m.Value(key_value=key))
    assert encoded is not None
    assert encoded[:1] == KEY
    assert decode_value(encoded).key_value == key

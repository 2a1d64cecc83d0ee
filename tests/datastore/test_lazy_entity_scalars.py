"""Entities users build themselves go out as the official client would send them."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from typing import Any

import pytest
from google.cloud.datastore import Entity, Key
from google.cloud.datastore.helpers import GeoPoint, entity_from_protobuf, entity_to_protobuf
from hypothesis import given
from hypothesis import strategies as st

from bulkup.datastore.entity_patch import encode_put
from bulkup.datastore.lazy_entity import LazyEntity

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
NAMES = st.sampled_from(["a", "b", "c"]) | TEXT
ZONES = st.none() | st.builds(
    datetime.timezone, st.builds(datetime.timedelta, minutes=st.integers(-600, 600))
)
KEYS = st.builds(
    lambda kind, id_, namespace: Key("Country", "x", kind, *id_, project="p", namespace=namespace),
    TEXT,
    st.sampled_from([(), (5,), ("five",)]),
    st.sampled_from([None, "n"]),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    TEXT,
    st.binary(max_size=4),
    st.datetimes(datetime.datetime(2, 1, 1), datetime.datetime(9999, 12, 30), timezones=ZONES),
    KEYS.filter(lambda key: not key.is_partial),  # an incomplete key is refused as a value
    st.builds(GeoPoint, st.floats(-90, 90), st.sampled_from([0.0, -0.0, 5, None])),
)


@st.composite
def entities(draw: st.DrawFn, values: Any, keys: Any = KEYS) -> Entity:
    entity = Entity(key=draw(keys))
    entity.update(draw(st.dictionaries(NAMES, values, max_size=5)))
    for name, value in entity.items():
        if draw(st.booleans()):
            entity.exclude_from_indexes.add(name)
        elements = st.lists(st.none() | st.sampled_from([9, 15]), max_size=3)
        meaning = draw(
            st.none()
            | st.sampled_from([9, 15])
            | (
                st.tuples(st.none() | st.just(24), st.none() | elements) | elements
                if isinstance(value, list)
                else st.nothing()
            )
        )
        if draw(st.booleans()):
            entity._meanings[name] = (meaning, draw(st.sampled_from([value, "another"])))
    return entity


VALUES = st.recursive(
    SCALARS,
    lambda values: (
        st.lists(values, max_size=3)
        | st.dictionaries(NAMES, values, max_size=3)
        | entities(values, st.none() | KEYS)
    ),
    max_leaves=8,
)


@given(entities(VALUES))
def test_an_entity_encodes_as_the_official_client_encodes_it(entity: Entity) -> None:
    assert encode_put(entity) == entity_to_protobuf(entity)._pb


@given(entities(VALUES))
def test_an_entity_the_official_client_read_is_written_as_it_writes_it(entity: Entity) -> None:
    entity._meanings.clear()  # not all generated ones are of a form that comes back
    pb = encode_put(entity)
    read = entity_from_protobuf(pb)
    assert encode_put(read) == entity_to_protobuf(read)._pb


@given(entities(VALUES))
def test_the_official_client_can_write_a_lazy_entity(entity: Entity) -> None:
    entity._meanings.clear()
    pb = encode_put(entity)
    assert (
        entity_to_protobuf(LazyEntity(pb))._pb == entity_to_protobuf(entity_from_protobuf(pb))._pb
    )


class Colour(str, enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    BIG = 3


class Celsius(float):
    pass


class Settings(dict):  # type: ignore[type-arg]
    pass


class Bag(list):  # type: ignore[type-arg]
    pass


@pytest.mark.parametrize(
    "value",
    [
        Colour.RED,
        Size.BIG,
        Celsius(1.5),
        Settings(a=1),
        Bag([1, Bag()]),
        Entity(),
        {},
        [],
        datetime.datetime(1970, 1, 1),
        GeoPoint(0.0, 0.0),
    ],
)
def test_subclasses_and_empty_values_are_encoded_like_their_type(value: Any) -> None:
    entity = Entity(key=Key("City", 5, project="p"))
    entity["value"] = value
    pb = encode_put(entity)
    assert pb == entity_to_protobuf(entity)._pb
    lazy = LazyEntity(pb)
    lazy["value"] = value
    assert encode_put(lazy) is None


FAR_WEST = datetime.timezone(datetime.timedelta(hours=-5))

REFUSED = [
    (2**63, "64 bits"),
    (-(2**63) - 1, "64 bits"),
    ("\ud800", "UTF-8"),
    (datetime.date(2020, 1, 1), "date; use a datetime"),
    (datetime.timedelta(1), "cannot store a timedelta"),
    ((1, 2), "tuple; use a list"),
    ({1, 2}, "set; use a list"),
    (bytearray(b"x"), "bytearray; use bytes"),
    (decimal.Decimal(1), "Decimal; use a float or a str"),
    (uuid.UUID(int=1), "UUID; use a str"),
    (object(), "cannot store a object"),
    (datetime.datetime(9999, 12, 31, 23, tzinfo=FAR_WEST), "years 1 to 9999"),
    (GeoPoint("north", 1.0), ""),
    (Key("A", 2**63, project="p"), r"Key\('A', 9223372036854775808\) .* 64 bits"),
    ({"inner": (1,)}, r"property 'inner': .*tuple"),
    ([{"inner": [2**63]}], r"property 'inner': .*64 bits"),
    ({5: 1}, r"property 5: a property's name is a str"),
    ({"\ud800": 1}, r"property '\\ud800': its name is not valid UTF-8"),
]


@pytest.mark.parametrize(("value", "reason"), REFUSED)
def test_a_value_that_cannot_be_stored_is_refused_naming_its_property(
    value: Any, reason: str
) -> None:
    plain = Entity(key=Key("City", 5, project="p"))
    plain["bad\n"] = value
    with pytest.raises((ValueError, TypeError, OverflowError)):
        entity_to_protobuf(plain)
    added = LazyEntity(encode_put(Entity(key=plain.key)))
    added["bad\n"] = value
    nothing = Entity(key=plain.key)
    nothing["bad\n"] = None
    changed = LazyEntity(encode_put(nothing))
    changed["bad\n"] = value
    for entity in (plain, added, changed):
        with pytest.raises((ValueError, TypeError), match=rf"^property 'bad\\n': .*{reason}"):
            encode_put(entity)


@pytest.mark.parametrize("name", [5, None, "\ud800", ("a",)])
def test_an_invalid_property_name_is_refused(name: Any) -> None:
    plain = Entity(key=Key("City", 5, project="p"))
    lazy = LazyEntity(encode_put(plain))
    for entity in (plain, lazy):
        entity[name] = 1
        with pytest.raises((TypeError, ValueError), match=r"^property .*: .*(str|UTF-8|utf-8)"):
            encode_put(entity)


def test_an_entity_that_contains_itself_is_refused() -> None:
    plain = Entity(key=Key("City", 5, project="p"))
    lazy = LazyEntity(encode_put(plain))
    for entity in (plain, lazy):
        entity["list"] = [entity]
        with pytest.raises(ValueError, match="contains itself"):
            encode_put(entity)

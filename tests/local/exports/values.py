"""Made-up entities: every type of value, every meaning that is accepted, three namespaces."""

from __future__ import annotations

from typing import Any

from bulkup.local import messages as m
from bulkup.local.exports.record_log import BLOCK_BYTES
from tests.local.differential.build import Geo, Place, Time, Unindexed, value

NAMESPACES = ("", "asia", "europe.west-1")


def with_meaning(plain: Any, meaning: int, *, unindexed: bool = False) -> Any:
    made = value(plain)
    made.meaning = meaning
    made.exclude_from_indexes = unindexed
    return made


def keyed(key: Any, /, **properties: Any) -> Any:
    """An entity value with a key."""
    made = value(properties)
    made.entity_value.key.CopyFrom(key)
    return made


def values(place: Place) -> dict[str, Any]:
    """By name. What LF and FS take both."""
    elsewhere = Place(place.project, "asia")
    user = {
        "email": Unindexed("ada@example.com"),
        "auth_domain": Unindexed("example.com"),
        "user_id": Unindexed("118"),
    }
    return {
        "null": None,
        "null_unindexed": Unindexed(None),
        "true": True,
        "false": False,
        "integer": 42,
        "integer_min": -(2**63),
        "integer_max": 2**63 - 1,
        "integer_unindexed": Unindexed(7),
        "double": 1.5,
        "double_minus_zero": -0.0,
        "double_nan": float("nan"),
        "double_infinite": float("-inf"),
        "double_unindexed": Unindexed(2.5),
        "string": "Grüße, 東京 \U0001f600",
        "string_empty": "",
        "string_nul": "a\0b",
        "string_unindexed": Unindexed("long " * 400),
        "blob": b"\xff\0\x80",
        "blob_empty": b"",
        "blob_unindexed": Unindexed(b"\0\1"),
        "time": Time(1_700_000_000, 123_456_000),
        "time_before_1970": Time(-5, 1_000),
        "time_first": Time(-62_135_596_800),
        "time_last": Time(253_402_300_799, 999_999_000),
        "time_nanoseconds": Time(5, 123_456_789),
        "time_unindexed": Unindexed(Time(1)),
        "point": Geo(48.8, -2.25),
        "point_unindexed": Unindexed(Geo(-90.0, 180.0)),
        "key": place.key("City", "Köln", "Street", 7),
        "key_of_another_namespace": elsewhere.key("City", 1),
        "key_of_another_project": Place("another-project").key("City", 2),
        "key_unindexed": Unindexed(place.key("City", 3)),
        "array": [1, "a", None, 2.5, b"b", Time(1), True, Geo(1.0, 2.0), place.key("City", 1)],
        "array_empty": [],
        "array_of_one": [1],
        "array_unindexed": [Unindexed(1), Unindexed("x")],
        "array_mixed": ["indexed", Unindexed("unindexed"), Unindexed("also")],
        "array_of_entities": [{"x": 1}, {"x": [2, 3]}, {}],
        "entity": {"n": 1, "list": [1, "x"], "inner": {"deep": {"deeper": None}}},
        "entity_empty": {},
        "entity_unindexed": Unindexed({"n": Unindexed(1)}),
        "entity_with_key": keyed(place.key("Inner", 5), n=1),
        "entity_with_name": keyed(elsewhere.key("Outer", "o", "Inner", "i"), n=1),
        "entity_with_incomplete_key": keyed(place.key("Inner", None), n=1),
        "meaning_7_far_time": with_meaning(2**62, 7),
        "meaning_13_percent": with_meaning(50, 13),
        "meaning_15_text": with_meaning("text", 15, unindexed=True),
        "meaning_16_bytes": with_meaning(b"bytes", 16),
        "meaning_16_bytes_unindexed": with_meaning(b"bytes", 16, unindexed=True),
        "meaning_20_user": with_meaning(user, 20),
        "meaning_22_zlib": with_meaning(b"x\x9c\x03\0\0\0\0\1", 22, unindexed=True),
        "meaning_29": with_meaning(1, 29),
        "meaning_30": with_meaning(1, 30),
        **{
            f"meaning_{number}_string": with_meaning("string", number)
            for number in (1, 2, 3, 4, 5, 6, 8, 10, 11, 12, 17)
        },
    }


ONLY = {
    "LF": {"meaning_23_point": with_meaning(Geo(3.0, 4.0), 23)},
    "FS": {"meaning_31_vector": with_meaning([1.0, -2.5], 31, unindexed=True)},
}
"""Values that only one of the emulators takes."""


def entities(project: str, server: str, *, large: bool = True) -> list[Any]:
    """Of an emulator, `LF` or `FS`; of both for any other name."""
    made = []
    for namespace in NAMESPACES:
        place = Place(project, namespace)
        every = {**values(place), **ONLY.get(server, {})}
        made += [place.entity(("Value", name), {"value": every[name]}) for name in every]
        made += [
            place.entity(("All", 1), every),
            place.entity(("Path", "Ä"), {}),
            place.entity(("Path", "Ä", "Path", 2**63 - 1, "Leaf", "l"), {"n": 1}),
        ]
    if not large:
        return made
    # A record that fills several blocks, and one that ends at the edge of one.
    place = Place(project)
    made += [
        place.entity(("Large", number), {"s": Unindexed("x" * size)})
        for number, size in enumerate((900_000, BLOCK_BYTES - 100, BLOCK_BYTES - 7), 1)
    ]
    return made


def key_bytes(entity: Any) -> bytes:
    return bytes(entity.key.SerializeToString(deterministic=True))


def after_export(entity: Any) -> Any:
    """An entity without what an export cannot express."""
    kept = m.Entity()
    kept.CopyFrom(entity)
    for one in kept.properties.values():
        _lose(one)
    return kept


def _lose(one: Any) -> None:
    which = one.WhichOneof("value_type")
    if which == "timestamp_value":
        one.timestamp_value.nanos -= one.timestamp_value.nanos % 1000
    elif which == "blob_value" and one.meaning == 16 and not one.exclude_from_indexes:
        one.meaning = 0  # emulators do not store it, either
    elif which == "entity_value":
        for inner in one.entity_value.properties.values():
            _lose(inner)
    elif which == "array_value":
        elements = list(one.array_value.values)
        for element in elements:
            _lose(element)
        elements.sort(key=lambda element: element.exclude_from_indexes)  # a stable sort
        one.array_value.ClearField("values")
        one.array_value.SetInParent()
        one.array_value.values.extend(elements)


def comparable(entities: list[Any]) -> dict[bytes, bytes]:
    """Entities by key, as bytes that are equal if the entities are."""
    found = {key_bytes(one): one.SerializeToString(deterministic=True) for one in entities}
    assert len(found) == len(entities)
    return found

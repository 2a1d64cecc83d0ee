"""An entity's index entries in one text, which SQLite can look into.

A JSON object: the slot's number (as a string) to the encoded value in hexadecimal, or to a list of
them for an array, also one of a single element. For a timestamp there is also `"t<slot>": 1`: the
index does not tell it from an integer, and sums must.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

Packed = dict[str, Any]
Values = bytes | dict[bytes, int]
"""A slot's encoded values with their forms; alone, one that is PLAIN, as most are."""

PLAIN, TIMESTAMP, ELEMENT = 0, 1, 2
"""The forms of an entry; ELEMENT is an element of an array, of any type."""


def hexadecimal(value: bytes) -> str:
    """Encoded bytes as they are in a packed text."""
    return value.hex()


dumps = json.JSONEncoder(separators=(",", ":")).encode


def add(packed: Packed, slot: int, values: Values) -> None:
    """Add a slot's values."""
    if type(values) is bytes:
        packed[str(slot)] = values.hex()
        return
    assert isinstance(values, dict)
    if len(values) == 1:
        ((value, form),) = values.items()
        if form != ELEMENT:
            packed[str(slot)] = value.hex()
            if form == TIMESTAMP:
                packed[f"t{slot}"] = 1
            return
    packed[str(slot)] = sorted(map(hexadecimal, values))


def values_of(packed: Packed, slot: str) -> set[bytes]:
    found = packed.get(slot, [])
    return {bytes.fromhex(one) for one in ([found] if isinstance(found, str) else found)}


def unpack(text: str) -> Iterator[tuple[int, bytes]]:
    """The (slot, value) entries."""
    packed: Packed = json.loads(text)
    for slot in packed:
        if slot[0] != "t":
            for value in values_of(packed, slot):
                yield int(slot), value


def json_path(slot: int) -> str:
    """Where SQLite's JSON functions find a slot."""
    return f'$."{slot}"'

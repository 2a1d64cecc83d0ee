"""An entity's index entries as one JSON string, which SQLite can query.

An object that maps a slot's number (as a string) to the encoded value in hexadecimal, or to a list
of such values for an array, even one with a single element. A timestamp also has `"t<slot>": 1`,
because the index treats it like an integer, but sums must not.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

Packed = dict[str, Any]
Values = bytes | dict[bytes, int]
"""A slot's encoded values and their forms. Plain bytes are one SINGLE value, the usual case."""

SINGLE, TIMESTAMP, ELEMENT = 0, 1, 2
"""The forms of an entry. ELEMENT is an array element of any type."""


def hexadecimal(value: bytes) -> str:
    """Encoded bytes as a packed string holds them."""
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


def replaced(text: str, slot: int, before: Values | None, after: Values | None) -> str | None:
    """A packed string with the values of a slot replaced. `before` and `after` are None for no
    values. Returns None if the string does not have the values in `before`."""
    if before is not None:
        old = _members(slot, before)
        # A slot's number occurs once as a key, and values have no quotes in them.
        at = text.find(old)
        if at < 0:
            return None
        if after is not None:
            return text[:at] + _members(slot, after) + text[at + len(old) :]
        if text[at - 1] == ",":
            return text[: at - 1] + text[at + len(old) :]
        return text[:at] + text[at + len(old) :].removeprefix(",")
    if after is None:
        return text
    return f"{text[:-1]}{',' if len(text) > 2 else ''}{_members(slot, after)}}}"


def _members(slot: int, values: Values) -> str:
    if type(values) is bytes:
        return f'"{slot}":"{values.hex()}"'
    packed: Packed = {}
    add(packed, slot, values)
    return dumps(packed)[1:-1]


def encoded_values(values: Values | None) -> set[bytes]:
    """The encoded values without their forms."""
    if values is None:
        return set()
    return {values} if isinstance(values, bytes) else set(values)


def values_of(packed: Packed, slot: str) -> set[bytes]:
    found = packed.get(slot, [])
    return {bytes.fromhex(one) for one in ([found] if isinstance(found, str) else found)}


def unpack(text: str) -> Iterator[tuple[int, bytes]]:
    """The (slot, value) pairs of a packed string."""
    packed: Packed = json.loads(text)
    for slot in packed:
        if slot[0] != "t":
            for value in values_of(packed, slot):
                yield int(slot), value


def json_path(slot: int) -> str:
    """The path of a slot for SQLite's JSON functions."""
    return f'$."{slot}"'

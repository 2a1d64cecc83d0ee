"""Keys and values as bytes that sort, byte by byte, in Datastore's order.

SQLite can then compare, sort and range-scan them without knowing their meaning.

Keys. Each path element is its kind, then 0x01 and the id (64 bits, sign flipped, big-endian) or
0x02 and the name. Kind and name are UTF-8 with 0x00 written as 0x00 0xFF, and end in 0x00 0x01.
Ids sort before names and a parent before its children. The bytes of an entity's path are a prefix
of the bytes of its descendants, so an ancestor query is a range.

Values. A tag, then the payload. The tags follow the documented order of types: null, fixed-point
numbers (integers and timestamps in microseconds, compared with one another), booleans, byte
sequences (strings and blobs, compared with one another), floating-point numbers, geographical
points, keys. An integer and a floating-point number are never equal. As on both of Google's
emulators, NaN sorts after the other floating-point numbers, and -0.0 right before 0.0. Entities and
arrays have no encoding; the values inside them do.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from bulkup.local import messages as m

_SIGN = 1 << 63
_MASK = (1 << 64) - 1
_U64 = struct.Struct(">Q")
_F64 = struct.Struct(">d")
_ID = b"\x01"
_NAME = b"\x02"
_END = b"\x00\x01"

NULL = b"\x01"
NUMBER = b"\x02"
BOOLEAN = b"\x03"
BYTES = b"\x04"
DOUBLE = b"\x05"
POINT = b"\x06"
KEY = b"\x07"
END = b"\x08"
"""Above every value."""

MEANING_INDEX_VALUE = 18
"""The meaning of values that a projection returns."""


class Partition(NamedTuple):
    """The project, database and namespace that a key belongs to."""

    project: str
    database: str
    namespace: str


def _text(text: str) -> bytes:
    raw = text.encode()
    if b"\x00" in raw:
        raw = raw.replace(b"\x00", b"\x00\xff")
    return raw + _END


def encode_id(number: int, head: bytes = b"") -> bytes:
    """An encoded path: `head`, then an element's id."""
    return head + _ID + _U64.pack(number + _SIGN & _MASK)


def encode_path(path: Any) -> bytes:
    """The encoded path of a complete key; `path` is `Key.path`."""
    out = []
    for element in path:
        out.append(_text(element.kind))
        if element.name:
            out.append(_NAME + _text(element.name))
        else:
            out.append(encode_id(element.id))
    return b"".join(out)


def _read_text(data: bytes, at: int) -> tuple[str, int]:
    start = at
    while True:
        at = data.index(b"\x00", at)
        if data[at + 1] == 1:
            return data[start:at].replace(b"\x00\xff", b"\x00").decode(), at + 2
        at += 2


def decode_path(data: bytes) -> Iterator[tuple[str, int | str]]:
    """The (kind, id or name) elements of an encoded path. Raises ValueError for other bytes."""
    at = 0
    try:
        while at < len(data):
            kind, at = _read_text(data, at)
            tag = data[at : at + 1]
            if tag == _ID:
                yield kind, _U64.unpack_from(data, at + 1)[0] - _SIGN
                at += 9
            elif tag == _NAME:
                name, at = _read_text(data, at + 1)
                yield kind, name
            else:
                raise ValueError("not an encoded path")
    except (IndexError, ValueError, struct.error) as error:
        raise ValueError("not an encoded path") from error


def key_message(partition: Partition, path: bytes) -> Any:
    """The `Key` of an encoded path."""
    key = m.Key()
    key.partition_id.project_id = partition.project
    if partition.database:
        key.partition_id.database_id = partition.database
    if partition.namespace:
        key.partition_id.namespace_id = partition.namespace
    for kind, ident in decode_path(path):
        if isinstance(ident, str):
            key.path.add(kind=kind, name=ident)
        elif ident:
            key.path.add(kind=kind, id=ident)
        else:
            key.path.add(kind=kind)
    return key


def path_end(prefix: bytes) -> bytes:
    """Above the path `prefix` and its descendants, below everything after them.

    No kind starts with 0xFF: it is UTF-8.
    """
    return prefix + b"\xff"


_NAN = DOUBLE + b"\xff\xf8" + bytes(6)
"""Every NaN is encoded as this one."""


def _double(number: float) -> bytes:
    if number != number:
        return _NAN
    bits: int = _U64.unpack(_F64.pack(number))[0]
    return DOUBLE + _U64.pack(bits ^ (_MASK if bits & _SIGN else _SIGN))


def _undouble(payload: bytes) -> float:
    bits: int = _U64.unpack(payload)[0]
    value: float = _F64.unpack(_U64.pack(bits ^ (_SIGN if bits & _SIGN else _MASK)))[0]
    return value


def _number(number: int) -> bytes:
    return NUMBER + _U64.pack(number + _SIGN & _MASK)


def encode_value(value: Any) -> bytes | None:
    """The index encoding of a `Value`; None for entities, arrays and values without a type."""
    kind = value.WhichOneof("value_type")
    if kind == "string_value":
        return b"\x04" + bytes(value.string_value, "utf-8")
    if kind == "integer_value":
        return b"\x02" + _U64.pack(value.integer_value + _SIGN & _MASK)
    if kind == "double_value":
        return _double(value.double_value)
    if kind == "boolean_value":
        return b"\x03\x01" if value.boolean_value else b"\x03\x00"
    if kind == "timestamp_value":
        return _number(m.micros_of(value.timestamp_value))
    if kind == "null_value":
        return NULL
    if kind == "key_value":
        return encode_key_value(value.key_value)
    if kind == "blob_value":
        return BYTES + bytes(value.blob_value)
    if kind == "geo_point_value":
        point = value.geo_point_value
        return POINT + _double(point.latitude)[1:] + _double(point.longitude)[1:]
    return None


def encode_key_value(key: Any) -> bytes:
    """A key as a value. It may be incomplete: its last element then has no identifier."""
    partition = key.partition_id
    head = (
        _text(partition.project_id) + _text(partition.database_id) + _text(partition.namespace_id)
    )
    return KEY + head + encode_path(key.path)


def decode_value(data: bytes) -> Any:
    """The `Value` of an index entry, as a projection returns it.

    The index does not distinguish timestamps from integers, nor blobs from strings. As in the
    service, a projection returns timestamps as integers in microseconds, with a meaning that marks
    them as index values.
    """
    value = m.Value(meaning=MEANING_INDEX_VALUE)
    tag, payload = data[:1], data[1:]
    if tag == NULL:
        value.null_value = 0
    elif tag == NUMBER:
        value.integer_value = _U64.unpack(payload)[0] - _SIGN
    elif tag == BOOLEAN:
        value.boolean_value = payload == b"\x01"
    elif tag == BYTES:
        try:
            value.string_value = payload.decode()
        except UnicodeDecodeError:
            value.blob_value = payload
    elif tag == DOUBLE:
        value.double_value = _undouble(payload)
    elif tag == POINT:
        value.geo_point_value.latitude = _undouble(payload[:8])
        value.geo_point_value.longitude = _undouble(payload[8:])
    elif tag == KEY:
        project, at = _read_text(payload, 0)
        database, at = _read_text(payload, at)
        namespace, at = _read_text(payload, at)
        value.key_value.CopyFrom(key_message(Partition(project, database, namespace), payload[at:]))
    else:
        raise ValueError("not an encoded value")
    return value

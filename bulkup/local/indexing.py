"""Which index entries an entity has.

A property is indexed unless it is excluded: an array by each of its elements, an entity value by
its properties, under their dotted path (`address.city`), and by its key (`a.__key__`). Nothing
inside an excluded value is indexed, but the size limit of indexed values applies to every value
that is not excluded itself (on both of Google's emulators too). An empty array has no entries (one
of the emulators agrees, the other treats it as null). A vector is never indexed.

About one entity in sixteen has the pseudo-property `__scatter__`. A hash of the key decides, so it
is always the same entities. The service samples about one in 128 (not documented). Here kinds are
small, and splitters need samples of them too.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any

from bulkup.core.limits import (
    MAX_INDEXED_BYTES,
    MAX_INDEXED_VALUES,
    MAX_NESTING,
    VECTOR,
    array_in_array,
    excluded_array,
    nested_too_deep,
    no_value,
    too_long,
    too_many,
)
from bulkup.local.encoding import BYTES, encode_key_value, encode_value
from bulkup.local.limits import (
    check_key_value,
    check_length,
    check_meaning,
    check_property_name,
    check_range,
    refused,
)
from bulkup.local.packing import ELEMENT, SINGLE, TIMESTAMP, Values

Entries = dict[str, Values]
"""By property path."""

_U64 = struct.Struct(">Q")
_SIGN = 1 << 63
_MASK = (1 << 64) - 1
_SIMPLE = frozenset(
    ("string_value", "integer_value", "boolean_value", "double_value", "null_value")
)
_LONGEST = MAX_INDEXED_BYTES + 1
_LATE = 253402300799
"""The last second of the year 9999."""
SCATTER = "__scatter__"
_SCATTER_BELOW = 0x1000
"""Out of 0x10000: one in sixteen."""


def scatter_entry(path: bytes) -> bytes | None:
    """The entity's `__scatter__` value; None for most entities."""
    digest = hashlib.blake2b(path, digest_size=8).digest()
    return BYTES + digest if int.from_bytes(digest[:2], "big") < _SCATTER_BELOW else None


def is_surely_valid(entity: Any, *, nested: bool = False) -> bool:
    """A fast check that `index_entries` would neither refuse nor change an entity of at most
    MAX_INDEXED_BYTES. True for most valid entities; False means that only `index_entries` can
    tell."""
    properties = entity.properties
    for name in properties:
        value = properties[name]
        which = value.WhichOneof("value_type")
        if not name or name[0] == "_" or value.meaning:
            return False
        if which in _SIMPLE:
            continue
        if nested:
            return False
        if which == "timestamp_value":
            stamp = value.timestamp_value
            nanos = stamp.nanos
            if nanos % 1000 or not (0 <= nanos < 10**9 and 0 <= stamp.seconds <= _LATE):
                return False
        elif which == "array_value":
            if value.exclude_from_indexes:
                return False
            for element in value.array_value.values:
                if element.WhichOneof("value_type") not in _SIMPLE or element.meaning:
                    return False
        elif which == "entity_value":
            inner = value.entity_value
            if inner.HasField("key") or not is_surely_valid(inner, nested=True):
                return False
        else:
            return False
    return True


def index_entries(entity: Any) -> Entries:
    """The index entries of a valid entity, by property path.

    Raises INVALID_ARGUMENT for what the service would not store. Truncates timestamps to
    microseconds in place, as the service does.
    """
    entries: Entries = {}
    _entity(entity, "", True, 0, SINGLE, entries)
    # Counting is only worthwhile with many properties or long arrays.
    if len(entries) > 100 or any(
        len(values) > MAX_INDEXED_VALUES // 100 for values in entries.values()
    ):
        total = sum(1 if isinstance(v, bytes) else len(v) for v in entries.values())
        if total > MAX_INDEXED_VALUES:
            raise refused(too_many(total))
    return entries


def _entity(
    entity: Any, prefix: str, indexed: bool, depth: int, form: int, entries: Entries
) -> None:
    if depth > MAX_NESTING:
        raise refused(nested_too_deep())
    for name, value in entity.properties.items():
        if not name or name[0] == "_" or len(name) > 375:
            check_property_name(name)
        which = value.WhichOneof("value_type")
        if value.meaning:
            check_meaning(prefix + name, value)
        if which in _SIMPLE and indexed and not value.exclude_from_indexes:
            # Most values end here; the rest of this module handles the others.
            if which == "string_value":
                encoded = b"\x04" + value.string_value.encode()
                if len(encoded) > _LONGEST:
                    raise refused(too_long(prefix + name))
            elif which == "integer_value":
                encoded = b"\x02" + _U64.pack(value.integer_value + _SIGN & _MASK)
            else:
                encoded = encode_value(value) or b""
            path = prefix + name if prefix else name
            if form == SINGLE and path not in entries:
                entries[path] = encoded
                continue
        _value(prefix + name, value, indexed, depth, form, entries)


def _value(path: str, value: Any, indexed: bool, depth: int, form: int, entries: Entries) -> None:
    which = value.WhichOneof("value_type")
    indexed = indexed and not value.exclude_from_indexes
    if which == "array_value":
        _array(path, value, indexed, depth, entries)
    elif which == "entity_value":
        inner = value.entity_value
        _entity(inner, path + ".", indexed, depth + 1, form, entries)
        if inner.HasField("key"):
            check_key_value(inner.key, complete=False)
        if indexed and inner.key.path:
            _add(path + ".__key__", encode_key_value(inner.key), form, entries)
    elif which is None:
        raise refused(no_value(path))
    else:
        _scalar(path, value, indexed, form, entries)


def _array(path: str, value: Any, indexed: bool, depth: int, entries: Entries) -> None:
    if value.meaning == VECTOR:
        return
    if value.exclude_from_indexes:
        raise refused(excluded_array(path))
    for element in value.array_value.values:
        if element.meaning:
            check_meaning(path, element)
        if element.WhichOneof("value_type") == "array_value":
            raise refused(array_in_array(path))
        _value(path, element, indexed, depth, ELEMENT, entries)


def _scalar(path: str, value: Any, indexed: bool, form: int, entries: Entries) -> None:
    which = value.WhichOneof("value_type")
    if which == "timestamp_value":
        stamp = value.timestamp_value
        if stamp.nanos > 0 and stamp.nanos % 1000:  # negative ones are refused below
            stamp.nanos -= stamp.nanos % 1000
    check_range(path, value, which)
    if not indexed:
        if which in ("string_value", "blob_value"):
            check_length(path, value, which)
        return
    encoded = encode_value(value)
    if encoded is not None:
        if form == SINGLE and which == "timestamp_value":
            form = TIMESTAMP
        _add(path, encoded, form, entries)


def _add(path: str, encoded: bytes, form: int, entries: Entries) -> None:
    # Keys have limits of their own; strings and blobs are encoded as a tag and their bytes.
    if len(encoded) > MAX_INDEXED_BYTES + 1 and encoded[:1] == BYTES:
        raise refused(too_long(path))
    found = entries.get(path)
    if found is None:
        entries[path] = {encoded: form}
        return
    if isinstance(found, bytes):
        # To a query, `a.b` and the `b` of an entity `a` are the same property.
        found = entries[path] = {found: SINGLE}
    found[encoded] = form

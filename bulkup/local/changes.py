"""How a put changes an entity's index entries, found by comparing bytes.

Most puts change one or two of many properties. A stored body is serialized deterministically, so an
unchanged property keeps its bytes. It was checked when it was stored, and its entries exist. Only
the other properties are examined.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from bulkup.local import messages as m
from bulkup.local.indexing import Entries, index_entries

_KEY_TAG = 0x0A
_PROPERTY_TAG = 0x1A
"""Tags of an Entity's fields: its key, and one property with its name."""
_TAGS = frozenset((_KEY_TAG, _PROPERTY_TAG))
_TIMESTAMP_TAG = 0x52
"""Tag of the Value field that indexing may change. The same byte also occurs elsewhere."""
_MAX_BODY_BYTES = 64 << 10
"""Smaller bodies cannot exceed the limit of 20,000 entries, since an entry takes at least 4 bytes,
so their entries need not be counted."""


class EntryChanges(NamedTuple):
    """Entries of the properties whose bytes differ."""

    base: bytes
    """The stored body that the new one was compared with."""
    before: Entries
    after: Entries


def entry_changes(base: bytes, body: bytes) -> EntryChanges | None:
    """How the entries change when `body` replaces a stored `base`; None when only indexing all of
    `body` can tell.

    Raises INVALID_ARGUMENT for what the service would not store. Unless this returns None, `body`
    may be stored as it is.
    """
    if len(body) > _MAX_BODY_BYTES:
        return None
    old, new = _properties(base), _properties(body)
    if old is None or new is None:
        return None
    came = new - old
    joined = b"".join(came)
    entity = m.Entity.FromString(joined)
    after = index_entries(entity)
    if _TIMESTAMP_TAG in joined and (
        _properties(entity.SerializeToString(deterministic=True)) != came
    ):
        return None  # a timestamp was cut to microseconds
    before = index_entries(m.Entity.FromString(b"".join(old - new)))
    for entries in (before, after):
        for path in entries:
            if "." in path:
                # `a.b` and the `b` of an entity `a` share entries, and one of them may not have
                # changed.
                return None
    return EntryChanges(base, before, after)


def new_properties(base: bytes, body: bytes) -> Any | None:
    """An Entity with at least those properties of `body` that differ from a stored `base`; None
    when the bytes cannot tell.

    Walks through both field by field, in step, so all properties after an added or removed one
    count as new. Whole fields are compared, because the bytes of one may occur inside another.
    """
    new = []
    at, end, there = 0, len(body), 0
    while at < end:
        tag = body[at]
        if tag != _PROPERTY_TAG and tag != _KEY_TAG:
            return None
        stop = at + 2 + body[at + 1] if body[at + 1] < 0x80 else _field_end(body, at)
        one = body[at:stop]
        if base.startswith(one, there):
            there += stop - at
        else:
            if tag == _PROPERTY_TAG:
                new.append(one)
            if there < len(base):
                if base[there] not in _TAGS:
                    return None
                there = _field_end(base, there)
        at = stop
    return m.Entity.FromString(b"".join(new))


def _field_end(body: bytes, at: int) -> int:
    """Where the length-delimited field at `at` ends. Its tag is one byte."""
    length = shift = 0
    while True:
        at += 1
        length |= (body[at] & 0x7F) << shift
        if body[at] < 0x80:
            return at + 1 + length
        shift += 7


def _properties(body: bytes) -> set[bytes] | None:
    """The property fields of a serialized Entity; None when it has unknown fields."""
    found = set()
    at, end = 0, len(body)
    while at < end:
        start = at
        length = body[at + 1]
        at += 2
        if length > 0x7F:
            length &= 0x7F
            shift = 7
            while body[at] > 0x7F:
                length |= (body[at] & 0x7F) << shift
                shift += 7
                at += 1
            length |= body[at] << shift
            at += 1
        at += length
        if body[start] == _PROPERTY_TAG:
            found.add(body[start:at])
        elif body[start] != _KEY_TAG:
            return None
    return found

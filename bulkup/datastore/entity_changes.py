"""Whether a handler has changed an entity, since it was read or since it was put."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from google.cloud.datastore import Key
from google.protobuf.message import DecodeError
from proto.datetime_helpers import DatetimeWithNanoseconds  # type: ignore[import-untyped]

from bulkup.datastore.entity_patch import IMMUTABLE, patched
from bulkup.datastore.lazy_entity import UNREAD, LazyEntity
from bulkup.datastore.messages import Pb

_CONSTANT = frozenset({*IMMUTABLE, type(UNREAD), DatetimeWithNanoseconds, datetime.datetime, Key})
_get: Any = dict.get
UNSTORABLE = (TypeError, ValueError, OverflowError, RecursionError, DecodeError)
"""What `patched` raises for a value that Datastore cannot store. Such a value must be new."""


def is_untouched(entity: LazyEntity) -> bool:
    """Whether every value still is the very object that was read or put in place. If not, the
    entity may have changed. Must be cheap, because it is called for every entity."""
    if entity._more_than_values:
        return False
    seen = entity._seen
    if dict.__len__(entity) != (len(entity._properties) if entity._named else len(seen) + 1):
        return False  # a property was added or removed, or the entity had none
    if entity._values is None:  # nothing that was read can be changed in place
        for name, value in seen.items():  # noqa: SIM110 - a generator takes longer
            if _get(entity, name) is not value:
                return False
        return True
    for name, value in seen.items():
        if _get(entity, name) is not value or type(value) not in _CONSTANT:
            return False
    return True


def is_changed(entity: LazyEntity) -> bool:
    """Whether the entity differs from its message, which is what was read or, if it was patched in
    place, what was put."""
    try:
        return patched(entity) is not None
    except UNSTORABLE:
        return True


def is_changed_since(entity: LazyEntity, put: Pb, key: Any, values: Mapping[str, Any]) -> bool:
    """Whether the entity differs from the message `put`, a copy that `patched` returned when the
    entity had these `stored_values`."""
    if not entity._more_than_values and entity._key is key:
        storage: Any = dict.items(entity)
        if len(storage) == len(values) and all(
            value is values.get(name, values) and type(value) in _CONSTANT
            for name, value in storage
        ):
            return False
    try:
        now = patched(entity)
    except UNSTORABLE:
        return True
    return bool(now is None or now != put)


def stored_values(entity: LazyEntity) -> tuple[Any, Mapping[str, Any]]:
    """The key and the values that `is_changed_since` compares with."""
    return entity._key, dict.copy(entity)

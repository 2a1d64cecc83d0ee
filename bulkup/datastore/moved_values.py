"""Moves a property to another name, or into a nested entity, with everything stored about it.

Reading a value and setting it under another name would lose what Python cannot hold: meanings,
nanoseconds, index flags that differ within an array or a nested entity.
"""

from __future__ import annotations

from google.cloud.datastore import Entity

from bulkup.datastore.google_private import meanings_of
from bulkup.datastore.lazy_entity import UNREAD, LazyEntity, carried_message, value_message
from bulkup.datastore.messages import Pb, ValuePb
from bulkup.datastore.value_flags import meaning_of


def move_property(source: Entity, name: str, target: Entity, new_name: str) -> None:
    """Move a property within an entity or to another one. An existing `new_name` is replaced.

    Raises KeyError if `source` has no such property, ValueError if its value cannot be read.
    """
    value = source[name]
    is_excluded = name in source.exclude_from_indexes
    message = None
    if isinstance(source, LazyEntity) and isinstance(target, LazyEntity):
        message = _message(source, name, value)
    meaning = None
    if message is None or source._read_meanings is not UNREAD:
        meaning = meanings_of(source).pop(name, None)
    elif target._read_meanings is not UNREAD:
        meaning = meaning_of(message), value
    del source[name]
    source.exclude_from_indexes.discard(name)
    target[new_name] = value
    target.exclude_from_indexes.discard(new_name)
    if is_excluded:
        target.exclude_from_indexes.add(new_name)
    if message is None or target._read_meanings is not UNREAD:
        meanings = meanings_of(target)
        meanings.pop(new_name, None)
        if meaning is not None:
            meanings[new_name] = meaning
    if message is not None:
        _carry(target, new_name, message, value)


def add_nested(entity: Entity, name: str) -> Entity:
    """Set a property to a new, empty nested entity, and return that entity."""
    if isinstance(entity, LazyEntity):
        message = ValuePb()
        message.entity_value.SetInParent()
        nested: Entity = LazyEntity(message.entity_value)
        _carry(entity, name, message, nested)
        _ = entity.exclude_from_indexes, nested.exclude_from_indexes
    else:
        nested = Entity()
    entity[name] = nested
    return nested


def _carry(entity: LazyEntity, name: str, message: Pb, value: object) -> None:
    if entity._carried is None:
        entity._carried = {}
    entity._carried[name] = message, value


def _message(entity: LazyEntity, name: str, value: object) -> Pb | None:
    """The Value message of a property as it is now; None if only its value is known."""
    message = carried_message(entity, name, value)
    if message is None:
        if name not in entity._properties:
            return None
        message = value_message(entity, name)
    return message

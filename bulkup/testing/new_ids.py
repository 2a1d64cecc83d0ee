"""Renumbers the entities that a run has created, to compare contents: the server chooses their
ids, and it chooses others after a crash."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

_ALLOCATED_FROM = 1 << 52
"""The embedded Datastore allocates ids from here on."""


def with_numbered_ids(after: Sequence[Any], before: Sequence[Any]) -> list[Any]:
    """The Entity messages `after`, with 1, 2, 3, ... in place of each allocated id that is not in
    `before`, even in keys that are values. Their order depends only on what the entities hold."""
    known = {element.id for entity in before for key in _keys(entity) for element in key.path}

    def is_new(number: int) -> bool:
        return number >= _ALLOCATED_FROM and number not in known

    def without_ids(given: Any) -> bytes:
        entity = _copy(given)
        for key in _keys(entity):
            for element in key.path:
                if is_new(element.id):
                    element.id = 0
        return bytes(entity.SerializeToString(deterministic=True))

    numbers: dict[int, int] = {}
    ordered = sorted(after, key=without_ids)
    for entity in ordered:
        for element in entity.key.path:
            if is_new(element.id):
                numbers.setdefault(element.id, len(numbers) + 1)
    result = [_copy(entity) for entity in ordered]
    for entity in result:
        for key in _keys(entity):
            for element in key.path:
                if element.id in numbers:
                    element.id = numbers[element.id]
    return result


def _copy(entity: Any) -> Any:
    copied = type(entity)()
    copied.CopyFrom(entity)
    return copied


def _keys(entity: Any) -> Iterator[Any]:
    """The key of an entity, and those in its properties."""
    if entity.HasField("key"):
        yield entity.key
    for value in entity.properties.values():
        yield from _keys_in(value)


def _keys_in(value: Any) -> Iterator[Any]:
    which = value.WhichOneof("value_type")
    if which == "key_value":
        yield value.key_value
    elif which == "entity_value":
        yield from _keys(value.entity_value)
    elif which == "array_value":
        for one in value.array_value.values:
            yield from _keys_in(one)

"""What a test gives as entities: `Entity` objects, dictionaries, or a file of JSON lines."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from bulkup.core.limits import MAX_INDEXED_BYTES

if TYPE_CHECKING:
    from google.cloud.datastore import Client, Entity, Key

Entities = Iterable["Entity | Mapping[str, Any]"] | str | os.PathLike[str]
"""Entities, dictionaries, or the path of a file of JSON lines."""

KEY = "__key__"
"""The item of a dictionary that holds its key, as in the lines of `bulkup local dump`."""


def to_entity(given: Any, client: Client, kind: Callable[[], str], number: int) -> Entity:
    """The entity that a test gives.

    `kind`, `number`: for the key of a dictionary that has none. Raises TypeError, ValueError.
    """
    from google.cloud.datastore import Entity, Key

    if isinstance(given, Entity):
        return given
    if not isinstance(given, Mapping):
        raise TypeError(f"{given!r} is not an entity; give an Entity or a dictionary")
    properties = dict(given)
    path = properties.pop(KEY, None)
    if path is None:
        path = [_kind_for(given, kind()), number]
    key = path if isinstance(path, Key) else _key(path, client)
    entity = Entity(key, exclude_from_indexes=_too_long(properties))
    entity.update({name: _nested(value) for name, value in properties.items()})
    return entity


def _kind_for(given: Mapping[str, Any], kind: str) -> str:
    if not kind:
        raise ValueError(
            f"{dict(given)!r} has no key, and the updater's query names no kind; "
            f'add "{KEY}": ["Kind", 1]'
        )
    return kind


def _key(path: Any, client: Client) -> Key:
    if not isinstance(path, (list, tuple)) or not path or len(path) % 2:
        raise ValueError(f'{path!r} is not a key; write "{KEY}": ["Kind", 1], or give a Key')
    return client.key(*path)


def _nested(value: Any) -> Any:
    """The value with entities in place of nested dictionaries, as a handler sees it."""
    from google.cloud.datastore import Entity

    if isinstance(value, Mapping) and not isinstance(value, Entity):
        entity = Entity(exclude_from_indexes=_too_long(value))
        entity.update({name: _nested(one) for name, one in value.items()})
        return entity
    return [_nested(one) for one in value] if isinstance(value, (list, tuple)) else value


def _too_long(properties: Mapping[str, Any]) -> tuple[str, ...]:
    """Properties too long for an index; they are not indexed, as with `bulkup local load`."""
    return tuple(name for name, value in properties.items() if _is_too_long(value))


def _is_too_long(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_is_too_long, value))
    size = len(value.encode()) if isinstance(value, str) else len(value) if isinstance(value, bytes) else 0  # fmt: skip # noqa: E501
    return size > MAX_INDEXED_BYTES

"""Property masks: which properties of an entity a request reads or writes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bulkup.core.limits import is_reserved
from bulkup.local import messages as m
from bulkup.local.status import invalid

Path = tuple[str, ...]


def split_path(text: str) -> Path:
    """The names of a dotted path.

    A backslash escapes a dot or a backslash in a name; a name may also be in backticks, as in the
    service. Raises INVALID_ARGUMENT for an empty path or name.
    """
    names, name, escaped, quoted = [], "", False, False
    for character in text:
        if escaped:
            name, escaped = name + character, False
        elif character == "\\":
            escaped = True
        elif character == "`" and (quoted or not name):
            quoted = not quoted
        elif character == "." and not quoted:
            names.append(name)
            name = ""
        else:
            name += character
    names.append(name)
    if escaped or quoted or not all(names):
        raise invalid(f"Invalid property path {text[:100]!r}.")
    return tuple(names)


class Mask:
    """A property mask. Raises INVALID_ARGUMENT for paths that are not valid."""

    def __init__(self, paths: Iterable[str]) -> None:
        self.paths = [split_path(path) for path in paths]
        for path in self.paths:
            if path != ("__key__",) and any(map(is_reserved, path)):
                raise invalid(f'The property mask has a reserved name: "{".".join(path)}"')

    def select(self, entity: Any) -> Any:
        """The entity with its key and only the properties that the mask names."""
        chosen = m.Entity()
        chosen.key.CopyFrom(entity.key)
        for path in self.paths:
            if _has_path(entity, path):
                copy_path(entity, chosen, path)
        return chosen


def _has_path(entity: Any, path: Path) -> bool:
    for name in path[:-1]:
        if name not in entity.properties:
            return False
        value = entity.properties[name]
        if value.WhichOneof("value_type") != "entity_value":
            return False
        entity = value.entity_value
    return path[-1] in entity.properties


def copy_path(source: Any, target: Any, path: Path) -> None:
    """Copy `path` from `source` to `target`, or remove it if `source` does not have it. Removing
    neither creates entities along the path nor replaces other values there."""
    if not _has_path(source, path):
        if _has_path(target, path):
            for name in path[:-1]:
                target = target.properties[name].entity_value
            del target.properties[path[-1]]
        return
    for name in path[:-1]:
        inner, place = source.properties[name], target.properties[name]
        if place.WhichOneof("value_type") != "entity_value":
            place.entity_value.SetInParent()
            place.exclude_from_indexes = inner.exclude_from_indexes
        source, target = inner.entity_value, place.entity_value
    target.properties[path[-1]].CopyFrom(source.properties[path[-1]])


def apply_mask(mask: Mask, stored: Any | None, entity: Any) -> Any:
    """The result of a masked write: the stored entity (or an empty one) with the masked changes."""
    result = m.Entity()
    if stored is not None:
        result.CopyFrom(stored)
    result.key.CopyFrom(entity.key)
    for path in mask.paths:
        if path != ("__key__",):
            copy_path(entity, result, path)
    return result

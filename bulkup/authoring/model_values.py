"""Writes a handler's changes to a model into its entity: the difference between two value trees.

Both trees consist of plain dicts, lists and values. What does not differ is not touched, so an
unchanged property keeps its index flag, its meaning, and anything else that Python cannot hold.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from bulkup.authoring.field_marks import unindexed_fields

if TYPE_CHECKING:
    from google.cloud.datastore import Entity

Values = dict[str, Any]


class EmbeddedValues(dict[str, Any]):
    """The values of an object, and the object itself."""

    of: Any = None


def plain(value: Any) -> Any:
    """A copy with lists for all collections, and with values for members of an Enum."""
    if isinstance(value, EmbeddedValues):
        copy = EmbeddedValues((name, plain(item)) for name, item in value.items())
        copy.of = value.of
        return copy
    if isinstance(value, dict):
        # In a field typed as Entity, this is the very object that the entity holds.
        return value if _is_entity(value) else {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value.value if isinstance(value, enum.Enum) else value


def update(
    entity: dict[str, Any],
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    unindexed: Collection[str] = (),
) -> list[str]:
    """Apply the changes from `before` to `after` to an entity. `unindexed`: names of properties
    that are not indexed if they are new. Returns the names of the properties with a new value."""
    new = [name for name in unindexed if name in after and name not in entity]
    changed = []
    for name, value in after.items():
        if name in before:
            if is_same(before[name], value):
                continue
            entity[name] = _merged(entity.get(name), before[name], value)
        else:
            entity[name] = stored(value)
        changed.append(name)
    for name in before:
        if name not in after:
            entity.pop(name, None)
    excluded = [name for name in new if name in entity]
    if excluded:  # only then: reading the flags of an Entity takes time
        entity.exclude_from_indexes.update(excluded)  # type: ignore[attr-defined]
    return changed


def is_same(one: Any, other: Any) -> bool:
    """Whether two values are stored alike: 1, 1.0 and True are not."""
    if one is other:
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(is_same(one[k], other[k]) for k in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    return type(one) is type(other) and bool(one == other)


def new_entity(key: Any, values: Mapping[str, Any], unindexed: Collection[str] = ()) -> Entity:
    from google.cloud.datastore import Entity

    entity = Entity(key, exclude_from_indexes=tuple(unindexed))
    for name, value in values.items():
        entity[name] = stored(value)
    return entity


def _unindexed(value: Any) -> Collection[str]:
    return unindexed_fields(type(value.of)) if _has_object(value) else ()


def _is_entity(value: Any) -> bool:
    from google.cloud.datastore import Entity

    return isinstance(value, Entity)


def stored(value: Any) -> Any:
    """A plain value in the form that an entity stores."""
    if isinstance(value, dict) and not _is_entity(value):
        return new_entity(None, value, _unindexed(value))
    return [stored(item) for item in value] if isinstance(value, list) else value


def _merged(there: Any, before: Any, after: Any) -> Any:
    if isinstance(before, dict) and isinstance(after, dict) and isinstance(there, dict):
        update(there, before, after, _unindexed(after))
        return there
    is_list = isinstance(before, list) and isinstance(after, list) and isinstance(there, list)
    if is_list and len(before) == len(there):
        return _merged_list(there, before, after)
    return stored(after)


def _merged_list(there: Sequence[Any], before: Sequence[Any], after: Sequence[Any]) -> list[Any]:
    """Elements that are still in the list keep their stored values, wherever they are now.

    A changed element is matched to the stored one that was the same object, or to the one in its
    place, if there are as many as before between the same neighbours. Otherwise it counts as new:
    a guess could give one element what belongs to another.
    """
    result = []
    for place, value in zip(places(before, after), after, strict=True):
        if place is None:
            result.append(stored(value))
        elif is_same(before[place], value):
            result.append(there[place])
        else:
            result.append(_merged(there[place], before[place], value))
    return result


def places(before: Sequence[Any], after: Sequence[Any]) -> list[int | None]:
    """For each element of `after`, the index of the same element in `before`; None if it is new."""
    found: list[int | None] = [None] * len(after)
    free = dict.fromkeys(range(len(before)))
    objects = {id(e.of): place for place, e in enumerate(before) if _has_object(e)}
    for index, value in enumerate(after):
        place = objects.get(id(value.of)) if _has_object(value) else None
        if place in free:
            found[index] = place
            del free[place]
    equal: dict[str, list[int]] = {}
    for place in reversed(free):
        equal.setdefault(repr(before[place]), []).append(place)
    for index, value in enumerate(after):
        if found[index] is None and (candidates := equal.get(repr(value))):
            found[index] = place = candidates.pop()
            del free[place]
    _fill_gaps(found, free, len(before))
    return found


def _has_object(value: Any) -> bool:
    return isinstance(value, EmbeddedValues) and value.of is not None


def _fill_gaps(places: list[int | None], free: Mapping[int, None], end: int) -> None:
    """Pair the remaining elements between matched neighbours, where both sides have as many."""
    known = [(-1, -1), *((i, p) for i, p in enumerate(places) if p is not None), (len(places), end)]
    for (left, low), (right, high) in pairwise(known):
        between = [place for place in range(low + 1, high) if place in free]
        if right - left - 1 == len(between):
            places[left + 1 : right] = between

"""Puts back what ndb does not see inside structured properties and therefore would not write.

ndb stores `home` as an embedded entity, or as properties `home.city`, `home.zip`. If `home` is
repeated, each of these properties is an array with a value for each element.
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Sequence
from typing import Any

from google.cloud import ndb
from google.cloud.datastore import Entity

from bulkup.authoring.model_values import places
from bulkup.authoring.ndb_private import meanings_of


def inner_model(prop: Any) -> Any:
    """The model of a structured property; None for any other property."""
    is_nested = isinstance(prop, (ndb.StructuredProperty, ndb.LocalStructuredProperty))
    return prop._model_class if is_nested else None


def declares(model: Any, path: str) -> bool:
    """Whether a model declares the property `home.city`."""
    if issubclass(model, ndb.Expando):
        return True
    first, _, rest = path.partition(".")
    prop = next((prop for prop in model._properties.values() if prop._name == first), None)
    if prop is None or not rest:
        return prop is not None
    return isinstance(prop, ndb.StructuredProperty) and declares(prop._model_class, rest)


def keep_undeclared(encoded: Entity, stored: Entity, model: Any) -> None:
    """Add to `encoded`, which is what ndb would write, the undeclared values that `stored` has
    inside structured properties."""
    for prop in model._properties.values():
        inner, name = inner_model(prop), prop._name
        if inner is None:
            continue
        if name in encoded and name in stored:
            _keep_inside(encoded[name], stored[name], inner)
        prefix = f"{name}."
        unseen = [n for n in stored if n.startswith(prefix) and not declares(model, n)]
        if unseen and any(n.startswith(prefix) for n in encoded):
            _keep_columns(encoded, stored, prefix, unseen, repeated=prop._repeated)


def _keep_inside(new: Any, old: Any, model: Any) -> None:
    if isinstance(new, Entity) and isinstance(old, Entity):
        for name in old:
            if name not in new and not declares(model, name):
                _copy(new, old, name, old[name])
        keep_undeclared(new, old, model)
    elif isinstance(new, list) and isinstance(old, list):
        seen = [_plain(one, model) for one in old]
        for one, place in zip(new, places(seen, [_plain(n, model) for n in new]), strict=True):
            if place is not None:
                _keep_inside(one, old[place], model)


def _keep_columns(
    new: Entity, old: Entity, prefix: str, unseen: Collection[str], *, repeated: bool
) -> None:
    if not repeated:
        for name in unseen:
            _copy(new, old, name, old[name])
        return
    seen = [name for name in new if name.startswith(prefix)]
    rows = _rows(old, seen)
    found = places(rows, _rows(new, seen))
    for name in unseen:
        values = old[name]
        if isinstance(values, list) and len(values) == len(rows):
            kept = [None if place is None else values[place] for place in found]
            _copy(new, old, name, values if kept == values else kept)


def _rows(entity: Entity, names: Sequence[str]) -> list[dict[str, Any]]:
    columns = {name: entity[name] for name in names if isinstance(entity.get(name), list)}
    count = max(map(len, columns.values()), default=0)
    return [
        {name: _plain(values[i]) for name, values in columns.items() if i < len(values)}
        for i in range(count)
    ]


def _copy(new: Entity, old: Entity, name: str, value: Any) -> None:
    new[name] = value
    if name in old.exclude_from_indexes:
        new.exclude_from_indexes.add(name)
    meaning = meanings_of(old).get(name)
    if meaning is not None:
        meanings_of(new)[name] = meaning


def _plain(value: Any, model: Any = None) -> Any:
    """A value to compare: an entity with declared properties only, and times as timestamps."""
    if isinstance(value, Entity):
        names = [name for name in value if model is None or declares(model, name)]
        return {name: _plain(value[name]) for name in sorted(names)}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, datetime.datetime):
        aware = value if value.tzinfo else value.replace(tzinfo=datetime.timezone.utc)
        return aware.timestamp()
    return value

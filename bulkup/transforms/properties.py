"""Changes to which properties an entity has, and to their names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from google.cloud.datastore import Entity

from bulkup.core.errors import UsageError
from bulkup.core.visible import visible
from bulkup.datastore.moved_values import add_nested, move_property
from bulkup.transforms.transform import Transform, checked_name, checked_names, shown

When = Literal["absent", "null", "both"]


@dataclass(frozen=True)
class _Rename(Transform):
    old: str
    new: str
    overwrite: bool

    def __call__(self, entity: Entity) -> Entity:
        if self.old not in entity:
            return entity
        if self.new in entity and not self.overwrite:
            raise ValueError(
                f"property {self.new!r} exists already, so {self.old!r} was not renamed; allow "
                "that it is overwritten (-p overwrite=true), or remove one of them"
            )
        move_property(entity, self.old, entity, self.new)
        return entity

    def is_done(self, entity: Entity) -> bool:
        return self.old not in entity


def rename(old: str, new: str, *, overwrite: bool = False) -> Transform:
    """Rename a property. Its value is kept as it is stored, with index flags and meaning.

    An entity without `old` is done. One that has both fails, unless `overwrite`.
    """
    checked_name("from", old)
    checked_name("to", new)
    if old == new:
        raise UsageError(f"from and to are both {visible(old)}; give the property another name")
    return _Rename(old, new, overwrite)


@dataclass(frozen=True)
class _Drop(Transform):
    names: tuple[str, ...]

    def __call__(self, entity: Entity) -> Entity:
        for name in self.names:
            if name in entity:
                del entity[name]
        return entity

    def is_done(self, entity: Entity) -> bool:
        return not any(name in entity for name in self.names)


def drop(*names: str) -> Transform:
    """Remove properties, where they are there."""
    return _Drop(checked_names("properties", names))


@dataclass(frozen=True)
class _SetDefault(Transform):
    name: str
    value: Any
    when: When
    indexed: bool

    def __call__(self, entity: Entity) -> Entity:
        if self.is_done(entity):
            return entity
        if self.name not in entity and not self.indexed:
            entity.exclude_from_indexes.add(self.name)
        # A list is copied: two entities must not share it.
        entity[self.name] = list(self.value) if isinstance(self.value, list) else self.value
        return entity

    def is_done(self, entity: Entity) -> bool:
        if self.name not in entity:
            return self.when == "null"
        return self.when == "absent" or entity[self.name] is not None


def set_default(name: str, value: Any, *, when: When = "absent", indexed: bool = True) -> Transform:
    """Set a property where it has no value.

    `when` says what counts as no value: the property is absent, or there and null, or both.
    `indexed`: a property that is added is indexed; one that is there keeps its index flag.
    """
    checked_name("property", name)
    if when not in get_args(When):
        raise UsageError(f"when={shown(when)} is not one of {', '.join(get_args(When))}")
    if value is None and when != "absent":
        raise UsageError(
            f"the default of {visible(name)} is null, and so is what it would replace; use "
            "when=absent, or give a value"
        )
    return _SetDefault(name, value, when, indexed)


@dataclass(frozen=True)
class _Embed(Transform):
    names: tuple[str, ...]
    into: str
    overwrite: bool

    def __call__(self, entity: Entity) -> Entity:
        found = [name for name in self.names if name in entity]
        if not found:
            return entity
        nested = entity.get(self.into)
        if nested is not None and not isinstance(nested, Entity):
            raise ValueError(
                f"property {self.into!r} is {shown(nested)} and not an embedded entity, so "
                f"{found[0]!r} cannot move into it; use another name, or rename that property first"
            )
        there = [name for name in found if nested is not None and name in nested]
        if there and not self.overwrite:
            raise ValueError(
                f"property {self.into!r} has {there[0]!r} already; allow that it is overwritten "
                "(-p overwrite=true), or remove one of them"
            )
        if nested is None:
            nested = add_nested(entity, self.into)
        for name in found:
            move_property(entity, name, nested, name)
        return entity

    def is_done(self, entity: Entity) -> bool:
        return not any(name in entity for name in self.names)


def embed(*names: str, into: str, overwrite: bool = False) -> Transform:
    """Move properties into an embedded entity, which is created where it is absent or null.

    They keep their names, values and index flags. An entity that has one of them in both places
    fails, unless `overwrite`. One that has none of them is done.
    """
    checked_names("properties", names)
    checked_name("into", into)
    if into in names:
        raise UsageError(f"{visible(into)} cannot move into itself; leave it out of properties")
    return _Embed(names, into, overwrite)

"""Dataclasses, attrs classes and TypedDicts as the types of entities; cattrs converts them.

Conversion is strict: an entity with a property of another type than its field fails. Otherwise the
next put would write that property differently.
"""

from __future__ import annotations

import dataclasses
import typing
from abc import abstractmethod
from collections.abc import Collection, MutableSequence, MutableSet, Sequence, Set
from datetime import datetime
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from bulkup.authoring.field_marks import key_field, unindexed_fields
from bulkup.authoring.mismatch import is_only_missing, mismatch
from bulkup.authoring.model_adapter import ModelAdapter
from bulkup.authoring.model_values import EmbeddedValues, Values, new_entity, plain, stored, update
from bulkup.authoring.stray_fields import check_no_stray
from bulkup.authoring.text_form import type_text
from bulkup.authoring.writes import Delete
from bulkup.core.errors import UsageError
from bulkup.core.places import about

if TYPE_CHECKING:
    from google.cloud.datastore import Entity, Key

SUPPORTED = (
    "str, int, float, bool, bytes, datetime, Key, GeoPoint, Entity, an Enum, Literal[...], Any, "
    "list, tuple and dict of these, None, and nested dataclasses, attrs classes and TypedDicts"
)


class ValueAdapter(ModelAdapter):
    """For models that can be turned into plain values."""

    def __init__(self, model: type) -> None:
        self.model = model
        self.key_field = key_field(model)

    @abstractmethod
    def values(self, model: Any) -> Values:
        """The model as plain values by property, without its key."""

    def state(self, model: Any) -> Values:
        return self.values(model)

    def check_written(
        self, entity: Entity, model: Any, values: Values, changed: Collection[str]
    ) -> None:
        """Raise ValueError, with the property's name, if a changed property of an entity that is
        put is not of its field's type: the next handler could not read it."""

    def check_patched(self, entity: Entity, model: Any, names: Collection[str]) -> None:
        there = {name: entity[name] for name in names if name in entity}
        self.check_written(entity, model, there, there)

    def show_changes(self, entity: Entity, model: Any, before: Values) -> None:
        update(entity, before, self.values(model))

    def update(self, entity: Entity, model: Any, before: Values) -> tuple[Entity, Values]:
        after = self.values(model)
        changed = update(entity, before, after, self.unindexed(model))
        if changed:
            self.check_written(entity, model, after, changed)
        key = self.key_of(model)
        if key is not None and key != entity.key:
            entity.key = key
        return entity, after

    def new_entity(self, model: Any, key: Key) -> Entity:
        values = self.values(model)
        entity = new_entity(key, values, self.unindexed(model))
        self.check_written(entity, model, values, values)
        return entity

    def type_of(self, model: Any) -> type:
        """The type of a model. A TypedDict is a plain dict, so it counts as the handled type; an
        object may be of another class than that."""
        return self.model if type(model) is dict else type(model)

    def unindexed(self, model: Any) -> Collection[str]:
        """Names of properties that are not indexed if they are new."""
        return unindexed_fields(self.type_of(model))

    def key_of(self, model: Any) -> Key | None:
        name = key_field(type(model))
        return None if name is None else getattr(model, name)

    def has_got_key(self, model: Any, entity: Entity) -> None:
        name = key_field(type(model))
        if name is not None and getattr(model, name) is not entity.key:
            # Even if the class is frozen: the code that put the object reads its new id from it.
            object.__setattr__(model, name, entity.key)


class TypedModels(ValueAdapter):
    """Dataclasses, attrs classes and TypedDicts. Raises UsageError for unsupported field types."""

    def __init__(self, model: type) -> None:
        super().__init__(model)
        self._is_dict = typing.is_typeddict(model)
        self._converter = _converter()
        self._names = tuple(n for n in typing.get_type_hints(model) if n != self.key_field)
        if self._is_dict and self.key_field is not None:
            raise UsageError(
                f"{model.__name__} is a TypedDict, which cannot have a field for the entity's key; "
                "leave it out, and call bulkup.key_of"
            )
        try:
            self._structure = self._converter.get_structure_hook(model)
        except _UnsupportedError as error:
            raise UsageError(
                f"{model.__name__} has a field of the type {error}, which no property has; use "
                f"{SUPPORTED}"
            ) from error

    def to_model(self, entity: Entity) -> Any:
        values = {name: entity[name] for name in self._names if name in entity}
        if self.key_field is not None:
            values[self.key_field] = entity.key
        try:
            return self._structure(values, self.model)
        except Exception as error:
            raise ValueError(mismatch(error, values, self.model.__name__)) from None

    def values(self, model: Any) -> Values:
        of = self.type_of(model)
        values: Values = plain(self._converter.unstructure(model, of))
        name = key_field(of)
        if name is not None:
            del values[name]
        return values

    def check_written(
        self, entity: Entity, model: Any, values: Values, changed: Collection[str]
    ) -> None:
        of = self.type_of(model)
        types = _types_of(of)
        for name in changed:
            if name not in types:
                continue
            try:
                self._converter.structure(values[name], types[name])
            except _UnsupportedError:
                return  # a type that is only put: Datastore reports what it cannot store
            except Exception as error:
                if not is_only_missing(error):
                    sentence = mismatch(error, values, of.__name__, (name, types[name]))
                    raise about(ValueError(sentence), name) from None

    def plain_value(self, value: Any) -> Any:
        return stored(plain(self._converter.unstructure(value)))

    def is_model(self, value: Any) -> bool:
        if self._is_dict:
            return type(value) is dict
        return _has_fields(type(value)) and not isinstance(value, Delete)


@cache
def _types_of(model: Any) -> dict[str, Any]:
    return typing.get_type_hints(model)


def _has_fields(type_: Any) -> bool:
    return isinstance(type_, type) and (
        dataclasses.is_dataclass(type_) or hasattr(type_, "__attrs_attrs__")
    )


def _with_known_keys(model: Any) -> Any:
    """The same TypedDict with its keys marked Required or NotRequired, which
    `from __future__ import annotations` hides from it."""
    hints = typing.get_type_hints(model, include_extras=True)
    for name, hint in hints.items():
        if typing.get_origin(hint) not in (typing.Required, typing.NotRequired):
            is_optional = name in model.__optional_keys__
            hints[name] = typing.NotRequired[hint] if is_optional else typing.Required[hint]
    return typing.TypedDict(model.__name__, hints)  # type: ignore[operator]


def _is_list(type_: Any) -> bool:
    return (typing.get_origin(type_) or type_) in (list, tuple, Sequence, MutableSequence)


def _is_set(type_: Any) -> bool:
    return (typing.get_origin(type_) or type_) in (set, frozenset, Set, MutableSet)


class _UnsupportedError(Exception):
    """The message is the type."""


class MismatchError(ValueError):
    """A value is not of the type of its field."""


def _exactly(types: tuple[type, ...], value: Any, _: Any) -> Any:
    if type(value) not in types:
        raise MismatchError
    return value


def _instance(type_: type, value: Any, _: Any) -> Any:
    if not isinstance(value, type_):
        raise MismatchError
    return value


def _converter() -> Any:
    from cattrs import Converter
    from cattrs.cols import list_structure_factory
    from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, typeddicts
    from cattrs.strategies import configure_union_passthrough
    from google.cloud.datastore import Entity, Key
    from google.cloud.datastore.helpers import GeoPoint

    def unsupported(type_: Any) -> Any:
        raise _UnsupportedError(type_text(type_))

    converter = Converter(structure_fallback_factory=unsupported)
    for exact in (str, bytes, int, bool):
        converter.register_structure_hook(exact, partial(_exactly, (exact,)))
    converter.register_structure_hook(float, partial(_exactly, (float, int)))
    for class_ in (datetime, Key, GeoPoint, Entity):
        converter.register_structure_hook(class_, partial(_instance, class_))
        converter.register_unstructure_hook(class_, lambda value: value)
    configure_union_passthrough(
        str | bytes | int | bool | float | datetime | Key | GeoPoint | None, converter
    )

    def list_hook(type_: Any) -> Any:
        """Unlike the hook of cattrs, does not take a string for a list of characters."""
        items = typing.get_args(type_) or (Any,)
        into = tuple if type_ is tuple or typing.get_origin(type_) is tuple else list
        if into is tuple and len(items) > 1 and items[1] is not ...:
            raise _UnsupportedError(type_text(type_))
        make = list_structure_factory(list[items[0]], converter)  # type: ignore[valid-type]
        return lambda value, _: into(make(_instance(list, value, type_), type_))

    def set_hook(type_: Any) -> Any:
        raise _UnsupportedError(type_text(type_))

    def object_hook(type_: Any) -> Any:
        make = make_dict_structure_fn(type_, converter)
        return lambda value, _: make(_instance(dict, value, type_), type_)

    def dict_hook(type_: Any) -> Any:
        resolved = _with_known_keys(type_)
        make = typeddicts.make_dict_structure_fn(resolved, converter)
        return lambda value, _: make(_instance(dict, value, type_), resolved)

    def dict_values_hook(type_: Any) -> Any:
        return typeddicts.make_dict_unstructure_fn(_with_known_keys(type_), converter)

    def values_hook(type_: Any) -> Any:
        values_of = make_dict_unstructure_fn(type_, converter)

        def values(value: Any) -> Any:
            if not isinstance(value, type_):
                return value  # of another type than its field
            check_no_stray(value)
            values = EmbeddedValues(values_of(value))
            values.of = value
            return values

        return values

    converter.register_structure_hook_factory(_is_list, list_hook)
    converter.register_structure_hook_factory(_is_set, set_hook)
    converter.register_structure_hook_factory(typing.is_typeddict, dict_hook)
    converter.register_unstructure_hook_factory(typing.is_typeddict, dict_values_hook)
    converter.register_structure_hook_factory(_has_fields, object_hook)
    converter.register_unstructure_hook_factory(_has_fields, values_hook)
    return converter

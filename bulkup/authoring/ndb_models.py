"""Models of google-cloud-ndb as the objects that handlers take.

A put writes what ndb itself would write, property by property, into the entity that was read. So
properties that the model does not declare are kept, and those that are already stored as ndb would
write them are not touched.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from google.cloud import ndb
from google.cloud.datastore import Entity
from google.cloud.ndb import context as ndb_context
from google.cloud.ndb.polymodel import PolyModel

from bulkup.authoring.function_updater import FunctionUpdater, is_ndb_model
from bulkup.authoring.model_adapter import ModelAdapter
from bulkup.authoring.model_values import is_same
from bulkup.authoring.ndb_context import NdbClient, NdbReads, forget, ndb_context_of, run_pending
from bulkup.authoring.ndb_kinds import models_beside
from bulkup.authoring.ndb_private import entity_from_model, meanings_of, model_from_entity
from bulkup.authoring.ndb_query import datastore_query
from bulkup.authoring.ndb_undeclared import declares, inner_model, keep_undeclared
from bulkup.authoring.updater import Updater

if TYPE_CHECKING:
    from google.cloud.datastore import Key


class NdbModels(ModelAdapter):
    model: Any

    def __init__(self, model: Any) -> None:
        self.model = model
        self._reads = NdbReads()
        self._updater: Updater[Any]

    # --- calls ---

    @contextmanager
    def context(self, updater: Updater[Any]) -> Iterator[Any]:
        self._updater = updater
        client = NdbClient(updater, self._reads, self._written)
        with models_beside(type(updater), self.model), ndb_context_of(client) as context:
            yield context

    def begin_call(self) -> None:
        self._reads.clear()
        forget(ndb_context.get_context())

    def end_call(self) -> None:
        run_pending(ndb_context.get_context())

    def adapt_query(self, updater: Updater[Any]) -> None:
        if isinstance(updater, FunctionUpdater) and is_ndb_model(updater.spec.kind):
            filters = (*_class_filter(self.model), *updater.spec.filters)
            updater.spec = replace(updater.spec, kind=self.model._get_kind(), filters=filters)
        takes_all = type(updater).get_query is Updater.get_query and not isinstance(
            getattr(updater, "kind", None), str
        )
        get_query = updater.get_query

        def in_context() -> Any:
            with self.context(updater):
                query = self.model.query() if takes_all else get_query()
                is_ndb = isinstance(query, ndb.Query)
                return datastore_query(query, updater.client) if is_ndb else query

        instance: Any = updater
        instance.get_query = in_context

    # --- models ---

    def is_model(self, value: Any) -> bool:
        return isinstance(value, ndb.Model)

    def to_model(self, entity: Entity) -> Any:
        return model_from_entity(_copied(entity))

    def state(self, model: Any) -> None:
        return None

    def update(self, entity: Entity, model: Any, before: Any) -> tuple[Entity, Any]:
        model._pre_put_hook()
        if not _has_auto_now(type(model)):
            model._prepare_for_put()
            _write(entity, _encoded(model, entity), type(model))
        else:
            # An unchanged put must cost no write, so set `auto_now` times only after a change.
            _prepare_but_auto_now(model)
            encoded = _encoded(model, entity)
            if _differs(entity, encoded, type(model)):
                model._prepare_for_put()
                _write(entity, _encoded(model, entity), type(model))
        key = self.key_of(model)
        if key != entity.key:
            entity.key = key
        return entity, None

    def show_changes(self, entity: Entity, model: Any, before: Any) -> None:
        fresh = self.to_model(entity)
        if model == fresh:
            return
        for one in (model, fresh):
            _prepare_but_auto_now(one)
        now, then = _encoded(model, entity), _encoded(fresh, entity)
        for name in now:
            if name not in then or not _is_same(now[name], then[name]):
                entity[name] = now[name]

    def new_entity(self, model: Any, key: Key) -> Entity:
        stored = self._stored(key)
        if stored is not None:
            return self.update(stored, model, None)[0]
        model._pre_put_hook()
        model._prepare_for_put()
        return _encoded_as(model, legacy=True)

    def _written(self, encoded: Entity) -> Entity:
        """The entity to put for one that the user's code puts with ndb: `person.put()`."""
        key = encoded.key
        handled = self.handled(key)
        if handled is not None:
            stored, handled.is_watched = handled.entity, False
        else:
            stored = None if key.is_partial else self._stored(key)
        if stored is None:
            return encoded
        model = self.to_model(encoded)  # to encode it again, in the stored form
        _prepare_but_auto_now(model)
        _write(stored, _encoded(model, stored), type(model))
        return stored

    def _stored(self, key: Key) -> Entity | None:
        return self._reads.entity_of(key, self._updater.client)

    def key_of(self, model: Any) -> Key:
        key = model._key or ndb.Key(model._get_kind(), None)
        datastore_key: Key = key._key
        return datastore_key

    def datastore_key(self, value: Any) -> Any:
        return value._key if isinstance(value, ndb.Key) else value

    def has_got_key(self, model: Any, entity: Entity) -> None:
        if model._key is None or model._key._key.is_partial:
            model._key = ndb.Key._from_ds_key(entity.key)


def _class_filter(model: Any) -> tuple[tuple[str, str, str], ...]:
    """The filter for a subclass of a PolyModel: matches that class and its subclasses."""
    is_below = issubclass(model, PolyModel) and len(model._class_key()) > 1
    return (("class", "=", model._class_name()),) if is_below else ()


def _encoded(model: Any, stored: Entity) -> Entity:
    """What ndb would write, in the form in which the entity is stored, with the nested values that
    ndb does not see. Raises BadValueError."""
    legacy = _is_legacy(stored, model, ndb.StructuredProperty)
    local = _is_legacy(stored, model, ndb.LocalStructuredProperty)
    by_default = legacy in (True, None) and local in (True, None)
    encoded = _encoded_as(model, legacy=by_default if legacy is None else legacy)
    if local is not None and legacy is not None and local != legacy:
        other = _encoded_as(model, legacy=local)
        for prop in model._properties.values():
            if isinstance(prop, ndb.LocalStructuredProperty):
                encoded[prop._name] = other[prop._name]
    keep_undeclared(encoded, stored, type(model))
    return encoded


def _encoded_as(model: Any, *, legacy: bool) -> Entity:
    context = ndb_context.get_context()
    if context.legacy_data == legacy:
        return entity_from_model(model)
    with context.new(legacy_data=legacy).use():
        return entity_from_model(model)


def _copied(entity: Entity) -> Entity:
    """A copy for ndb, which removes the keys of embedded entities from what it reads."""
    copy = Entity(entity.key, exclude_from_indexes=tuple(entity.exclude_from_indexes))
    copy._meanings = meanings_of(entity)
    for name, value in entity.items():
        if isinstance(value, list):
            copy[name] = [_copied(one) if isinstance(one, Entity) else one for one in value]
        else:
            copy[name] = _copied(value) if isinstance(value, Entity) else value
    return copy


def _is_legacy(entity: Entity, model: Any, kind: Any) -> bool | None:
    """Whether properties of this kind are stored as ndb does by default; None if it has none.

    By default a structured property is stored as `home.city`, and a local one as an embedded
    entity. With `legacy_data=False`, they are stored as an embedded entity `home` and as bytes.
    """
    by_default = kind is ndb.LocalStructuredProperty
    for prop in model._properties.values():
        if not isinstance(prop, kind):
            continue
        value = entity.get(prop._name)
        if value == [] and not by_default:
            return False  # by default, an empty list is not written
        first = value[0] if isinstance(value, list) and value else value
        if first is not None and first != []:
            return isinstance(first, dict) == by_default
        if not by_default and any(name.startswith(f"{prop._name}.") for name in entity):
            return True
    return None


def _write(entity: Entity, encoded: Entity, model: Any) -> None:
    """Make an entity what ndb would write, but keep properties that the model does not declare."""
    excluded, meanings = entity.exclude_from_indexes, meanings_of(entity)
    for name in _changed_names(entity, encoded):
        entity[name] = encoded[name]
        if name in encoded.exclude_from_indexes:
            excluded.add(name)
        else:
            excluded.discard(name)
        if _meaning(encoded, name) is None:
            meanings.pop(name, None)
        else:
            meanings[name] = meanings_of(encoded)[name]
    for name in _dropped_names(entity, encoded, model):
        del entity[name]
        excluded.discard(name)


def _differs(entity: Entity, encoded: Entity, model: Any) -> bool:
    return bool(
        next(_changed_names(entity, encoded), None) or _dropped_names(entity, encoded, model)
    )


def _changed_names(entity: Entity, encoded: Entity) -> Iterator[str]:
    for name, value in encoded.items():
        if not (
            name in entity
            and _is_same(entity[name], value)
            and (name in entity.exclude_from_indexes) == (name in encoded.exclude_from_indexes)
            and _meaning(entity, name) == _meaning(encoded, name)
        ):
            yield name


def _dropped_names(entity: Entity, encoded: Entity, model: Any) -> list[str]:
    """Properties that ndb knows but would not write."""
    inside = tuple(
        f"{prop._name}." for prop in model._properties.values() if inner_model(prop) is not None
    )
    return [
        name
        for name in entity
        if name not in encoded and (declares(model, name) or name.startswith(inside))
    ]


def _meaning(entity: Entity, name: str) -> Any:
    """The meaning of a property; None if it was recorded for another value: it is not written."""
    meaning, value = meanings_of(entity).get(name, (None, None))
    return meaning if value is entity[name] else None


def _is_same(one: Any, other: Any) -> bool:
    """Whether two values would be stored alike, including everything in embedded entities."""
    if isinstance(one, dict) and isinstance(other, dict):
        return (
            one.keys() == other.keys()
            and _complete_key(one) == _complete_key(other)
            and getattr(one, "exclude_from_indexes", None)
            == getattr(other, "exclude_from_indexes", None)
            and all(_is_same(one[name], other[name]) for name in one)
            and all(_meaning(one, name) == _meaning(other, name) for name in one)
        )
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if isinstance(one, datetime.datetime) and isinstance(other, datetime.datetime):
        return _in_utc(one) == _in_utc(other)  # one of them has nanoseconds
    return is_same(one, other)


def _complete_key(entity: Any) -> Key | None:
    """An entity's key; None if it is incomplete, such as those that ndb gives embedded entities."""
    key: Key | None = getattr(entity, "key", None)
    return None if key is None or key.is_partial else key


def _in_utc(time: datetime.datetime) -> datetime.datetime:
    return time if time.tzinfo else time.replace(tzinfo=datetime.timezone.utc)


def _is_auto_now(prop: Any) -> bool:
    return isinstance(prop, ndb.DateTimeProperty) and bool(prop._auto_now)


def _has_auto_now(model: Any) -> bool:
    return any(
        _is_auto_now(prop) or (inner_model(prop) and _has_auto_now(inner_model(prop)))
        for prop in model._properties.values()
    )


def _prepare_but_auto_now(model: Any) -> None:
    for prop in model._properties.values():
        if inner_model(prop) is not None:
            values = prop._get_user_value(model)
            for value in values if prop._repeated else (values,):
                if value is not None:
                    _prepare_but_auto_now(value)
        elif not _is_auto_now(prop):
            prop._prepare_for_put(model)

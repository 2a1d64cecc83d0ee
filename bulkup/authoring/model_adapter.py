"""Lets handlers work with objects of the user's own types, while the engine knows only entities.

An updater with a model type gets one `ModelUpdates` when it is created. An updater without a model
type has none, and pays nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import wraps
from inspect import isasyncgen, isawaitable
from typing import TYPE_CHECKING, Any

from bulkup.authoring.function_updater import FunctionUpdater, one_for_each
from bulkup.authoring.updater import Updater
from bulkup.authoring.writes import flat
from bulkup.core.errors import UsageError
from bulkup.core.places import before_call

if TYPE_CHECKING:
    from google.cloud.datastore import Entity, Key


class ModelAdapter(ABC):
    """Converts between entities and the objects of one type. The methods that are not abstract are
    hooks that most adapters do not need."""

    model: type

    @abstractmethod
    def to_model(self, entity: Entity) -> Any:
        """Make a model of an entity. Raises ValueError, with the property's name, if the entity is
        not of this type."""

    @abstractmethod
    def state(self, model: Any) -> Any:
        """The current state of a model, for `update` to compare with later."""

    @abstractmethod
    def update(self, entity: Entity, model: Any, before: Any) -> tuple[Entity, Any]:
        """The entity to put for a model that was read from `entity`, and the model's state now.

        `before`: the model's state when it was last read or put. The returned entity is `entity`
        itself, changed in place, wherever possible.
        """

    def show_changes(self, entity: Entity, model: Any, before: Any) -> None:
        """Change the entity if the model has changed without a put, so that the engine sees it."""
        self.update(entity, model, before)

    @abstractmethod
    def new_entity(self, model: Any, key: Key) -> Entity:
        """The entity to put for a model that was not read."""

    @abstractmethod
    def key_of(self, model: Any) -> Key | None:
        """The key that the object itself holds; None if it holds none."""

    def has_got_key(self, model: Any, entity: Entity) -> None:  # noqa: B027
        """The model's entity was put: update the model's key, which may lack the id."""

    def is_model(self, value: Any) -> bool:
        return isinstance(value, self.model)

    def plain_value(self, value: Any) -> Any:
        """The value to store in a property for a value in a patch."""
        return value

    def check_patched(self, entity: Entity, model: Any, names: Collection[str]) -> None:  # noqa: B027
        """Raise ValueError, with the property's name, if a patch has set a property to a value that
        is not of its field's type: the next handler could not read it."""

    def datastore_key(self, value: Any) -> Any:
        """Convert a key of the models' own library to an official one; return others unchanged."""
        return value

    def context(self, updater: Updater[Any]) -> AbstractContextManager[Any]:
        """The context in which the user's code runs."""
        return nullcontext()

    def adapt_query(self, updater: Updater[Any]) -> None:  # noqa: B027
        """Let `get_query` return a query of the models' own library."""

    def begin_call(self) -> None:  # noqa: B027
        """A handler is about to be called."""

    def end_call(self) -> None:  # noqa: B027
        """The handler has returned. Raises the errors of calls that it did not wait for."""

    handled: Callable[[Key], Known | None] = staticmethod(lambda key: None)
    """Returns what the running handler was given for the entity with this key, or None."""


@dataclass
class Known:
    """An object that this call has made from an entity, or put."""

    model: Any
    entity: Entity
    before: Any
    is_put: bool = False
    is_watched: bool = True
    """Whether to look for changes that the handler did not put. False once user code
    has put it with ndb itself (`person.put()`), or its put became a new entity."""


@dataclass
class ModelCall:
    """One call of a handler."""

    own: list[Known] = field(default_factory=list)
    """The objects that the handler was given."""
    by_id: dict[int, Known] = field(default_factory=dict)


_call: ContextVar[ModelCall | None] = ContextVar("_call", default=None)


class ModelUpdates:
    """Stands between an updater whose handler takes models and the engine."""

    def __init__(self, updater: Updater[Any], adapter: ModelAdapter) -> None:
        self._updater = updater
        self._adapter = adapter
        self._latest = ModelCall()
        self._looks_for_unwritten = not updater.allow_unwritten_changes
        self._may_change_after_put = not isinstance(updater, FunctionUpdater)
        adapter.handled = self._handled
        adapter.adapt_query(updater)

    @property
    def call(self) -> ModelCall:
        """The running call; on threads that a handler started, the latest call."""
        return _call.get() or self._latest

    def context(self) -> AbstractContextManager[Any]:
        return self._adapter.context(self._updater)

    def _handled(self, key: Key) -> Known | None:
        return next((known for known in self.call.own if known.entity.key == key), None)

    def begin(self) -> ModelCall:
        self._adapter.begin_call()
        self._latest = call = ModelCall()
        _call.set(call)
        return call

    def model_of(self, entity: Entity, call: ModelCall) -> Any:
        """Make a model of an entity for a handler. Raises ValueError with the property's name."""
        try:
            model = self._adapter.to_model(entity)
        except ValueError as error:
            raise before_call(error)  # noqa: B904 - it is the same one
        known = Known(model, entity, self._adapter.state(model))
        call.own.append(known)
        call.by_id[id(model)] = known
        return model

    def models_of(self, entities: Iterable[Entity], call: ModelCall) -> dict[int, ValueError]:
        """Make a model of each entity of a batch. Returns the errors of failures, by index."""
        errors = {}
        for index, entity in enumerate(entities):
            try:
                self.model_of(entity, call)
            except ValueError as error:
                errors[index] = error
        return errors

    def end(self, call: ModelCall) -> None:
        """The handler has returned: let the engine see what it changed but did not put."""
        self._adapter.end_call()
        if self._looks_for_unwritten:
            for known in call.own:
                if known.is_watched and (self._may_change_after_put or not known.is_put):
                    self._adapter.show_changes(known.entity, known.model, known.before)

    # --- what handlers write ---

    def entities(self, item: Any) -> Iterator[Any]:
        """What to put for what the handler puts: entities for models, anything else unchanged."""
        for one in self._flat(item):
            if not self._adapter.is_model(one):
                yield one
                continue
            entity = self._entity_of(one)
            yield entity
            self._adapter.has_got_key(one, entity)  # the caller has put it by now

    def keys(self, item: Any) -> Iterator[Any]:
        """Like `entities`, for what the handler deletes. Yields entities or keys."""
        for one in self._flat(item):
            known = self.call.by_id.get(id(one))
            if known is not None:
                yield known.entity
            else:
                is_model = self._adapter.is_model(one)
                yield self._known_key(one) if is_model else self._adapter.datastore_key(one)

    def _flat(self, item: Any) -> Iterable[Any]:
        return (item,) if self._adapter.is_model(item) else flat(item)

    def returned(self, result: Any, own: Known) -> Any:
        """Like `entities`, for what a function returns. If it returns a single model that it made
        itself and that has no key, the handled entity becomes that model."""
        if (
            self._adapter.is_model(result)
            and not isinstance(result, dict)  # a patch
            and id(result) not in self.call.by_id
            and self._adapter.key_of(result) is None
        ):
            return self._updated(own, result)
        return self._converted(result)

    def _converted(self, result: Any) -> Any:
        is_known = id(result) in self.call.by_id
        if type(result) is dict and not is_known:
            return {name: self._adapter.plain_value(value) for name, value in result.items()}
        if is_known or self._adapter.is_model(result):
            return self._entity_of(result)
        if isinstance(result, Iterator):
            return map(self._converted, result)
        if isinstance(result, (list, tuple, set, frozenset)):
            return [self._converted(one) for one in result]
        return result

    def _entity_of(self, model: Any) -> Entity:
        call = self.call
        known = call.by_id.get(id(model))
        if known is None:
            key = self._known_key(model)
            known = self._handled(key)
        if known is None:
            entity = self._adapter.new_entity(model, key)
            call.by_id[id(model)] = Known(model, entity, self._adapter.state(model))
            return entity
        return self._updated(known, model)

    def _updated(self, known: Known, model: Any) -> Entity:
        entity, now = self._adapter.update(known.entity, model, known.before)
        # From here on, only changes since this put count.
        known.model, known.before, known.is_put = model, now, True
        # Without an id it becomes a new entity; the one that was read is no longer watched.
        known.is_watched = not entity.key.is_partial
        self.call.by_id[id(model)] = known
        return entity

    def check_patched(self, entity: Entity, names: Collection[str]) -> None:
        own = next((known.model for known in self.call.own if known.entity is entity), None)
        if own is not None:
            self._adapter.check_patched(entity, own, names)

    def key_of(self, model: Any) -> Key:
        """The key of a model. Raises TypeError if it is not known."""
        known = self.call.by_id.get(id(model))
        return self._known_key(model) if known is None else known.entity.key

    def _known_key(self, model: Any) -> Key:
        key = self._adapter.key_of(model)
        if key is None:
            name = type(model).__name__
            raise TypeError(
                f"the key of this {name} is not known: change the {name} that the handler was "
                f"given, or give {name} a field of the type bulkup.EntityKey"
            )
        return key


def adapt(updater: Updater[Any], adapter: ModelAdapter) -> None:
    """Let the handler, and `is_done`, take models from now on."""
    if isinstance(updater, FunctionUpdater) and updater.spec.keys_only:
        raise UsageError(
            f"keys_only reads no properties to make a {adapter.model.__name__} of; leave it out"
        )
    if updater._is_async and type(adapter).context is not ModelAdapter.context:
        raise UsageError(
            f"{adapter.model.__name__} is a model of a library that cannot be awaited, so its "
            "handler cannot be an async def; use def"
        )
    updater._models = updates = ModelUpdates(updater, adapter)
    instance: Any = updater
    if isinstance(updater, FunctionUpdater):
        _adapt_function(updater, updates)
        return
    instance.handle_entity = _taking_model(updater.handle_entity, updates)
    instance.handle_batch = _taking_models(updater, updates)
    if type(updater).is_done is not Updater.is_done:
        instance.is_done = _taking_model(updater.is_done, updates, writes=False)


def _adapt_function(updater: FunctionUpdater, updates: ModelUpdates) -> None:
    function, is_done = updater.function, updater.spec.is_done
    instance: Any = updater

    @wraps(function)
    def with_model(entity: Any, **arguments: Any) -> Any:
        call = updates.begin()
        result = function(updates.model_of(entity, call), **arguments)
        if isasyncgen(result):
            return (updates.returned(one, call.own[0]) async for one in result)
        if isawaitable(result):
            return returned_by(result, call)
        return updates.returned(result, call.own[0])

    async def returned_by(result: Awaitable[Any], call: ModelCall) -> Any:
        return updates.returned(await result, call.own[0])

    @wraps(function)
    def with_models(entities: list[Any], **arguments: Any) -> Any:
        call = updates.begin()
        failed = updates.models_of(entities, call)
        if not call.own:
            return list(failed.values())
        results = function([known.model for known in call.own], **arguments)
        if isinstance(results, (str, bytes, Mapping)) or not isinstance(results, Iterable):
            return results  # None, or a result that will be refused
        results = list(results)
        if len(results) != len(call.own):
            raise TypeError(one_for_each(f"{len(results)} for {len(call.own)} entities"))
        returned = map(updates.returned, results, call.own)
        return [failed[i] if i in failed else next(returned) for i in range(len(entities))]

    def until_end(handle: Callable[[Any], None]) -> Callable[[Any], None]:
        @wraps(handle)
        def handle_and_end(handled: Any) -> None:
            handle(handled)
            updates.end(updates.call)  # a generator is exhausted only now

        return handle_and_end

    handle_async = updater.handle_async

    async def handle_async_and_end(handled: Any) -> None:
        await handle_async(handled)
        updates.end(updates.call)

    instance.handle_entity = until_end(updater.handle_entity)
    instance.handle_async = handle_async_and_end
    instance.handle_batch = until_end(updater.handle_batch)
    updater.function = with_models if updater.spec.batch else with_model
    if is_done is not None:
        updater.spec = replace(updater.spec, is_done=_taking_model(is_done, updates, writes=False))


def _taking_model(
    method: Callable[..., Any], updates: ModelUpdates, *, writes: bool = True
) -> Callable[..., Any]:
    @wraps(method)
    def taking_model(entity: Any, **arguments: Any) -> Any:
        call = updates.begin()
        result = method(updates.model_of(entity, call), **arguments)
        if isawaitable(result):
            return awaited(result, call)
        if writes:
            updates.end(call)
        return result

    async def awaited(result: Awaitable[Any], call: ModelCall) -> Any:
        returned = await result
        updates.end(call)
        return returned

    return taking_model


def _taking_models(updater: Updater[Any], updates: ModelUpdates) -> Callable[..., Any]:
    handle_batch = updater.handle_batch

    @wraps(handle_batch)
    def taking_models(entities: list[Any]) -> Any:
        call = updates.begin()
        for index, error in updates.models_of(entities, call).items():
            updater.fail(entities[index], error)
        if not call.own:
            return None
        result: Any = handle_batch([known.model for known in call.own])
        updates.end(call)
        return result

    return taking_models

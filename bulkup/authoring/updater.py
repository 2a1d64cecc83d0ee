"""What users write: which entities, and what happens to each.

A class:

    class AddFullName(Updater):
        '''Backfill full_name on every Person.'''

        def get_query(self):
            return self.client.query(kind="Person")

        def handle_entity(self, entity):
            entity["full_name"] = f'{entity["first"]} {entity["last"]}'
            self.put(entity)

or a function:

    @bulkup.updater(kind="Person")
    def add_full_name(entity, *, sep: str = " "):
        entity["full_name"] = sep.join([entity["first"], entity["last"]])
        return entity
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from bulkup.core.errors import UpdaterError, UsageError

if TYPE_CHECKING:
    from google.cloud.datastore import Client, Entity, Key, Query

    from bulkup.core.events import Report

F = TypeVar("F", bound=Callable[..., Any])

MISSING: Any = object()
"""The default of a parameter that has none."""


class Param:
    """A parameter of an updater class, declared with `param()`.

    On an instance that was given no value it reads as its default, so that an updater made by
    hand, in a unit test, works like one made by `bulkup run`.
    """

    def __init__(self, default: Any = MISSING, help: str = "") -> None:
        self.default = default
        self.help = help
        self.name = "?"

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, instance: object | None, owner: type) -> Any:
        if instance is None:
            return self
        if self.default is MISSING:
            raise AttributeError(
                f"parameter {self.name!r} of {owner.__name__} has no default and was given no value"
            )
        return self.default


def param(default: Any = MISSING, *, help: str = "") -> Any:
    """Declare a parameter of an updater class.

        class DeleteOld(BulkDelete):
            cutoff: date = param(help="delete what is older")

    The annotation says how `-p cutoff=2024-01-01` is converted. Without a default the parameter
    must be given. In the updater the attribute holds the converted value.
    """
    return Param(default, help)


@dataclass(frozen=True)
class Delete:
    """What `bulkup.delete` returns: a function updater's wish to delete."""

    key: Key


def delete(entity_or_key: Entity | Key) -> Delete:
    """For function updaters: `return bulkup.delete(entity)` deletes it.

    Raises TypeError for anything but an Entity or a Key.
    """
    return Delete(_key_of(entity_or_key))


def _key_of(entity_or_key: Any) -> Key:
    from google.cloud.datastore import Entity, Key

    if isinstance(entity_or_key, Entity):
        if entity_or_key.key is None:
            raise TypeError("cannot delete an entity that has no key")
        entity_or_key = entity_or_key.key
    if not isinstance(entity_or_key, Key):
        raise TypeError(f"cannot delete a {type(entity_or_key).__name__}; give an Entity or a Key")
    if entity_or_key.is_partial:
        raise TypeError("cannot delete by an incomplete key")
    return entity_or_key


@dataclass(frozen=True)
class Then:
    """The successor of a run: its updater, as a path, a dotted name or itself, and parameters."""

    updater: Any
    params: dict[str, Any]


class WriteSink:
    """Where an updater's writes and log lines go while it handles one entity (the engine's)."""

    own: Any = MISSING
    """The entity that is handled: the one most often written, which needs no further look."""

    def put(self, entity: Entity) -> None:
        raise NotImplementedError

    def delete(self, key: Key) -> None:
        raise NotImplementedError

    def delete_own(self) -> None:
        self.delete(_key_of(self.own))

    def log(self, line: str) -> None:
        raise NotImplementedError


class Updater:
    """Base of updater classes; override `get_query` and `handle_entity`.

    Class attributes to set:

    `max_failures`       entities that may fail before the run stops: 0 stops at the first,
                         -1 never stops.
    `rewrite_unchanged`  write an entity that is put with nothing changed (default: such a put
                         costs no write).
    `then`               the updater that begins when this one has finished: a class, a function,
                         or a text like "other.py:Name", seen from this file's folder.
    """

    max_failures: int = 0
    rewrite_unchanged: bool = False

    client: Client
    """A `google.cloud.datastore.Client` for the run's target."""

    _sink: WriteSink | None = None
    _then: Then | None = None

    def get_query(self) -> Query:
        """Return the query whose entities are handled: `self.client.query(kind=...)`."""
        raise UpdaterError(
            f"{type(self).__name__} has no get_query; write one that returns a query"
        )

    def handle_entity(self, entity: Entity) -> None:
        """Handle one entity. Its writes land together or, when this raises, not at all.

        It is called again with fresh data when somebody changed the entity before its write
        arrived, so effects other than `put`, `delete` and `log` may happen twice.
        """
        raise NotImplementedError(f"{type(self).__name__} has no handle_entity")

    def finish(self, success: bool, report: Report) -> None:
        """Called when a runner's work ends. `success`: every entity was handled. What handlers kept
        on `self` is here with one process only (`--processes`).

        After success it is called before the end of the run is written down: a runner that dies
        just then leaves it to the next one to call it again.
        """

    def then(self, updater: Any, /, **params: Any) -> None:
        """Begin another updater, once, when this run has finished with success.

            def finish(self, success, report):
                self.then(DeleteOld, cutoff=self.cutoff)

        `updater` is a class, a decorated function, or a text like "other.py:Name", seen from this
        file's folder. For `finish`, `get_query` and `__init__`; what is said in `handle_entity`
        would be unknown to the next runner of the run. Raises RuntimeError there, and when
        there is a successor already.
        """
        if self._sink is not None:
            raise RuntimeError("call then in finish, get_query or __init__, not for an entity")
        if self._then is not None:
            raise RuntimeError("an updater has one successor, and then was called before")
        self._then = Then(updater, params)

    def put(self, *entities: Entity | Iterable[Entity]) -> None:
        """Queue one or several entities for writing, as they are at this moment.

        Entities other than the handled one are fine; one with an incomplete key gets an id.
        Raises TypeError for anything that is not an Entity.
        """
        sink = self._sink or self._writing()
        for entity in entities:
            if entity is sink.own:
                sink.put(entity)
            else:
                _put_others(sink, entity)

    def delete(self, *entities_or_keys: Any) -> None:
        """Queue one or several entities (or keys) for deletion.

        Raises TypeError for anything that is neither an Entity nor a Key.
        """
        sink = self._writing()
        own = sink.own
        for item in entities_or_keys:
            if item is own:
                sink.delete_own()
            else:
                for one in _flat(item):
                    sink.delete(_key_of(one))

    def log(self, message: object) -> None:
        """Add a line to the run's report and to its log in the run state."""
        self._writing().log(str(message))

    def _writing(self) -> WriteSink:
        if self._sink is None:
            raise RuntimeError(
                "put, delete and log work only while bulkup runs handle_entity; in a test, call "
                "bulkup.testing.handle(updater, entity)"
            )
        return self._sink


@contextmanager
def writing_to(sink: WriteSink, updater: Updater) -> Iterator[None]:
    """Meanwhile the updater's writes go to the sink."""
    before, updater._sink = updater._sink, sink
    try:
        yield
    finally:
        updater._sink = before


def returned_something(updater: Updater, result: object) -> TypeError:
    """For a class's handler that returns something: in a function that would be a write, here it
    would be lost without a word."""
    return TypeError(
        f"handle_entity of {type(updater).__name__} returned a {type(result).__name__}, which "
        "writes nothing; in a class, call self.put or self.delete"
    )


def handle_into(updater: Updater, entity: Entity, sink: WriteSink) -> None:
    """Let an updater handle one entity, with its writes going to `sink`.

    What the handler raises comes through. Raises TypeError for one that returns something.
    """
    with writing_to(sink, updater):
        result: Any = updater.handle_entity(entity)  # type: ignore[func-returns-value]
    if result is not None:
        raise returned_something(updater, result)


def _put_others(sink: WriteSink, items: Any) -> None:
    from google.cloud.datastore import Entity

    for entity in _flat(items):
        if not isinstance(entity, Entity):
            raise TypeError(f"put takes entities, not a {type(entity).__name__}")
        if entity.key is None:
            raise TypeError("cannot put an entity that has no key")
        sink.put(entity)


def _flat(item: Any) -> Iterable[Any]:
    """`put(a, b)` and `put([a, b])` both work; an Entity is itself iterable, and a single item."""
    if isinstance(item, (list, tuple, set, frozenset, Iterator)):
        return item
    return (item,)


class BulkPut(Updater):
    """Re-put every entity of the query, changed or not (to rebuild indexes, say)."""

    rewrite_unchanged = True

    def handle_entity(self, entity: Entity) -> None:
        self.put(entity)


class BulkDelete(Updater):
    """Delete every entity of the query.

    A keys-only query is cheaper, but its deletes are unguarded: keys come without versions, so an
    entity that somebody changed meanwhile goes too.
    """

    def handle_entity(self, entity: Entity) -> None:
        self.delete(entity)


@dataclass(frozen=True)
class FunctionSpec:
    """What the `updater` decorator says of a function."""

    kind: str | None
    query: Callable[[Client], Query] | None
    filters: Sequence[tuple[str, str, Any]]
    order: Sequence[str]
    keys_only: bool
    max_failures: int
    rewrite_unchanged: bool
    then: Any = None


SPEC_ATTRIBUTE = "__bulkup_updater__"


def updater(
    kind: str | None = None,
    *,
    query: Callable[[Client], Query] | None = None,
    filters: Sequence[tuple[str, str, Any]] = (),
    order: Sequence[str] | str = (),
    keys_only: bool = False,
    max_failures: int = 0,
    rewrite_unchanged: bool = False,
    then: Any = None,
) -> Callable[[F], F]:
    """Make an updater of a function, which stays callable as it was.

    The function gets an entity and returns what shall be written: an Entity, `bulkup.delete(...)`,
    several of these (returned as a list or yielded), or None for nothing. Its keyword-only
    arguments are the updater's parameters.

    `kind`, with `filters` (`("age", ">=", 18)`) and `order`, says which entities; or `query`, a
    function that gets a `google.cloud.datastore.Client` and returns a query. `then` is the updater
    that begins when this one has finished, as in a class.
    Raises UsageError when neither or both are given.
    """
    if callable(kind):
        raise UsageError('write @bulkup.updater(kind="..."), with the kind of entity to handle')
    if (kind is None) == (query is None):
        raise UsageError("@bulkup.updater needs either kind=... or query=...")
    if kind is not None and not (isinstance(kind, str) and kind):
        raise UsageError(f"@bulkup.updater: kind= takes the name of a kind, not {kind!r}")
    if query is not None and not callable(query):
        raise UsageError("@bulkup.updater: query= takes a function that gets a client")
    if query is not None and (filters or order or keys_only):
        raise UsageError("@bulkup.updater: filters, order and keys_only go with kind=, not query=")
    for filter_ in filters:
        # A lone ("age", ">=", 18), without the list around it, would be taken letter by letter.
        if not isinstance(filter_, (tuple, list)) or len(filter_) != 3:
            raise UsageError(
                '@bulkup.updater: filters= takes a list such as [("age", ">=", 18)], '
                f"and {filter_!r} is no filter"
            )
    spec = FunctionSpec(
        kind,
        query,
        tuple(filters),
        (order,) if isinstance(order, str) else tuple(order),
        keys_only,
        max_failures,
        rewrite_unchanged,
        then,
    )

    def mark(function: F) -> F:
        if isinstance(function, type):
            raise UsageError(
                f"@bulkup.updater is for functions; make the class {function.__name__} "
                "a subclass of bulkup.Updater instead"
            )
        setattr(function, SPEC_ATTRIBUTE, spec)
        return function

    return mark


class FunctionUpdater(Updater):
    """The class form of a decorated function (the engine knows only classes)."""

    def __init__(self, function: Callable[..., Any]) -> None:
        spec = getattr(function, SPEC_ATTRIBUTE, None)
        if not isinstance(spec, FunctionSpec):
            raise UsageError(
                f"{getattr(function, '__name__', function)!r} is no updater yet; "
                'mark the function with @bulkup.updater(kind="...")'
            )
        self.function = function
        self.spec = spec
        self.max_failures = spec.max_failures
        self.rewrite_unchanged = spec.rewrite_unchanged
        self.arguments: dict[str, Any] = {}

    def get_query(self) -> Query:
        spec = self.spec
        if spec.query is not None:
            return spec.query(self.client)
        from google.cloud.datastore.query import PropertyFilter

        query = self.client.query(kind=spec.kind, order=list(spec.order))
        for filter_ in spec.filters:
            query.add_filter(filter=PropertyFilter(*filter_))
        if spec.keys_only:
            query.keys_only()
        return query

    def handle_entity(self, entity: Entity) -> None:
        result = self.function(entity, **self.arguments)
        if result is entity:
            self.put(entity)
        elif result is not None:
            self._write(result)

    def _write(self, result: Entity | Delete | Iterable[Any] | None) -> None:
        from google.cloud.datastore import Entity

        if result is None:
            return
        if isinstance(result, Entity):
            self.put(result)
        elif isinstance(result, Delete):
            self.delete(result.key)
        elif isinstance(result, Iterable) and not isinstance(result, (str, bytes, dict)):
            for item in result:
                self._write(item)
        else:
            raise TypeError(
                "an updater function returns an Entity, bulkup.delete(...), several of these, "
                f"or None; this one returned a {type(result).__name__}"
            )

"""The class form of what users write: which entities, and what happens to each.

class AddFullName(Updater):
    '''Backfill full_name on every Person.'''

    def get_query(self):
        return self.client.query(kind="Person")

    def handle_entity(self, entity):
        entity["full_name"] = f'{entity["first"]} {entity["last"]}'
        self.put(entity)
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, Protocol

from bulkup.authoring.call_threads import SharedSink
from bulkup.authoring.reading import EntityReader
from bulkup.authoring.sought import Sought
from bulkup.authoring.writes import WriteSink, flat, key_to_delete, put_others
from bulkup.core.errors import UpdaterError

if TYPE_CHECKING:
    from google.cloud.datastore import Client, Entity, Key
    from typing_extensions import TypeVar

    from bulkup.core.events import Report

    E = TypeVar("E", default=Entity)
    """What the handler is given."""
else:
    from typing import TypeVar

    E = TypeVar("E")


@dataclass(frozen=True)
class Then:
    """The successor of a run."""

    updater: Any
    """A class, a decorated function, or a path or dotted name."""
    params: dict[str, Any]


class Models(Protocol):
    """Converts models to what is written, for an updater whose handler takes models."""

    def context(self) -> AbstractContextManager[Any]:
        """The context in which the user's code runs."""

    def entities(self, item: Any) -> Iterator[Any]:
        """The entities to put for what a handler puts."""

    def keys(self, item: Any) -> Iterator[Any]:
        """The entities or keys to delete for what a handler deletes."""

    def key_of(self, model: Any) -> Key:
        """The key of a model. Raises TypeError if it is not known."""

    def check_patched(self, entity: Entity, names: Collection[str]) -> None:
        """Raise ValueError if a patch has set a property to a type that models do not accept."""


class Updater(EntityReader, Generic[E]):
    """Base class of updaters; override `get_query` and `handle_entity`.

    `class Fix(Updater[Person])`: the handler is given a Person, a dataclass for example, in place
    of an entity; `put` and `delete` take it (docs/typed-entities.md, docs/ndb.md).

    Class attributes to set:

    `kind`               the kind to handle all entities of, in place of `get_query`; or an ndb
                         model, which the handler is then given.
    `max_failures`       how many entities may fail before the run stops: 0 stops at the first
                         failure, -1 never stops, "1%" stops when more than one in a hundred of
                         those handled have failed (of at least 1,000, or of all if fewer).
    `rewrite_unchanged`  write an entity that is put unchanged. By default such a put costs no
                         write.
    `allow_unwritten_changes`
                         the handler may change the entity it is given without putting it. By
                         default the run stops if it changes entities and writes none of these
                         changes, and warns if it does so for some. This concerns the entity that
                         `handle_entity` is given, not those that it reads with `self.client`.
    `ignore_warnings`    kinds of warnings about this updater's code that are not to be given, such
                         as "naive_datetime"; docs/messages.md lists them.
    `once`               do nothing when a run has finished the same work before: same source,
                         parameters and query (`bulkup run --once`).
    `idempotent`         handling an entity again changes nothing, so a run may be repeated
                         (`bulkup run --until-clean`), also without an `is_done`.
    `concurrency`        how many entities an `async def handle_entity` handles at once, in each
                         process.
    `then`               the updater to run when this one has finished: a class, a function, or a
                         string like "other.py:Name", relative to this file's folder.
    """

    max_failures: int | str = 0
    rewrite_unchanged: bool = False
    allow_unwritten_changes: bool = False
    ignore_warnings: Collection[str] = ()
    once: bool = False
    idempotent: bool = False
    concurrency: int = 32

    _open_sink: WriteSink | None = None
    """While handlers run."""
    _sink: WriteSink | None = None
    """The same, until a handler starts a thread: from then on `_writing` looks who calls."""
    _has_threads = False
    _in_hook = ""
    """`finish`, `check_before` or `check_after` while it runs."""
    _then: Then | None = None
    _decorated: Any = None
    """The function that `@bulkup.updater` marks; None: this is a class of the user's."""
    _models: Models | None = None
    """None: the handler takes entities."""

    def get_query(self) -> Any:
        """Return the query whose entities are handled: `self.client.query(kind=...)`, or one of ndb
        where the handler takes its models."""
        kind = getattr(self, "kind", None)
        if not kind:
            raise UpdaterError(
                f"{type(self).__name__} has no get_query; write one that returns a query"
            )
        return self.client.query(kind=kind)

    def handle_entity(self, entity: E, /) -> Coroutine[Any, Any, None] | None:
        """Handle one entity. Its writes land together or, if this raises, not at all.

        It may be an `async def`: then `concurrency` entities are handled at once, and each awaits
        what it needs. Their writes are committed in the order of the query all the same.

        Called again with fresh data if somebody else changes what it has read before its write
        lands, or if it has read what an earlier call put and no commit has written yet. So any
        effect other than `put`, `delete` and `log` may happen twice.
        """
        raise NotImplementedError(f"{type(self).__name__} has no handle_entity")

    def handle_batch(self, entities: list[E], /) -> None:
        """Handle several entities with one call, in place of `handle_entity`: for one lookup or
        one request that serves them all.

        Each entity's writes still land together or not at all, apart from those of the others. A
        put or delete of one of `entities` is its own. Anything else names the one that it belongs
        to: `self.put(invoice, owner=order)`.

        `self.fail(entity, error)` fails one entity, which then writes nothing. If this raises, it
        is called again with each of the other entities alone, and those for which it raises again
        have failed: what it does apart from `put`, `delete` and `log` may happen twice. After a
        conflict it is called with the entity concerned, alone.
        """
        raise NotImplementedError(f"{type(self).__name__} has no handle_batch")

    def is_done(self, entity: E, /) -> bool:
        """Whether an entity is as this updater leaves it; called by `bulkup verify`. Optional.

        Without it, verify handles each entity again, and counts it as done if that would change
        nothing. An updater that adds, appends, or uses random numbers or the time needs it. Return
        True or False; `put` and `delete` do not work here.
        """
        raise NotImplementedError(f"{type(self).__name__} has no is_done")

    async def aclose(self) -> None:
        """Close what an `async def handle_entity` has opened, such as an HTTP session.

        Called on its event loop, when a process stops working on the run.
        """

    def finish(self, success: bool, report: Report) -> None:
        """Called when a process stops working on the run. `success`: every entity was handled.

        What handlers stored on `self` is available only with one process (`--processes`).

        After success it is called before the run is recorded as finished. If it raises, or the
        process dies, or the successor cannot begin, the run is not finished, and whoever resumes it
        calls `finish` again. So anything it does may happen twice.

        `put`, `delete` and `log` do not work here: use `self.client` and `print`.
        """

    def check_before(self, client: Client, /) -> bool | str | None:
        """Called before the run writes anything, and in a dry run. It holds if it returns nothing
        or True. If it raises, or returns False or a string (the reason), nothing is started.

        `client` only reads, and so does `self.client` here. Not called when a run is resumed.
        """
        return None

    def check_after(self, client: Client, /) -> bool | str | None:
        """Called when every entity is done, before `finish`; holds as `check_before` does.

        If it does not hold, the run is not finished, and whoever resumes it calls this again.
        """
        return None

    def healthy(self) -> bool | str | None:
        """Called every 10 seconds while the run works, and before its first entity. While it
        returns False or a string (the reason), or raises, the run holds: commits in flight are
        finished, nothing is handled, and the run continues by itself.

        It runs on a thread of its own, at the same time as handlers, with a copy of the updater:
        what it sets on `self` is seen by its next call alone. `self.client` only reads. A call that
        takes more than 10 seconds means no. Not called in a dry run.
        """
        return None

    def then(self, updater: Any, /, **params: Any) -> None:
        """Run another updater, once, when this run has finished successfully.

            def finish(self, success, report):
                self.then(DeleteOld, cutoff=self.cutoff)

        `updater` is a class, a decorated function, or a string like "other.py:Name", relative to
        this file's folder. Call it in `finish`, `get_query` or `__init__`: a process that resumes
        the run would not know about a call in `handle_entity`. Raises RuntimeError there, and when
        there already is a successor.
        """
        if self._open_sink is not None or self._in_hook in CHECKS:
            raise RuntimeError(
                "call then in finish, get_query or __init__, not in "
                f"{self._in_hook or 'handle_entity'}"
            )
        if self._then is not None:
            raise RuntimeError("an updater has one successor, and then has already been called")
        self._then = Then(updater, params)

    def _sought(self) -> Sequence[Sought]:
        """What the parameters of a built-in updater name, and entities should have."""
        return ()

    def _new_kinds(self) -> Sequence[str]:
        """Kinds to which a built-in updater moves entities."""
        return ()

    def put(self, *entities: Any, owner: Any = None) -> None:
        """Queue one or several entities, or models, for writing, as they are at this moment.

        They may be other entities than the handled one. One with an incomplete key gets an id,
        which its `key` shows from then on, in this call. `owner`: in `handle_batch`, the entity of
        the batch with which they are written.
        Raises TypeError for anything else.
        """
        sink = self._sink or self._writing()
        if owner is not None:
            sink = sink.owned_by(self._stored(owner))
        for entity in entities:
            if entity is sink.own:
                sink.put(entity)
            else:
                put_others(sink, entity if self._models is None else self._models.entities(entity))

    def delete(self, *entities_or_keys: Any, owner: Any = None) -> None:
        """Queue one or several entities (or keys, or models) for deletion. `owner`: as for `put`.

        Raises TypeError for anything else.
        """
        sink = self._sink or self._writing()
        if owner is not None:
            sink = sink.owned_by(self._stored(owner))
        own = sink.own
        for item in entities_or_keys:
            if item is own:
                sink.delete_own()
                continue
            for one in flat(item) if self._models is None else self._models.keys(item):
                if one is own:
                    sink.delete_own()
                else:
                    sink.delete(key_to_delete(one))

    def fail(self, entity: Any, error: BaseException | str) -> None:
        """In `handle_batch`: this entity has failed, and what it asked for is not written.

        Raises ValueError for an entity that is not in the batch.
        """
        (self._sink or self._writing()).fail(self._stored(entity), error)

    def log(self, message: object, *, owner: Any = None) -> None:
        """Add a line to the run's report and log. `owner`: as for `put`; without it, the line of a
        batch is noted with its first entity."""
        sink = self._sink or self._writing()
        if owner is not None:
            sink = sink.owned_by(self._stored(owner))
        sink.log(str(message))

    def _stored(self, owner: Any) -> Any:
        """The entity or key that an entity, a key or a model stands for."""
        return owner if self._models is None else next(iter(self._models.keys(owner)))

    @cached_property
    def _form(self) -> str:
        """Which of FORMS it has."""
        has_batches = type(self).handle_batch is not Updater.handle_batch
        return "handle_batch" if has_batches else "handle_entity"

    @cached_property
    def _is_async(self) -> bool:
        return is_async(type(self).handle_entity)

    def _writing(self) -> WriteSink:
        sink = self._open_sink
        if sink is None and self._in_hook:
            instead = "write with self.client there, and " if self._in_hook == "finish" else ""
            raise RuntimeError(
                "put, delete and log work only while bulkup runs handle_entity, not in "
                f"{self._in_hook}: {instead}print what people should see"
            )
        if sink is None:
            raise RuntimeError(
                "put, delete and log work only while bulkup runs handle_entity; in a test, call "
                "bulkup.testing.handle(updater, entity)"
            )
        sink = sink.for_caller()
        return SharedSink(sink) if sink.is_shared else sink


def is_async(function: Any) -> bool:
    function = inspect.unwrap(function)
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


CHECKS = ("check_before", "check_after")
FORMS = ("handle_entity", "handle_batch")
"""The handler methods; an updater has one of them."""

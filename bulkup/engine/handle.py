"""Calls the user's code for one entity: entity in, writes or a failure out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from bulkup.authoring.call_threads import end_call
from bulkup.authoring.running import writing_to
from bulkup.authoring.wrong_result import method_result
from bulkup.core.errors import HeldError
from bulkup.core.stop import end_if_fork
from bulkup.datastore.call_error import CallError
from bulkup.datastore.lazy_entity import LazyEntity, has_come_to_nothing
from bulkup.datastore.read_cache import ReadCache
from bulkup.engine.call_failure import fail_with
from bulkup.engine.handled import Handled
from bulkup.engine.handler_call import NOT_PUT, HandlerCall


class Handler(HandlerCall):
    """Calls the updater, one entity at a time."""

    def share_reads(self) -> None:
        """Let `Updater.get` return what an earlier call has got by `get`, for as long as the
        handler is open. Use it only if no other process handles entities of the run."""
        self.reads.cache = cache = ReadCache()
        self._cached = cache.results

    def open(self) -> AbstractContextManager[None]:
        """Let the updater put, delete and log for as long as this is open."""
        self._cached.clear()
        return writing_to(self, self._updater)

    def forget_reads(self) -> None:
        """Forget what was read: the next call reads it again."""
        self._cached.clear()

    def handle(self, result: Any, key: bytes, cursor: bytes) -> Handled:
        """Handle a PageResult with this serialized key. Call it while `open`.

        What the user's code raises becomes a failure. Raises KeyboardInterrupt, HeldError, and
        CallError when Datastore does not answer the handler's own reads.
        """
        pb, version = result.entity, result.version
        item = Handled(key, cursor)
        self._key = key
        self._version = version
        self.own = entity = LazyEntity(pb, version)
        if self._writes or self._versions:
            self._writes.clear()
            self.reads.clear()
            self._made.clear()
        self._changed = False
        self._image = None
        self._put_as = NOT_PUT
        try:
            if not self._in_place:
                self._keep_before(item, pb)
            returned: Any = self._handle_entity(entity)
            if returned is not None:
                raise method_result(self._updater, returned)
        except HeldError:
            raise  # it ends the run: a read of the handler found out that the lease is lost
        except KeyboardInterrupt:
            raise  # the second Ctrl-C ends the run at once
        except BaseException as error:  # also CancelledError, SystemExit, GeneratorExit
            end_if_fork()
            if isinstance(error, CallError) and error.worth_another_try:
                raise  # Datastore is unavailable; that is not this entity's fault
            fail_with(self._updater, item, error, entity)
            if self._changed:
                has_come_to_nothing(entity)
        if self.is_shared:
            end_call(self)
        if item.failure is None:
            self._note_outcome(item, entity, pb)
        if self._log_lines:
            item.log_lines, self._log_lines = self._log_lines, []
        if self._versions:
            item.reads = tuple(self._versions)
        return item

    def handle_many(self, results: Iterable[Any]) -> Iterator[Handled]:
        """Handle PageResults, in order."""
        for result in results:
            yield self.handle(result, result.entity.key, result.cursor)

    def watch_client(self, on_commit: Callable[[], None] | None) -> None:
        """Have `on_commit` called before a handler writes through its client."""
        self.reads.on_commit = on_commit

    @property
    def handled(self) -> LazyEntity:
        """The entity that was handled last."""
        return self.own

    @property
    def requests(self) -> int:
        return int(self.reads.requests)

    @property
    def commits_itself(self) -> bool:
        """The handler writes through its client, after reads."""
        return bool(self.reads.commits_itself)

    def handle_again(self, item: Handled, result: Any) -> None:
        """Handle an entity again, with what was just read. The first outcome is forgotten."""
        item.reset()
        with self.open():
            item.adopt(self.handle_once_more(result, item.key, item.cursor))

    def handle_once_more(self, result: Any, key: bytes, cursor: bytes) -> Handled:
        """`handle`, after a write of the same entity was refused as a conflict."""
        self._once_more = True
        try:
            return self.handle(result, key, cursor)
        finally:
            self._once_more = False

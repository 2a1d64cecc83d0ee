"""Calls the user's code for one entity: entity in, writes or a failure out."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from bulkup.authoring.call_threads import end_call
from bulkup.authoring.updater import writing_to
from bulkup.authoring.user_lines import blame
from bulkup.authoring.wrong_result import method_result
from bulkup.core.errors import HeldError
from bulkup.core.limits import LimitError
from bulkup.core.stop import end_if_fork
from bulkup.core.user_traceback import error_line, user_traceback
from bulkup.datastore.call_error import CallError
from bulkup.datastore.entity_patch import is_untouched
from bulkup.datastore.keys import key_of
from bulkup.datastore.lazy_entity import LazyEntity, has_come_to_nothing
from bulkup.datastore.messages import EntityPb
from bulkup.engine.handled import Handled, Write, written
from bulkup.engine.handler_call import NOT_PUT, HandlerCall


class LeftAloneError(Exception):
    """Raised by an updater of bulkup's own for an entity that it may not change, and says why."""


class Handler(HandlerCall):
    """Calls the updater, one entity at a time."""

    def open(self) -> AbstractContextManager[None]:
        """Let the updater put, delete and log for as long as this is open."""
        return writing_to(self, self._updater)

    def handle(self, result: Any, key: bytes, cursor: bytes) -> Handled:
        """Handle a PageResult with this serialized key. Call it while `open`.

        What the user's code raises becomes a failure. Raises KeyboardInterrupt and its like,
        HeldError, and CallError when Datastore does not answer the handler's own reads.
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
            self._fail(item, error)
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

    def _fail(self, item: Handled, error: BaseException) -> None:
        where = blame(self._updater, error)
        if isinstance(error, LimitError):  # what the server would say, only sooner
            item.fail("write", f"INVALID_ARGUMENT: {error}{where}", user_traceback(error))
        elif isinstance(error, LeftAloneError):
            item.fail("write", str(error))
        else:
            item.fail("handle", error_line(error) + where, user_traceback(error))

    def _keep_before(self, item: Handled, pb: Any) -> None:
        """What was read is looked at later: fail here if one of its values is corrupt."""
        if self._keeps_before:
            item.before = pb
        EntityPb.FromString(pb.SerializeToString())

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

    def _note_outcome(self, item: Handled, entity: LazyEntity, read: Any) -> None:
        """Note what the handler asked for when it has returned."""
        if self._writes:
            if self._once_more and self._fail_if_committed(item, read):
                return
            asked: tuple[Any, ...] = tuple(self._writes.values())
            if None in asked:
                asked = tuple(write for write in asked if write is not None)
                item.unchanged = int(self._writes.get(item.key, item) is None)
            if len(asked) == 1 and not asked[0].incomplete:  # the common case, without a loop
                item.writes, item.size = asked, len(asked[0].mutation)
            else:
                item.set_writes(asked)
            if self._ranged and not self.moves:
                self.moves = any(_moves(read, item.key, write, self._ranged) for write in asked)
        if (
            self._looks_for_unwritten
            and (self.may_change_after_put or self._put_as is NOT_PUT)
            and not is_untouched(entity)
        ):
            item.unwritten = self._is_unwritten(entity)

    def _fail_if_committed(self, item: Handled, read: Any) -> bool:
        if self._client_writes is None:
            return False
        why = self._client_writes.why_refused(read, self._key, self._writes.values())
        if why is not None:
            item.fail("handle", why)
        return why is not None


def _moves(read: Any, key: bytes, write: Write, ranged: frozenset[str]) -> bool:
    """Whether a write changes where the query finds the entity."""
    if write.deletes:
        return False
    after = written(write)
    if write.key != key:
        # Its former state is unknown here; an entity of the same kind may belong to the query.
        return bool(after.key.path[-1].kind == key_of(key).path[-1].kind)
    before = EntityPb.FromString(read.SerializeToString()).properties
    for name in ranged:
        # A nested property is named with a dot: then compare the property that contains it.
        plain = name in before or name in after.properties
        top = name if plain else name.partition(".")[0]
        if before.get(top) != after.properties.get(top):
            return True
    return False

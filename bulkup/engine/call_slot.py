"""A handler call that may still be open when another one begins: in a batch, or while it waits."""

from __future__ import annotations

from typing import Any

from bulkup.datastore.lazy_entity import LazyEntity, has_come_to_nothing
from bulkup.engine.call_failure import fail_with
from bulkup.engine.call_setup import CallSetup
from bulkup.engine.handled import Handled
from bulkup.engine.handler_call import NOT_PUT, HandlerCall
from bulkup.engine.previewed import CallReads


class CallSlot(HandlerCall):
    """What the call for one entity asks for, from `begin` to `end`.

    `beside`: another slot of the same handler. The two share everything that does not belong to a
    single call.
    """

    _read: Any
    """The message of the entity."""
    _item: Handled
    _entity: LazyEntity

    def __init__(self, setup: CallSetup, beside: CallSlot | None = None) -> None:
        super().__init__(setup)
        if beside is not None:
            self._fresh = beside._fresh
            self._new_ids = beside._new_ids
            self.previewed = beside.previewed
            self.hints = beside.hints

    @property
    def patches(self) -> bool:
        """A put changes the message that was read."""
        return self._in_place

    def reads_into(self, reads: CallReads) -> None:
        """Record in `reads` what the call reads."""
        self.reads = reads
        self._versions = reads.versions

    def begin(self, result: Any, item: Handled, *, once_more: bool = False) -> LazyEntity:
        """Begin the call for a PageResult. Raises ValueError if one of its values is corrupt."""
        self._read = result.entity
        self._item = item
        self._key = item.key
        self._version = result.version
        self._once_more = once_more
        self.own = self._entity = entity = LazyEntity(result.entity, result.version)
        self._writes.clear()
        self._made.clear()
        self._log_lines = []
        self._changed = False
        self._image = None
        self._put_as = NOT_PUT
        if not self._in_place:
            self._keep_before(item, result.entity)
        return entity

    def end(self, error: BaseException | str | None = None) -> Handled:
        """End the call and return its outcome. `error`: why the call has failed; what it asked for
        is dropped."""
        item = self._item
        if isinstance(error, str):
            item.fail("fail", error)
        elif error is not None:
            fail_with(self._updater, item, error, self._entity)
        if item.failure is None:
            self._note_outcome(item, self._entity, self._read)
        elif self._changed:
            has_come_to_nothing(self._entity)
        item.log_lines = self._log_lines
        return item

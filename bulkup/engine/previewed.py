"""Uncommitted writes that a handler reads: its own puts and deletes and, in a dry run, those that
earlier handlers would have made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bulkup.datastore.pages import PageEntity, PageResult
from bulkup.datastore.reads import Reads, Written
from bulkup.engine.handled import Handled, Write, written

MAX_BYTES = 16 * 1024 * 1024
"""Memory must not grow with the number of entities, so the oldest writes are forgotten."""


class Previewed:
    """The writes of a dry run by key, as far as handlers may read them again."""

    def __init__(self) -> None:
        self.foreign: set[bytes] = set()
        """Keys that handlers of other entities write."""
        self._made: set[bytes] = set()
        """Keys that were deleted and put again: new entities, which a run does not meet."""
        self._writes: dict[bytes, Write] = {}
        self._bytes = 0
        self._has_readers = False
        """Handlers read entities. If they do not, only writes to other entities are kept, which the
        scan may still meet."""

    def add(self, item: Handled) -> None:
        self._has_readers = self._has_readers or bool(item.reads)
        for write in item.writes:
            own = write.key == item.key
            if write.incomplete or (own and not self._has_readers):
                continue
            before = self._writes.get(write.key)
            is_made = before is not None and (before.deletes or write.key in self._made)
            self._forget(write.key)
            if is_made and not write.deletes:
                self._made.add(write.key)
            if not own:
                self.foreign.add(write.key)
            self._writes[write.key] = write
            self._bytes += len(write.mutation)
        while self._bytes > MAX_BYTES:
            self._forget(next(iter(self._writes)))

    def _forget(self, key: bytes) -> None:
        write = self._writes.pop(key, None)
        if write is not None:
            self._bytes -= len(write.mutation)
            self.foreign.discard(key)
            self._made.discard(key)

    def get(self, key: bytes) -> Write | None:
        return self._writes.get(key)

    def read_again(self, result: Any) -> Any:
        """A PageResult as it would be after the writes; None if it was deleted, or is no longer the
        same entity."""
        key = result.entity.key
        write = self._writes[key]
        if write.deletes or key in self._made:
            return None
        fresh = PageResult(cursor=result.cursor, version=result.version)
        fresh.entity.CopyFrom(PageEntity.FromString(written(write).SerializeToString()))
        return fresh


class CallReads(Reads):
    """`writes`: what the current handler call has put and deleted."""

    def __init__(
        self, writes: Mapping[bytes, Write | None], previewed: Previewed | None = None
    ) -> None:
        super().__init__()
        self._writes = writes
        self._previewed = previewed

    def written(self, key: bytes) -> Written | None:
        write = self._writes.get(key)
        in_this_call = write is not None
        if write is None and self._previewed is not None:
            write = self._previewed.get(key)
        if write is None:
            return None
        return Written(None if write.deletes else written(write), in_this_call)

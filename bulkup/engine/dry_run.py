"""The dry run: shows what would be written, and writes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Any

from bulkup.core.events import Listener, PropertyChange, WouldChange
from bulkup.core.model import Counts, RunState
from bulkup.core.stop import Stopped
from bulkup.datastore.entity_diff import describe_changes
from bulkup.datastore.keys import key_digest, key_text
from bulkup.datastore.lazy_entity import LazyEntity
from bulkup.datastore.rest_form import changed_values
from bulkup.engine.budget import HandlerOverBudget
from bulkup.engine.commit_resolution import sum_of
from bulkup.engine.handled import Handled, written
from bulkup.engine.in_process import InProcessPool
from bulkup.engine.key_scan import Pages
from bulkup.engine.previewed import Previewed
from bulkup.engine.stopwatch import Doing, Stopwatch
from bulkup.engine.throttle.rate import RateLimiter
from bulkup.engine.unwritten import UnwrittenChanges


class SeenKeys:
    """A set of keys that grows on disk, not in memory: in a temporary file without a name."""

    def __enter__(self) -> SeenKeys:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("CREATE TABLE seen (key BLOB PRIMARY KEY) WITHOUT ROWID")
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def add(self, key: bytes) -> bool:
        """Add a key. Returns False if it is there already."""
        added = self._db.execute(
            "INSERT INTO seen VALUES (?) ON CONFLICT DO NOTHING", (key_digest(key),)
        )
        return added.rowcount == 1


class DryRunSink:
    """Takes handled entities and reports what each would write.

    `listener`: None if single changes are not reported, which saves comparing. `seen`: the keys
    that the scan has returned before, for a query that may return an entity twice.
    """

    def __init__(
        self,
        listener: Listener | None,
        on_done: Callable[[Counts], None],
        previewed: Previewed | None,
        seen: SeenKeys | None = None,
        *,
        unwritten: UnwrittenChanges,
    ) -> None:
        self._listener = listener
        self._on_done = on_done
        self._previewed = previewed
        self._seen = seen
        self._unwritten = unwritten

    def left_out(self) -> Callable[[Any], bool] | None:
        seen = self._seen
        return None if seen is None else lambda result: not seen.add(result.entity.key)

    def add(self, item: Handled) -> None:
        if self._previewed is not None:
            self._previewed.add(item)
        if self._listener is not None:
            for write in item.writes:
                if write.deletes:
                    self._listener(WouldChange(key_text(written(write)), "delete"))
                else:
                    before = LazyEntity(item.before) if write.key == item.key else None
                    self._listener(would_put(before, written(write)))
        if not self._unwritten.is_settled:  # ask before anything is counted
            self._unwritten.look([item])
        self._on_done(sum_of([item], beside=True))
        if self._unwritten.is_holding:
            self._unwritten.hold(1, 0, 1)

    def check_end(self) -> None:
        """Call this at the end of the run or at its limit. Raises ChangesUnwrittenError if entities
        were changed and none of them written."""
        if self._unwritten.is_holding:
            raise self._unwritten.error()


def would_put(before: LazyEntity | None, after: Any) -> WouldChange:
    """The event of a put. `before`: the entity as it is; None if it is new."""
    if before is None:
        before = LazyEntity(_empty(after))
    changes = tuple(
        PropertyChange(*change, values=partial(changed_values, before, after, change[0]))
        for change in describe_changes(before, after)
    )
    return WouldChange(key_text(after.key), "put", changes)


def dry_run(
    scan: Pages,
    handlers: InProcessPool,
    sink: DryRunSink,
    rate: RateLimiter,
    *,
    nap: Callable[[float], None],
    batch_size: int,
    stopwatch: Stopwatch,
) -> None:
    """Handle all entities of a scan, at the rate of a real run.

    Raises BudgetExceeded, CallError, and what `Control.check` raises.
    """
    try:
        while not scan.is_over:
            stopwatch.switch(Doing.READING)
            page = scan.take()
            while page:
                size = rate.batch_size(batch_size)
                span, page = page[:size], page[size:]
                stopwatch.switch(Doing.PACED)
                nap(rate.wait_s(len(span)))
                rate.spend(len(span))
                stopwatch.switch(Doing.HANDLING)
                handlers.handle(span, sink)
        sink.check_end()
    except HandlerOverBudget as over:
        raise over.exceeded from None
    except Stopped as stopped:
        if stopped.state is RunState.STOPPED:  # not by a signal
            sink.check_end()
        raise
    finally:
        stopwatch.switch(Doing.NOTHING)
        scan.close()


def _empty(entity_pb: Any) -> Any:
    """An entity that did not exist before: the same key, no properties."""
    empty = type(entity_pb)()
    empty.key.CopyFrom(entity_pb.key)
    return empty

"""Handlers in this process that take several entities at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from typing import Any

from bulkup.datastore.greenlets import check_not_replaced
from bulkup.engine.accounts import Accounts, Sink
from bulkup.engine.any_handler import AnyHandler
from bulkup.engine.async_handler import AsyncHandler
from bulkup.engine.batches import marks_written
from bulkup.engine.commit import Committer
from bulkup.engine.handle import Handler
from bulkup.engine.handled import Handled
from bulkup.engine.in_process import InProcessPool
from bulkup.engine.slow_handler import SlowHandler


class _Added:
    """What the entities added so far write. Those after them may already have been handled."""

    def __init__(self) -> None:
        self._items: list[Handled] = []
        self._marks: set[bytes] = set()
        self._foreign: set[bytes] = set()

    def add(self, item: Handled) -> None:
        if item.writes:
            self._items.append(item)
            for write in item.writes:
                if write.key != item.key:
                    self._foreign.add(write.key)

    def concerns(self, item: Handled, reads: Sequence[bytes]) -> bool:
        """Whether the entity, or what its handler has read, was written by these."""
        if item.key in self._foreign:
            return True
        if not reads:
            return False
        while self._items:  # most are never needed
            self._marks.update(marks_written(self._items.pop()))
        return not self._marks.isdisjoint(reads)


def in_process(handler: AnyHandler, accounts: Accounts, slow: SlowHandler) -> InProcessPool:
    """The pool for this handler."""
    if isinstance(handler, Handler):
        handler.share_reads()
    if isinstance(handler, AsyncHandler):
        handler.on_wait = accounts.control.check
    pool = InProcessPool if isinstance(handler, Handler) else TogetherPool
    return pool(handler, accounts, slow)


class TogetherPool(InProcessPool):
    """A HandlerPool without processes, for handlers that are batched or async."""

    def handle(
        self, results: Sequence[Any], sink: Sink, committer: Committer | None = None
    ) -> None:
        """Handle entities together, and add them to the sink in their order.

        An entity whose handler has read what one before it writes is handled again, so that in the
        end each has been handled after the writes of those before it. Raises as
        `InProcessPool.handle`.
        """
        accounts, control = self._accounts, self._accounts.control
        control.check()
        began = accounts.monotonic()
        if committer is not None:
            committer.send_if_old(began)
        results = self._to_handle(results, sink)
        landed = committer.drain_open() if self._lands_first and committer else set()
        if self._sought.is_open:
            self._sought.found(results)
        if not self._first_page.is_found:
            self._first_page.found(results)
        with self._handler.open():
            for item in self._in_order(results, committer, landed):
                accounts.enter(item)
                if self._first_page.is_waiting:
                    self._first_page.handled(item)
                sink.add(item)
                if accounts.monotonic() >= control.next_check:
                    control.check()
        if results:
            self._slow.took(accounts.monotonic() - began, len(results))
        check_not_replaced()
        control.check()

    def _to_handle(self, results: Sequence[Any], sink: Sink) -> Sequence[Any]:
        is_left_out = sink.left_out()
        if is_left_out is not None:
            # The query may return an entity twice.
            new = {r.entity.key: r for r in results if not is_left_out(r)}
            results = list(new.values())
        room = self._accounts.control.limit - self._accounts.control.handled
        return results if len(results) <= room else results[: int(room)]

    def _in_order(
        self, results: Sequence[Any], committer: Committer | None, landed: Set[bytes]
    ) -> Iterator[Handled]:
        gone: dict[bytes, Handled] = {}
        there = []
        for result in results:
            fresh = self._if_rewritten(result, committer)
            if fresh is None:
                gone[result.entity.key] = Handled.gone(result.entity.key, result.cursor)
            else:
                there.append(fresh)
        added = _Added()
        outcomes = self._settled(there, committer, landed, added)
        for result in results:
            item = gone.get(result.entity.key) or next(outcomes)
            yield item
            added.add(item)

    def _settled(
        self,
        results: Sequence[Any],
        committer: Committer | None,
        landed: Set[bytes],
        added: _Added,
    ) -> Iterator[Handled]:
        """The outcomes of these results. Each takes into account all that is written before it."""
        done = 0
        is_repeated = False
        while done < len(results):
            for item in self._handler.handle_many(results[done:]):
                reads, item.reads = item.reads, ()
                if item.together == 1 or not is_repeated:
                    is_stale = added.concerns(item, reads) or (
                        bool(reads) and committer is not None and committer.is_stale(reads)
                    )
                    if committer is not None and (reads or is_stale):
                        self._lands_first = (
                            is_stale or self._handler.commits_itself or not landed.isdisjoint(reads)
                        )
                    if is_stale and committer is not None:
                        committer.drain_all()
                    if is_stale and item.together > 1:
                        is_repeated = True
                        break
                    if is_stale:
                        item = self._again(results[done], committer)
                        item.reads = ()
                yield item
                done += 1

    def _again(self, result: Any, committer: Committer | None) -> Handled:
        key = result.entity.key
        fresh = self._if_rewritten(result, committer)
        if fresh is None:
            return Handled.gone(key, result.cursor)
        return self._handler.handle(fresh, key, result.cursor)

    def _if_rewritten(self, result: Any, committer: Committer | None) -> Any:
        """An entity as it is now, if another entity's handler may have written it; None if it was
        deleted."""
        rewritten = committer or self.previewed
        if rewritten is None or result.entity.key not in rewritten.foreign:
            return result
        fresh = self._read_again(result, committer)
        if fresh is not None:
            fresh.cursor = result.cursor
        return fresh

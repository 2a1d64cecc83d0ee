"""Handlers in this process, in the thread that also reads and commits."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Sequence, Set
from typing import TYPE_CHECKING, Any

from bulkup.datastore.greenlets import check_not_replaced
from bulkup.engine.accounts import Accounts, Sink
from bulkup.engine.any_handler import AnyHandler
from bulkup.engine.commit import Committer
from bulkup.engine.first_page import FirstPage
from bulkup.engine.handled import Handled
from bulkup.engine.reads_each import ReadsEach
from bulkup.engine.slow_handler import SLOW_S, SlowHandler

if TYPE_CHECKING:
    from bulkup.engine.shard_runner import ShardRunner


class InProcessPool:
    """A HandlerPool without processes."""

    def __init__(self, handler: AnyHandler, accounts: Accounts, slow: SlowHandler) -> None:
        self._handler = handler
        self._slow = slow
        self._accounts = accounts
        self.handle_again = handler.handle_again
        self.hints = handler.hints
        self._reads_each = ReadsEach(handler.hints)
        self._first_page = FirstPage(handler.hints)
        self._sought = handler.hints.sought
        self.previewed = handler.previewed
        self._lands_first = False
        """Open batches must land before the next entity is handled: the handler has just read what
        the call before wrote, and may do so again; or it must not be called twice, because it
        writes through its client."""

    @property
    def moves(self) -> bool:
        return self._handler.moves

    def watch_client(self, on_commit: Callable[[], None]) -> None:
        self._handler.watch_client(on_commit)

    def begin_round(self) -> None:
        """Nothing to do: `step` handles entities at once, so nothing arrives later."""

    def collect(self, shards: Iterable[ShardRunner]) -> None:
        """Nothing to do: nothing is outstanding between two steps."""

    def step(self, shard: ShardRunner) -> bool:
        committer, throttle = shard.committer, shard.throttle
        if not shard.page:
            return False
        if not committer.has_room():
            committer.note_waiting()
            return False
        size = shard.scan.page_size = throttle.batch_size()
        span = shard.page[:size]
        if not throttle.admit(len(span)):
            return False
        throttle.limits.set_batch_size(size)
        self.handle(span, committer, committer)
        committer.end_page()
        shard.page = shard.page[size:]
        shard.passed(span[-1])
        return True

    def handle(
        self, results: Sequence[Any], sink: Sink, committer: Committer | None = None
    ) -> None:
        """Handle entities one by one and add them to the sink.

        `committer`: the sink of a run, which knows what must be read again first.
        Raises HandlerOverBudget, and what `Control.check` and the sink raise.
        """
        accounts, control = self._accounts, self._accounts.control
        monotonic, handle = accounts.monotonic, self._handler.handle
        add: Callable[[Handled], None] = sink.add
        rewritten = committer or self.previewed
        foreign: Container[bytes] = rewritten.foreign if rewritten is not None else ()
        is_left_out = sink.left_out()
        if self._sought.is_open:
            self._sought.found(results)
        if not self._first_page.is_found:
            self._first_page.found(results)
        if self._first_page.is_waiting:
            add = self._first_page.watching(add)
        before, is_timed = math.inf, False
        requests = self._handler.requests
        with self._handler.open():
            for result in results:
                now = monotonic()
                if now >= control.next_check or control.handled >= control.limit:
                    control.check()
                    # What the last entity took includes its commit, so the next one is timed.
                    is_timed = now - before > SLOW_S
                    now = monotonic()
                    if committer is not None:
                        committer.send_if_old(now)
                before = now
                key: bytes = result.entity.key
                if is_left_out is not None and is_left_out(result):
                    continue
                landed = committer.drain_open() if self._lands_first and committer else None
                if key in foreign:
                    item = self._handle_rewritten(result, committer)
                else:
                    item = handle(result, key, result.cursor)
                if is_timed:
                    self._slow.took(monotonic() - now, suspects=1)
                    is_timed = False
                if item.reads or landed is not None:
                    item = self._settle_reads(item, landed, committer)
                # As Accounts.enter does, without a call for each entity.
                control.handled += 1
                if item.failure is not None:
                    accounts.budget.spend_handling(item.failure)
                if item.log_lines:
                    for line in item.log_lines:
                        accounts.log(line)
                add(item)
        self._reads_each.handled(len(results), self._handler.requests - requests)
        check_not_replaced()

    def _handle_rewritten(self, result: Any, committer: Committer | None) -> Handled:
        """Handle an entity that another one's handler has written since its page was read."""
        key = result.entity.key
        fresh = self._read_again(result, committer)
        if fresh is None:
            return Handled.gone(key, result.cursor)
        return self._handler.handle(fresh, key, result.cursor)

    def _read_again(self, result: Any, committer: Committer | None) -> Any:
        """Returns None if the entity was deleted, or is no longer the same entity."""
        if committer is not None:
            return committer.read_again(result.entity.key)
        assert self.previewed is not None
        return self.previewed.read_again(result)

    def _settle_reads(
        self, item: Handled, landed: Set[bytes] | None, committer: Committer | None
    ) -> Handled:
        """If its handler has read what was not committed yet, commit that and handle the entity
        again.

        The handler cannot wait inside its read, which may be on a thread of its own: only this
        thread commits, and it is in the handler. To call handlers only once where each reads what
        the last one wrote (a counter, say), open batches land before the next call. `landed`: the
        marks of what has just landed for this reason.
        """
        if committer is None:
            return item
        reads, item.reads = item.reads, ()
        is_stale = committer.is_stale(reads)
        self._lands_first = (
            is_stale or self._handler.commits_itself or not (landed or set()).isdisjoint(reads)
        )
        if not is_stale:
            return item
        committer.drain_all()
        self._handler.forget_reads()
        fresh = committer.read_again(item.key)
        if fresh is None:
            return Handled.gone(item.key, item.cursor)
        item = self._handler.handle(fresh, item.key, item.cursor)
        item.reads = ()
        return item

"""Sends entities to the worker processes and takes them back, in the order of each shard's scan.

One shard can keep all workers busy: its chunks wait in a queue, and are added to its commits in
the order they were handed out, whichever worker finishes first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from bulkup.engine.accounts import Accounts
from bulkup.engine.first_page import FirstPage
from bulkup.engine.handled import Handled
from bulkup.engine.hints import Hints
from bulkup.engine.reads_each import ReadsEach
from bulkup.engine.workers import HandedOut, Workers
from bulkup.engine.written_lately import WrittenLately

if TYPE_CHECKING:
    from bulkup.engine.shard_runner import ShardRunner


class Dispatcher:
    """The HandlerPool over workers. `ranged`: the query may return an entity twice."""

    def __init__(self, workers: Workers, accounts: Accounts, hints: Hints, *, ranged: bool) -> None:
        self._workers = workers
        self._accounts = accounts
        self._ranged = ranged
        self._max_chunks = workers.most_chunks
        self._written = WrittenLately() if workers.at_once else None
        self._out: deque[HandedOut] = deque()
        """Chunks that were handed out, oldest first; stays empty without `_written`."""
        self._handed_out = 0
        self._dispatched: set[bytes] = set()
        """Keys at the workers, for a query that may return an entity twice."""
        self.begin_round = workers.pump
        self.handle_again = workers.handle_again
        self.hints = hints
        workers.on_hints = hints.receive
        workers.on_reads = ReadsEach(hints).handled
        self._first_page = FirstPage(hints)
        self._sought = hints.sought

    @property
    def moves(self) -> bool:
        return self._workers.moves

    def watch_client(self, on_commit: Callable[[], None]) -> None:
        self._workers.on_client_commit = on_commit

    def step(self, shard: ShardRunner) -> bool:
        """Raises what HandlerPool.step raises, and CallError from a handler's own reads."""
        now = self._accounts.monotonic()
        if now >= self._accounts.control.next_check:
            self._accounts.control.check()
        shard.committer.send_if_old(now)
        added = self._add_next(shard)
        return self._hand_out_some(shard) or added

    def collect(self, shards: Iterable[ShardRunner]) -> None:
        self._workers.collect()
        for shard in shards:
            while shard.chunks and shard.chunks[0].done():
                chunk = shard.chunks.popleft()
                shard.throttle.rate.spend(len(chunk.items))
                self._add(shard, chunk)
                if not chunk.whole:
                    break  # what follows the gap is handled again by the next runner

    def _add_next(self, shard: ShardRunner) -> bool:
        """Add the oldest chunk to the shard's commits, if it is back."""
        if not shard.chunks or not shard.chunks[0].done():
            return False
        if not shard.committer.has_room():
            shard.committer.note_waiting()
            return False
        chunk = shard.chunks[0]
        if not shard.throttle.admit(len(chunk.items)):
            return False
        shard.chunks.popleft()
        self._add(shard, chunk)
        if chunk.error is not None:
            raise chunk.error
        if not shard.chunks:
            shard.committer.end_page()
        return True

    def _add(self, shard: ShardRunner, chunk: HandedOut) -> None:
        committer, written, items = shard.committer, self._written, chunk.result()
        if self._dispatched:
            self._dispatched.difference_update(item.key for item in items)
        stale = 0
        """How many entities, from this one on, were handled by a call that read too early."""
        for item in items:
            reads, item.reads = item.reads, ()
            if reads and (
                committer.is_stale(reads) or (written and written.since(chunk.ticket, reads))
            ):
                stale = item.together
            if stale:
                committer.drain_all()
            if stale or item.key in committer.foreign:
                fresh = committer.read_again(item.key)
                if fresh is None:
                    item = Handled.gone(item.key, item.cursor)
                else:
                    self.handle_again(item, fresh)
            stale = max(0, stale - 1)
            self._accounts.enter(item)
            if self._first_page.is_waiting:
                self._first_page.handled(item)
            if written is not None:
                written.add(item)
            committer.add(item)
        if written is not None:
            self._forget(written, chunk)

    def _forget(self, written: WrittenLately, chunk: HandedOut) -> None:
        chunk.is_added = True
        while self._out and self._out[0].is_added:
            self._out.popleft()
        written.forget(self._out[0].ticket if self._out else written.number)

    def _hand_out_some(self, shard: ShardRunner) -> bool:
        size = shard.scan.page_size = shard.throttle.batch_size()
        shard.throttle.limits.set_batch_size(size)
        most = min(size, self._accounts.control.limit - self._handed_out)
        if not shard.page or most < 1:
            return False
        if len(shard.chunks) >= self._max_chunks or not self._workers.has_room():
            return False
        some, rest = shard.page, shard.page[:0]
        is_left_out = shard.committer.left_out()
        if is_left_out is not None:
            most_looked_at = self._workers.max_chunk
            some, rest = self._new_ones(some[:most_looked_at], is_left_out), some[most_looked_at:]
        if self._sought.is_open:
            self._sought.found(some)
        if not self._first_page.is_found:
            self._first_page.found(some)
        if some:
            chunk = self._hand_out(shard, some, most)
            some = some[chunk.count :]
        shard.page = [*some, *rest] if rest else some
        return True

    def _hand_out(self, shard: ShardRunner, some: Sequence[Any], most: float) -> HandedOut:
        chunk = self._workers.submit(some, most)
        chunk.knows = shard.page_knows
        if self._written is not None:
            chunk.ticket = self._written.landed(shard.committer.oldest_open())
            self._out.append(chunk)
        shard.chunks.append(chunk)
        self._handed_out += chunk.count
        shard.passed(some[chunk.count - 1])
        if self._ranged:
            self._dispatched.update(result.entity.key for result in some[: chunk.count])
        return chunk

    def _new_ones(self, results: Sequence[Any], is_left_out: Callable[[Any], bool]) -> list[Any]:
        """Leave out entities that the scan has returned before, and those that the run has made."""
        new: dict[bytes, Any] = {}
        for result in results:
            key = result.entity.key
            if key not in self._dispatched and not is_left_out(result):
                new.setdefault(key, result)
        return list(new.values())

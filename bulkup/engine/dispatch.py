"""Entities to the worker processes and back, in the order of each shard's scan.

One lane can keep all workers busy: what it has handed out stands in line, and is added to its
commits in that order, whoever is ready first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from bulkup.engine.commit_resolution import CommitContext
from bulkup.engine.handle import Handled
from bulkup.engine.pool.pool import MAX_CHUNK, QUEUED, Ticket, WorkerPool

if TYPE_CHECKING:
    from bulkup.engine.entities import Entities
    from bulkup.engine.scheduler import ShardRunner


class Dispatcher:
    """`lanes`: those at work, as they come and go. `may_go(n)`: whether the pace lets n entities
    go now; they are spent then."""

    def __init__(
        self,
        workers: WorkerPool,
        common: CommitContext,
        entities: Entities,
        shard_runners: Collection[ShardRunner],
        may_go: Callable[[int], bool],
        page_size: int,
    ) -> None:
        self._workers = workers
        self._common = common
        self._entities = entities
        self._shard_runners = shard_runners
        self._may_go = may_go
        self._page_size = page_size
        self._most_tickets = QUEUED * workers.count
        """Of a lane, so that memory stays bounded while its commits are slow."""
        self._handed_out = 0
        self._under_way: set[bytes] = set()
        """Keys, for a query that may give an entity twice."""

    def step(self, shard_runner: ShardRunner) -> bool:
        """Add what has come back, hand out what there is; False: neither is possible now.

        Raises what `Entities.add` raises, and CallError of a handler's own reads.
        """
        self._entities.look_if_due()
        added = self._add_next(shard_runner)
        return self._hand_out_some(shard_runner) or added

    def collect(self) -> None:
        """On a stop: what workers are at is brought to its end and added, the rest is not begun."""
        self._workers.collect()
        for shard_runner in self._shard_runners:
            while shard_runner.tickets and shard_runner.tickets[0].done():
                ticket = shard_runner.tickets.popleft()
                self._common.pace.spend(len(ticket.items))
                self._add(shard_runner, ticket.result())
                if not ticket.whole:
                    break  # what is behind the gap is handled again by the next runner

    def _add_next(self, shard_runner: ShardRunner) -> bool:
        if not shard_runner.tickets or not shard_runner.tickets[0].done():
            return False
        if not shard_runner.committer.has_room():
            self._common.depth.waited_for(len(self._shard_runners))
            return False
        ticket = shard_runner.tickets[0]
        if not self._may_go(len(ticket.items)):
            return False
        shard_runner.tickets.popleft()
        self._add(shard_runner, ticket.result())
        if ticket.error is not None:
            raise ticket.error
        if not shard_runner.tickets:
            shard_runner.committer.end_page()
        return True

    def _add(self, shard_runner: ShardRunner, items: Sequence[Handled]) -> None:
        if self._under_way:
            self._under_way.difference_update(item.key for item in items)
        self._entities.add(items, shard_runner.committer)

    def _hand_out_some(self, shard_runner: ShardRunner) -> bool:
        size = shard_runner.scan.page_size = self._common.pace.batch_size(self._page_size)
        self._common.limits.pace(size)
        most = min(size, self._entities.limit - self._handed_out)
        if not shard_runner.page or most < 1:
            return False
        if len(shard_runner.tickets) >= self._most_tickets or not self._workers.has_room():
            return False
        some, rest = shard_runner.page, shard_runner.page[:0]
        if self._common.query.ranged:
            some, rest = (
                self._new_ones(shard_runner, shard_runner.page[:MAX_CHUNK]),
                shard_runner.page[MAX_CHUNK:],
            )
        if some:
            ticket = self._hand_out(shard_runner, some, most)
            some = some[ticket.count :]
        shard_runner.page = [*some, *rest] if rest else some
        return True

    def _hand_out(self, shard_runner: ShardRunner, some: Sequence[Any], most: float) -> Ticket:
        ticket = self._workers.submit(some, most)
        shard_runner.tickets.append(ticket)
        self._handed_out += ticket.count
        last = some[ticket.count - 1]
        shard_runner.last_key, shard_runner.last_cursor = last.entity.key, last.cursor
        if self._common.query.ranged:
            self._under_way.update(r.entity.key for r in some[: ticket.count])
        return ticket

    def _new_ones(self, shard_runner: ShardRunner, results: Sequence[Any]) -> list[Any]:
        """Without those that came before."""
        new: dict[bytes, Any] = {}
        for result in results:
            key = result.entity.key
            if key not in self._under_way and not shard_runner.committer.is_handled(key):
                new.setdefault(key, result)
        return list(new.values())

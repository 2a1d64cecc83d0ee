"""Entities to the worker processes and back, in the order of each shard's scan.

One lane can keep all workers busy: what it has handed out stands in line, and is added to its
commits in that order, whoever is ready first.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

from bulkup.engine.handle import Handled
from bulkup.engine.settle import Common
from bulkup.engine.workers import MAX_CHUNK, QUEUED, Ticket, Workers

if TYPE_CHECKING:
    from bulkup.engine.entities import Entities
    from bulkup.engine.work import Lane


class HandOut:
    """`lanes`: those at work, as they come and go. `may_go(n)`: whether the pace lets n entities
    go now; they are spent then."""

    def __init__(
        self,
        workers: Workers,
        common: Common,
        entities: Entities,
        lanes: Collection[Lane],
        may_go: Callable[[int], bool],
        page_size: int,
    ) -> None:
        self._workers = workers
        self._common = common
        self._entities = entities
        self._lanes = lanes
        self._may_go = may_go
        self._page_size = page_size
        self._most_tickets = QUEUED * workers.count
        """Of a lane, so that memory stays bounded while its commits are slow."""
        self._handed_out = 0
        self._under_way: set[bytes] = set()
        """Keys, for a query that may give an entity twice."""

    def step(self, lane: Lane) -> bool:
        """Add what has come back, hand out what there is; False: neither is possible now.

        Raises what `Entities.add` raises, and CallError of a handler's own reads.
        """
        self._entities.look_if_due()
        added = self._add_next(lane)
        return self._hand_out_some(lane) or added

    def collect(self) -> None:
        """On a stop: what workers are at is brought to its end and added, the rest is not begun."""
        self._workers.collect()
        for lane in self._lanes:
            while lane.tickets and lane.tickets[0].done():
                ticket = lane.tickets.popleft()
                self._common.pace.spend(len(ticket.items))
                self._add(lane, ticket.result())
                if not ticket.whole:
                    break  # what is behind the gap is handled again by the next runner

    def _add_next(self, lane: Lane) -> bool:
        if not lane.tickets or not lane.tickets[0].done():
            return False
        if not lane.committer.has_room():
            self._common.depth.waited_for(len(self._lanes))
            return False
        ticket = lane.tickets[0]
        if not self._may_go(len(ticket.items)):
            return False
        lane.tickets.popleft()
        self._add(lane, ticket.result())
        if ticket.error is not None:
            raise ticket.error
        if not lane.tickets:
            lane.committer.end_page()
        return True

    def _add(self, lane: Lane, items: Sequence[Handled]) -> None:
        if self._under_way:
            self._under_way.difference_update(item.key for item in items)
        self._entities.add(items, lane.committer)

    def _hand_out_some(self, lane: Lane) -> bool:
        size = lane.scan.page_size = self._common.pace.batch_size(self._page_size)
        self._common.limits.pace(size)
        most = min(size, self._entities.limit - self._handed_out)
        if not lane.page or most < 1:
            return False
        if len(lane.tickets) >= self._most_tickets or not self._workers.has_room():
            return False
        some, rest = lane.page, lane.page[:0]
        if self._common.query.ranged:
            some, rest = self._new_ones(lane, lane.page[:MAX_CHUNK]), lane.page[MAX_CHUNK:]
        if some:
            ticket = self._hand_out(lane, some, most)
            some = some[ticket.count :]
        lane.page = [*some, *rest] if rest else some
        return True

    def _hand_out(self, lane: Lane, some: Sequence[Any], most: float) -> Ticket:
        ticket = self._workers.submit(some, most)
        lane.tickets.append(ticket)
        self._handed_out += ticket.count
        last = some[ticket.count - 1]
        lane.last_key, lane.last_cursor = last.entity.key, last.cursor
        if self._common.query.ranged:
            self._under_way.update(r.entity.key for r in some[: ticket.count])
        return ticket

    def _new_ones(self, lane: Lane, results: Sequence[Any]) -> list[Any]:
        """Without those that came before."""
        new: dict[bytes, Any] = {}
        for result in results:
            key = result.entity.key
            if key not in self._under_way and not lane.committer.is_handled(key):
                new.setdefault(key, result)
        return list(new.values())

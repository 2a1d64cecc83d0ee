"""Entities of a page, one after the other: handled, counted, and handed on to be written."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from typing import Any, Protocol

from bulkup.datastore.keys import key_of
from bulkup.datastore.rpc import Rpc
from bulkup.engine.budget import Budget, BudgetExceeded
from bulkup.engine.handle import Handled, Handler
from bulkup.engine.scan import QueryPlan

LOOK_EVERY_S = 0.1
"""How often the clock is asked for progress and limits while entities are handled."""


class Sink(Protocol):
    """Where handled entities go: to commits, or (dry run) to a preview."""

    def add(self, item: Handled) -> None: ...
    def end_page(self) -> None: ...
    def drain_all(self) -> None: ...
    @property
    def foreign(self) -> Container[bytes]:
        """Keys of entities that a batch which is not done writes from another one's handler."""
        ...

    def is_handled(self, key: bytes) -> bool: ...


class OverBudget(Exception):
    """A handler's failure broke the budget; the batches before it are still good."""

    def __init__(self, exceeded: BudgetExceeded) -> None:
        super().__init__()
        self.exceeded = exceeded


class Entities:
    """Handles the entities of pages, one by one, and hands them to a sink.

    `look` is called before an entity whenever LOOK_EVERY_S have passed or `limit` entities have
    been handled, and may raise to stop.
    """

    def __init__(
        self,
        *,
        rpc: Rpc,
        query: QueryPlan,
        handler: Handler,
        budget: Budget,
        log: Callable[[str], None],
        look: Callable[[], None],
        limit: float,
        handle_again: Callable[[Handled, Any], None],
    ) -> None:
        self._rpc = rpc
        self._query = query
        self._handler = handler
        self._budget = budget
        self._log = log
        self._look = look
        self._handle_again = handle_again
        self.limit = limit
        self._next_look = 0.0
        self.handled = 0

    def handle(self, results: Sequence[Any], sink: Sink) -> None:
        """Raises OverBudget, and what `look` and the sink raise."""
        with self._handler.open():
            self._handle(results, sink)
        sink.end_page()

    def _handle(self, results: Sequence[Any], sink: Sink) -> None:
        monotonic, handle, add = self._rpc.monotonic, self._handler.handle, sink.add
        ranged, foreign = self._query.ranged, sink.foreign
        for result in results:
            now = monotonic()
            if now >= self._next_look or self.handled >= self.limit:
                self._look()
                self._next_look = now + LOOK_EVERY_S
            key: bytes = result.entity.key
            if ranged and sink.is_handled(key):
                continue
            if key in foreign:
                item = self._read_again(result, key, sink)
            else:
                item = handle(result, key, result.cursor)
            self.handled += 1
            if item.failure is not None:
                self._spend(item)
            if item.log_lines:
                for line in item.log_lines:
                    self._log(line)
            add(item)

    def add(self, items: Sequence[Handled], sink: Sink) -> None:
        """The same for entities that a worker process has handled."""
        for item in items:
            if item.key in sink.foreign:
                found = self._fresh(key_of(item.key), sink)
                if found is None:
                    item = Handled.gone(item.key, item.cursor)
                else:
                    self._handle_again(item, found)
            self.handled += 1
            if item.failure is not None:
                self._spend(item)
            for line in item.log_lines:
                self._log(line)
            sink.add(item)

    def look_if_due(self) -> None:
        now = self._rpc.monotonic()
        if now >= self._next_look:
            self._look()
            self._next_look = now + LOOK_EVERY_S

    def _read_again(self, result: Any, key: bytes, sink: Sink) -> Handled:
        found = self._fresh(key_of(key), sink)
        if found is None:
            return Handled.gone(key, result.cursor)
        return self._handler.handle(found, key, result.cursor)

    def _fresh(self, key: Any, sink: Sink) -> Any:
        """What was read is about to change by our own hand: let that land first. Gives the entity
        of that raw key as it is then, or None."""
        sink.drain_all()
        again = self._query.of_entity(key)
        found = self._rpc.page(again, self._query.namespace).result().batch.entity_results
        return found[0] if found else None

    def _spend(self, item: Handled) -> None:
        assert item.failure is not None
        try:
            self._budget.spend(item.failure)
        except BudgetExceeded as exceeded:
            raise OverBudget(exceeded) from None

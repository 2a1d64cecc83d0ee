"""Notices that an updater moves entities within its own query (the Halloween problem)."""

from __future__ import annotations

from collections.abc import Callable

from bulkup.core.events import WarningKind
from bulkup.engine.any_handler import AnyHandler
from bulkup.engine.scan import QueryPlan
from bulkup.engine.shard_runner import HandlerPool


class MoveWatch:
    """Warns once."""

    def __init__(self, query: QueryPlan, warn: Callable[[str, WarningKind], None]) -> None:
        self._query = query
        self._warn = warn
        self._warned = False

    def look(self, handlers: AnyHandler | HandlerPool) -> None:
        """Called before each commit."""
        if self._warned or not handlers.moves:
            return
        self._warned = True
        names = ", ".join(sorted(self._query.ranged))
        self._warn(
            f"the updater changes a property that its query orders or ranges on ({names}), so "
            "entities move while they are read. Each is still handled only once, but one that "
            "moves from the unread part to the part already read is missed. A query by kind alone "
            "has neither problem",
            WarningKind.MOVES,
        )

"""Notices that an updater moves entities within its own query (the Halloween problem)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bulkup.core.events import WarningKind
from bulkup.engine.handle import Handler
from bulkup.engine.scan import QueryPlan
from bulkup.engine.shard_runner import HandlerPool
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.lease import Lease


class MoveWatch:
    """Warns once. `already`: an earlier runner of the run has warned."""

    def __init__(
        self, query: QueryPlan, warn: Callable[[str, WarningKind], None], *, already: bool = False
    ) -> None:
        self._query = query
        self._warn = warn
        self._warned = already

    def look(
        self,
        handlers: Handler | HandlerPool,
        lease: Lease | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        """Called before each commit. With a lease, the run record learns in which checkpoint the
        handled entities are known: nobody may continue the run without it.

        Raises HeldError, CallError.
        """
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
        if lease is not None and checkpoint is not None:
            file_id = checkpoint.status().file_id
            lease.update(
                lambda record: replace(record, layout=replace(record.layout, moved_in=file_id))
            )

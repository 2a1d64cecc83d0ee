"""One active shard: its pages are read, its entities handled, its batches committed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bulkup.core.records import Shard
from bulkup.core.spans import Observer, Span, SpanKind
from bulkup.engine.commit import Committer
from bulkup.engine.commit_context import CommitContext, LiveMarker, ShardProgress
from bulkup.engine.handled import Handled
from bulkup.engine.hints import Hints
from bulkup.engine.key_scan import open_scan
from bulkup.engine.stopwatch import Doing
from bulkup.engine.workers import HandedOut
from bulkup.state.checkpoint import Checkpoint


class HandlerPool(Protocol):
    """Runs the handler for the entities of all active shards, in this process or in others."""

    @property
    def moves(self) -> bool:
        """A handler has changed a property that the query orders or ranges on."""

    @property
    def hints(self) -> Hints:
        """What handlers have noticed about the updater's code."""

    def watch_client(self, on_commit: Callable[[], None]) -> None:
        """Have `on_commit` called when a handler writes through its client, not through the
        updater."""

    def begin_round(self) -> None:
        """Take in what has arrived since the last round of `step`s."""

    def step(self, shard: ShardRunner) -> bool:
        """Have some entities of the shard's page handled, or commit some that have been.

        Never waits; returns False when nothing can be done now. Raises HandlerOverBudget, and
        what `Control.check` and the commits raise.
        """

    def collect(self, shards: Iterable[ShardRunner]) -> None:
        """On a stop: commit what handlers have started, and start nothing more."""

    def handle_again(self, item: Handled, result: Any) -> None:
        """Handle an entity again, with what was just read. The first outcome is forgotten."""


@dataclass(frozen=True)
class ShardContext:
    """What all active shards share."""

    commits: CommitContext
    checkpoint: Checkpoint
    handlers: HandlerPool
    entity_bytes: int = 0
    """Expected size of an entity; 0: unknown."""
    committers: list[Committer] = field(default_factory=list, init=False)
    """The committers of all active shards."""
    runners: list[ShardRunner] = field(default_factory=list, init=False)
    """All active shards."""


class ShardRunner:
    """Works on one shard. Its driver calls `step` until `is_done`, then `close`.

    `live_markers`: markers of the shard that the last runner left in Datastore.
    """

    def __init__(
        self, shard: Shard, context: ShardContext, live_markers: Sequence[LiveMarker] = ()
    ) -> None:
        self.shard = shard
        self.throttle = context.commits.throttle
        self._checkpoint = checkpoint = context.checkpoint
        self._handlers = context.handlers
        self._committers = context.committers
        counts, counts_above = checkpoint.counts_around_mark(shard)
        progress = ShardProgress(
            shard.id, shard.low_number, shard.low_cursor, shard.low_number + 1,
            live_markers=deque(live_markers),
            counts=counts, counts_above=counts_above,
        )  # fmt: skip
        self.scan = open_scan(
            context.commits.rpc, context.commits.query, shard, self.throttle.max_batch_size,
            entity_bytes=context.entity_bytes,
        )  # fmt: skip
        self.committer = Committer(context.commits, progress, self._committers)
        self._committers.append(self.committer)
        self.page: Sequence[Any] = ()
        """Entities that were read and not handled yet."""
        self._stopwatch = context.commits.stopwatch
        self._observer = context.commits.observer
        self._monotonic = context.commits.rpc.monotonic
        self._foreign = context.commits.foreign
        self.page_knows = self._ahead_knows = self._foreign.landings
        """How many landings of foreign keys there were before the page, and the one ahead, was
        requested."""
        self._runners = context.runners
        self._runners.append(self)
        self.last_key = b""
        """Key of the last entity that was handled or handed out; `last_cursor` is its cursor."""
        self.last_cursor = b""
        self.chunks: deque[HandedOut] = deque()
        """Chunks that were handed out to worker processes and not added to the commits yet."""
        self.may_handle = True
        self.may_end = True
        """Until a split is in the run record, `may_handle` is False for its new shards, and
        `may_end` for the shard that it has shortened."""
        self.is_done = False

    @property
    def is_reading(self) -> bool:
        return not self.scan.is_over or bool(self.page)

    @property
    def is_held(self) -> bool:
        """Everything is handled, and what is not done is held back (`engine/unwritten.py`)."""
        return self.committer.only_holds and not (self.chunks or self.is_reading)

    def step(self) -> bool:
        """Do what can be done without waiting. Returns False when nothing can.

        Raises what HandlerPool.step raises.
        """
        committer, scan = self.committer, self.scan
        committer.resolve_answered()
        if not self.page and scan.is_ready:
            self._take_page()
        if not self.may_handle:
            return False
        if self._observer is None:
            moved = self._handlers.step(self)
        else:
            moved = self._step_observed(self._observer)
        if self.chunks or self.page or not scan.is_over:
            return moved
        # Nothing is left to handle: what is left to commit is sent without another round.
        if not committer.has_room():
            committer.note_waiting()
            return False
        committer.send_batch()
        if not committer.is_idle or not self.may_end:
            return False
        self._finish()
        return True

    def _step_observed(self, observer: Observer) -> bool:
        """Make a step a span. Worker processes and the event loop only take entities here; handling
        them takes longer."""
        began, entities = self._monotonic(), len(self.page)
        moved = self._handlers.step(self)
        if handled := entities - len(self.page):
            ended = self._monotonic()
            observer(Span(SpanKind.HANDLE, "handle", self.shard.id, began, ended, handled))
        return moved

    def _take_page(self) -> None:
        foreign = self._foreign
        self.page_knows, self._ahead_knows = self._ahead_knows, foreign.landings
        did = self._stopwatch.switch(Doing.READING)
        self.page = self.scan.take()
        self._stopwatch.switch(did)
        if foreign:
            foreign.forget(min(runner.knows for runner in self._runners))

    @property
    def knows(self) -> int:
        """How many landings of foreign keys are known to everything that is left to be handled."""
        if self.chunks:
            return self.chunks[0].knows
        if self.page:
            return self.page_knows
        return self._foreign.landings if self.scan.is_over else self._ahead_knows

    def passed(self, result: Any) -> None:
        """Note that entities up to this one were handled or handed out."""
        self.last_key, self.last_cursor = result.entity.key, result.cursor

    def shorten(self, shard: Shard) -> None:
        """End the shard after the last entity that was handled or handed out."""
        self.shard = shard
        self.scan.close()
        self.page = ()
        self.may_end = False

    def _finish(self) -> None:
        self._checkpoint.shard_done(self.shard.id)
        self._committers.remove(self.committer)
        self._runners.remove(self)
        self.is_done = True

    def close(self) -> None:
        self.scan.close()

    @property
    def live_markers(self) -> Sequence[LiveMarker]:
        """Markers of the shard that are in Datastore."""
        return self.committer.shard.live_markers

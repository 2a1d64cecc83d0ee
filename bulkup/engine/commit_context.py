"""What all commits of a run share, and how far the commits of one shard are."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, NamedTuple

from bulkup.core.model import Counts
from bulkup.core.spans import Observer
from bulkup.datastore.rpc import Rpc
from bulkup.engine.batches import Batch
from bulkup.engine.budget import Budget
from bulkup.engine.drift import Drift
from bulkup.engine.handled import Handled, Write
from bulkup.engine.images import ImageLog
from bulkup.engine.journal import BatchJournal
from bulkup.engine.latencies import Latencies
from bulkup.engine.made_entities import MadeEntities
from bulkup.engine.scan import QueryPlan
from bulkup.engine.stopwatch import Stopwatch
from bulkup.engine.throttling import Throttle
from bulkup.engine.unwritten import UnwrittenChanges
from bulkup.state.markers import Markers
from bulkup.state.notes import Notes

NEIGHBOUR_PATIENCE = 16
"""This many conflicts over other entities count as one over the entity itself. When two runs did
nothing but increment one counter, one of them had 9 in a row after 60 entities."""


class LiveMarker(NamedTuple):
    """A marker that is still in Datastore."""

    number: int
    """The number of its batch."""
    key: bytes
    """Serialized."""
    keep_until: float
    """Unix time. Until then a late copy of a commit may still arrive."""


class ForeignKeys(dict[bytes, int]):
    """Keys that handlers of other entities write, and how many open batches write each.

    A key whose batches have landed stays, with count 0, while pages that were requested before that
    are still to be handled: such a page shows the entity as it was. A dict, because every entity is
    looked up in it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.landings = 0
        """How many batches with such keys have landed. A page knows the landings before its
        request."""
        self._landed: dict[bytes, int] = {}
        """For each key with count 0: the number of its last landing, oldest first."""

    def note(self, batch: Batch, item: Handled) -> None:
        """Note that an open batch holds this entity."""
        for write in item.writes:
            if write.key != item.key and write.key not in batch.foreign:
                batch.foreign.add(write.key)
                self[write.key] = self.get(write.key, 0) + 1
                self._landed.pop(write.key, None)

    def release(self, batch: Batch) -> None:
        """Note that a batch is no longer open."""
        if not batch.foreign:
            return
        self.landings += 1
        for key in batch.foreign:
            self[key] -= 1
            if not self[key]:
                self._landed[key] = self.landings

    def forget(self, oldest: int) -> None:
        """Forget the first `oldest` landings: all pages that are left to be handled know them."""
        for key in [*takewhile(lambda key: self._landed[key] <= oldest, self._landed)]:
            del self._landed[key], self[key]


@dataclass(frozen=True)
class ConflictPolicy:
    """What happens to an entity that somebody changed between our read and our write."""

    retries: int
    handle_again: Callable[[Handled, Any], None]

    def is_too_much(self, item: Handled, overtaken: Sequence[Write]) -> bool:
        """Count a conflict of an entity, whose guards have refused these writes. Returns whether it
        has had too many.

        Runs that increment the same counter collide for as long as they work, so writes to other
        entities may be refused more often than writes to the entity itself. This does not hold for
        a handler that has not read the other entity again: calling it again changes nothing.
        """
        refused = {(write.key, write.version) for write in overtaken}
        is_old = not refused.isdisjoint(item.refused)
        is_own = any(write.key == item.key for write in overtaken)
        item.refused = refused
        item.strain += 1 if is_own or is_old else 1 / NEIGHBOUR_PATIENCE
        return item.strain > self.retries


@dataclass(frozen=True)
class CommittingRunner:
    """The runner on whose behalf commits are sent."""

    run_id: str
    runner: str
    """Its id, which its markers carry."""
    before_send: Callable[[], None]
    """Called before a commit is sent or sent again; raises to prevent that."""
    on_done: Callable[[Counts], None]
    unix_time: Callable[[], float]


@dataclass(frozen=True)
class CommitContext:
    """What the commits of all shards of a run share."""

    rpc: Rpc
    query: QueryPlan
    markers: Markers
    notes: Notes
    journal: BatchJournal
    budget: Budget
    throttle: Throttle
    conflicts: ConflictPolicy
    runner: CommittingRunner
    made: MadeEntities
    unwritten: UnwrittenChanges
    stopwatch: Stopwatch
    latencies: Latencies
    drift: Drift | None = None
    """None: the run has no plan."""
    observer: Observer | None = None
    images: ImageLog | None = None
    """None: no before-images are kept."""
    foreign: ForeignKeys = field(default_factory=ForeignKeys, init=False)


@dataclass
class ShardProgress:
    """How far the commits of one shard are."""

    id: int
    low_number: int
    low_cursor: bytes
    next_number: int
    broken: bool = False
    """A batch was given up with its outcome unknown. The low-water mark must not pass it."""
    live_markers: deque[LiveMarker] = field(default_factory=deque)
    counts: Counts = field(default_factory=Counts)
    """What is done up to batch `low_number`. Batches after it that needed no commit are left out:
    a runner that has only the markers handles those again."""
    counts_above: Counts = field(default_factory=Counts)
    """What is done above the low-water mark."""

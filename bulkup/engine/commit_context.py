"""What the commits of a run share, and where those of one shard stand."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from bulkup.core.model import Counts
from bulkup.datastore.rpc import Rpc
from bulkup.engine.budget import Budget
from bulkup.engine.handled import Handled
from bulkup.engine.journal import BatchJournal
from bulkup.engine.made_entities import MadeEntities
from bulkup.engine.scan import QueryPlan
from bulkup.engine.throttling import Throttle
from bulkup.state.markers import Markers
from bulkup.state.notes import Notes


class LiveMarker(NamedTuple):
    """A marker that is still in Datastore."""

    number: int
    """The number of its batch."""
    key: bytes
    """Serialized."""
    keep_until: float
    """Unix time. Until then a late copy of a commit may still arrive."""


class ForeignKeys(dict[bytes, int]):
    """Keys that open batches write from handlers of other entities, and how many batches do.

    A dict, because every entity is looked up in it.
    """

    def add(self, key: bytes) -> None:
        self[key] = self.get(key, 0) + 1

    def release(self, keys: Iterable[bytes]) -> None:
        """A batch that writes these is no longer open."""
        for key in keys:
            self[key] -= 1
            if not self[key]:
                del self[key]


@dataclass(frozen=True)
class ConflictPolicy:
    """What happens to an entity that somebody changed between our read and our write."""

    retries: int
    handle_again: Callable[[Handled, Any], None]


@dataclass(frozen=True)
class CommittingRunner:
    """The runner on whose behalf commits are sent."""

    run_id: str
    runner: str
    """Its id, which its markers carry."""
    before_send: Callable[[], None]
    """Called before a commit is sent, also again; raises to keep it from being sent."""
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
    foreign: ForeignKeys = field(default_factory=ForeignKeys, init=False)


@dataclass
class ShardProgress:
    """Where the commits of one shard stand."""

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

"""How a run in progress is doing: what it does now, what it waits for, and how that changed.

`Vitals` is part of each `Progress`, and a `Sample` is what is kept of it. Strings come from
servers and from the user's own checks: they are untrusted, and a printer must escape them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from bulkup.core.model import Counts


class Phase(str, Enum):
    """What a runner does now."""

    WORKING = "working"
    PAUSED = "paused"
    """Somebody has paused the run."""
    HELD = "held"
    """A health check says no, or it is outside the run's window."""
    WAITING = "waiting"
    """It waits for a server that does not answer, or until a call is sent again."""

    def __str__(self) -> str:
        return self.value  # the same on every Python


@dataclass(frozen=True)
class Waits:
    """Seconds of this runner so far, by what its thread did or waited for.

    The five add up to about the time it has worked: bulkup's own work, which is short, is included
    in what it belongs to.
    """

    reading_s: float = 0.0
    """Waited for pages."""
    handling_s: float = 0.0
    """Ran handlers, or waited for those in worker processes or on the event loop."""
    committing_s: float = 0.0
    """Waited for commits in flight."""
    paced_s: float = 0.0
    """Waited for the rate limit."""
    held_s: float = 0.0
    """Was paused, or held by a health check or a window."""


@dataclass(frozen=True)
class ShardVitals:
    """The progress of a shard that is being worked on."""

    id: int
    handled: int
    """Entities done, by all runners."""
    share: float | None = None
    """About how much of it is done, 0.0 to 1.0, judged by a sample of its keys; None: unknown."""


@dataclass(frozen=True)
class Vitals:
    """How a runner is doing at one moment."""

    phase: Phase = Phase.WORKING
    why: str = ""
    """Why it is paused, held or waiting; empty while it works."""
    in_flight: int = 0
    """Commits that were sent but not answered yet."""
    in_flight_limit: int = 0
    """How many may be in flight now, in all shards that are being worked on together."""
    batch_size: int = 0
    """The maximum number of entities in a batch now."""
    latency_median_s: float | None = None
    """Median latency of the commits answered lately; None if there were none."""
    latency_p99_s: float | None = None
    limit_per_s: float | None = None
    """The rate limit in force, in entities per second; None: no limit."""
    limit_why: str = ""
    """What sets that limit: `ramp-up`, `--max-rate`, `slowed: RESOURCE_EXHAUSTED`."""
    conflicts: int = 0
    """Entities that this runner has handled again because somebody had changed them."""
    retries_by: Mapping[str, int] = field(default_factory=dict)
    """Calls that this runner has sent again, by call and error: `Commit: UNAVAILABLE`."""
    waits: Waits = field(default_factory=Waits)
    shards: tuple[ShardVitals, ...] = ()
    """The shards that are being worked on now, by id: as many as `--shards`, and those whose last
    commits are in flight."""
    shards_waiting: int = 0
    """Shards that have not begun, or were begun by an earlier runner and wait for their turn."""
    shards_done: int = 0
    """Shards that this runner has finished."""


@dataclass(frozen=True)
class Sample:
    """One line of a run's timeline."""

    at: float
    """Unix time."""
    runner: int
    """The generation of the runner that wrote it: 1 for the first one."""
    phase: Phase = Phase.WORKING
    why: str = ""
    """As in `Vitals`."""
    handled: int = 0
    """Entities handled by now, by all runners. `counts` has those that are done."""
    counts: Counts = field(default_factory=Counts)
    """The counts of the whole run."""
    total: int | None = None
    """Entities that the query matches; None: unknown."""
    rate: float = 0.0
    """Entities per second, lately."""
    in_flight: int = 0
    batch_size: int = 0
    median_s: float | None = None
    """Latency of the commits answered lately; None if there were none."""
    p99_s: float | None = None
    limit_per_s: float | None = None
    """None: no limit."""
    limit_why: str = ""
    conflicts: int = 0
    """Those of this runner so far, like `retries` and `waits`."""
    retries: int = 0
    waits: Waits = field(default_factory=Waits)

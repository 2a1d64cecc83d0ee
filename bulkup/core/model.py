"""The model that every package shares: a run's states and counts, a failure, a target."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from enum import Enum


class RunState(str, Enum):
    """The states of a run, and every transition:

    from         to           when
    (new)        RUNNING      the checkpoint file was created
    RUNNING      FINISHED     every entity was handled (failures stayed within the budget)
    RUNNING      FAILED       the failure budget was exceeded, or an error ended the run
    RUNNING      STOPPED      a limit was reached (--limit, --max-time, --max-hold), or
                              `bulkup cancel` stopped it
    RUNNING      INTERRUPTED  SIGINT or SIGTERM
    any but FINISHED, ABANDONED -> RUNNING   the run is resumed
    any but FINISHED -> ABANDONED            `--new` started another run in its place, or
                                             `bulkup abandon` gave it up

    A run that is RUNNING and has no living runner was killed.
    """

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"
    ABANDONED = "abandoned"

    @property
    def is_over(self) -> bool:
        """Whether it can no longer be resumed."""
        return self in (RunState.FINISHED, RunState.ABANDONED)

    def __str__(self) -> str:
        return self.value  # the same on every Python


@dataclass(frozen=True)
class Counts:
    """What a run, or one batch, has done so far. Stored by the names of the fields.

    Each handled entity has exactly one of these outcomes, so they add up to `handled`: `written`,
    `deleted`, `unchanged`, `left_alone`, `vanished`, `failed`. See docs/counts.md.
    """

    handled: int = 0
    """Entities of the query whose outcome is known, including the failure that has stopped the
    run."""
    puts: int = 0
    """Entities put: handled ones, and others that their handlers put."""
    deletes: int = 0
    """Entities deleted, likewise."""
    unchanged: int = 0
    """Handled entities whose put cost no write because nothing had changed."""
    failed: int = 0
    """Entities that could not be handled or written (each is a `Failure`)."""
    vanished: int = 0
    """Entities that somebody deleted between our read and our write. They are not failures."""
    conflicts: int = 0
    """How often an entity was read and handled again because somebody had changed it."""
    other_puts: int = 0
    """Those of `puts` that are not the handled entity itself."""
    other_deletes: int = 0
    """Those of `deletes` that are not the handled entity itself."""
    unwritten: int = 0
    """Handled entities that the handler has changed without writing (all of) the changes. They are
    also counted by outcome: left alone, unchanged or, if changed after a put, written."""

    @property
    def writes(self) -> int:
        return self.puts + self.deletes

    @property
    def written(self) -> int:
        """Handled entities that were put."""
        return self.puts - self.other_puts

    @property
    def deleted(self) -> int:
        """Handled entities that were deleted."""
        return self.deletes - self.other_deletes

    @property
    def left_alone(self) -> int:
        """Handled entities that were neither put nor deleted, did not vanish and did not fail."""
        written = self.puts + self.deletes - self.other_puts - self.other_deletes
        return self.handled - (written + self.unchanged + self.vanished + self.failed)

    @property
    def add_up(self) -> bool:
        """Whether no count is negative, so that every handled entity has one of six outcomes."""
        six = self.written, self.deleted, self.unchanged, self.left_alone, self.vanished
        return min(*six, self.failed, self.other_puts, self.other_deletes) >= 0

    def named(self) -> dict[str, int]:
        """The counts by the names that reports use: the six outcomes, and all others."""
        counts = self.reconciled()
        return {
            "handled": counts.handled,
            "written": counts.written,
            "deleted": counts.deleted,
            "unchanged": counts.unchanged,
            "left_alone": counts.left_alone,
            "vanished": counts.vanished,
            "failed": counts.failed,
            "changed_not_written": counts.unwritten,
            "other_written": counts.other_puts,
            "other_deleted": counts.other_deletes,
            "conflicts": counts.conflicts,
            "puts": counts.puts,
            "deletes": counts.deletes,
            "writes": counts.writes,
        }

    def stored(self) -> dict[str, int]:
        """As JSON, without zeros in fields that an earlier version would not know."""
        every = {one.name: int(getattr(self, one.name)) for one in fields(self)}
        return {name: count for name, count in every.items() if count or name not in _ADDED}

    def reconciled(self) -> Counts:
        """Make the counts of an earlier version add up. It did not distinguish writes of other
        entities from those of handled ones. If there are more outcomes than handled entities, the
        excess is taken from `unchanged` first, and then counted as writes of other entities."""
        if self.left_alone >= 0:
            return self
        excess = -self.left_alone
        unchanged = min(self.unchanged, excess)
        puts = min(self.written, excess - unchanged)
        return replace(
            self,
            unchanged=self.unchanged - unchanged,
            other_puts=self.other_puts + puts,
            other_deletes=self.other_deletes + excess - unchanged - puts,
        )

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(Counts)))

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Counts)))


_ADDED = frozenset({"other_puts", "other_deletes", "unwritten"})
"""Fields that the first version did not have."""


@dataclass(frozen=True)
class Failure:
    """An entity that could not be handled or written."""

    key: str
    """As Python: `Key('City', 5)`, with `namespace=` if it has one."""
    step: str
    """`handle` (the updater raised), `fail` (it called `fail` with a string), `write` (the server
    refused), `read` (cannot be decoded)."""
    error: str
    """One line: `ValueError: no latitude`."""
    traceback: str = ""
    """The user's frames, for `handle`."""
    at: float = field(default=0.0, compare=False)
    """When it failed, by `core.clock.timestamp`; 0: not known."""


@dataclass(frozen=True)
class GateResult:
    """A dry pass that comes before the first write (`--gate clean`), and what it found. Stored by
    the names of the fields."""

    passed: bool = False
    """The pass handled every entity, none failed, and the updater's `check_before` held. In a
    record, False while the pass is still to come."""
    counts: Counts = field(default_factory=Counts)
    """What would be done."""
    elapsed_s: float = 0.0
    checked: bool = False
    """The updater has a `check_before`."""


class LogLine(str):
    """A line of `self.log`, and when it was logged."""

    __slots__ = ("at",)
    at: float

    @classmethod
    def of(cls, line: str, at: float) -> LogLine:
        """`at`: the time by `core.clock.timestamp`; 0: not known."""
        made = cls(str.__str__(line))
        made.at = at
        return made


@dataclass(frozen=True)
class RangesSeen:
    """How far a run in ranges had come when its record was last read."""

    finished: int = 0
    total: int = 0
    """How many ranges there were; 0: not known."""
    counts: Counts = field(default_factory=Counts)
    """What all machines that work on the run have done."""
    entities: int | None = None
    """How many entities the query found at the start; None: not known."""
    at: int = 0
    """Unix time by the server's clock, when these were added up; 0: not known."""


@dataclass(frozen=True)
class TargetInfo:
    """Which Datastore a run works on. Empty strings are the defaults; stored as JSON."""

    project: str
    database: str = ""
    namespace: str = ""
    emulator: str = ""
    """host:port of an emulator; empty for the real service."""
    local: str = ""
    """The embedded Datastore's file; empty for any other."""

    @property
    def is_real(self) -> bool:
        """Whether this is the service, neither an emulator nor the embedded Datastore."""
        return not (self.emulator or self.local)

    def __str__(self) -> str:
        parts = [f"project {self.project}"]
        if self.database:
            parts.append(f"database {self.database}")
        if self.namespace:
            parts.append(f"namespace {self.namespace}")
        if self.local:
            parts.append(f"in {self.local}")
        elif self.emulator:
            parts.append(f"on emulator {self.emulator}")
        return ", ".join(parts)

"""The model that every package shares: a run's states and counts, a failure, a target."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from enum import Enum


class RunState(str, Enum):
    """The states of a run, and every transition:

    from         to           when
    (new)        RUNNING      the checkpoint file was created
    RUNNING      FINISHED     every entity was handled (failures stayed within the budget)
    RUNNING      FAILED       the failure budget was exceeded, or an error ended the run
    RUNNING      STOPPED      --limit or --max-time was reached
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
    """What a run, or one batch, has done so far."""

    handled: int = 0
    """Entities the run is done with, including failed and vanished ones."""
    puts: int = 0
    """Entities written."""
    deletes: int = 0
    """Entities deleted."""
    unchanged: int = 0
    """Puts that cost no write because nothing had changed."""
    failed: int = 0
    """Entities that could not be handled or written (each is a `Failure`)."""
    vanished: int = 0
    """Entities that somebody deleted between our read and our write. They are not failures."""
    conflicts: int = 0
    """How often an entity was read and handled again because somebody had changed it."""

    @property
    def writes(self) -> int:
        return self.puts + self.deletes

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f.name) - getattr(other, f.name) for f in fields(Counts)))

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Counts)))


@dataclass(frozen=True)
class Failure:
    """An entity that could not be handled or written."""

    key: str
    """As Python: `Key('City', 5)`, with `namespace=` if it has one."""
    step: str
    """`handle` (the updater raised), `write` (the server refused), `read` (cannot be decoded)."""
    error: str
    """One line: `ValueError: no latitude`."""
    traceback: str = ""
    """The user's frames, for `handle`."""
    at: float = field(default=0.0, compare=False)
    """When it failed, as `core.clock.timestamp` says; 0: not known."""


class LogLine(str):
    """A line of `self.log`, and when it was logged."""

    __slots__ = ("at",)
    at: float

    @classmethod
    def of(cls, line: str, at: float) -> LogLine:
        """`at`: as `core.clock.timestamp` says; 0: not known."""
        made = cls(str.__str__(line))
        made.at = at
        return made


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

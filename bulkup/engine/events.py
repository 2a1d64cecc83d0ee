"""What happened, as frozen dataclasses: the only thing that leaves the engine.

Printers (terminal, JSON, HTML, e-mail) are twins over these and decide nothing. All texts that
stem from entities, keys, exceptions or servers are untrusted: whoever shows them escapes them.
Times are aware UTC datetimes; durations are seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import Enum
from typing import Union

from bulkup.errors import Exit


class RunState(str, Enum):
    """The states of a run. Every transition there is:

    from         to           when
    (new)        RUNNING      the checkpoint file has been made
    RUNNING      FINISHED     every entity was handled (some may have failed, within the budget)
    RUNNING      FAILED       the failure budget was exceeded, or an error ended the run
    RUNNING      STOPPED      --limit or --max-time was reached
    RUNNING      INTERRUPTED  SIGINT or SIGTERM
    any but FINISHED -> RUNNING   resume. A run found RUNNING without a living runner was killed.
    """

    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Counts:
    """What a run, or one batch of it, did so far."""

    handled: int = 0
    """Entities the run is past, including failed and vanished ones."""
    puts: int = 0
    """Entities written."""
    deletes: int = 0
    """Entities deleted."""
    unchanged: int = 0
    """Puts that cost no write, because nothing had changed."""
    failed: int = 0
    """Entities that could not be handled or written (each is a `Failure`)."""
    vanished: int = 0
    """Entities that somebody deleted between our read and our write; not failures."""
    conflicts: int = 0
    """Times an entity was read and handled again, because somebody had changed it meanwhile."""

    @property
    def writes(self) -> int:
        return self.puts + self.deletes

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            *(getattr(self, f.name) + getattr(other, f.name) for f in fields(Counts))
        )


@dataclass(frozen=True)
class Failure:
    """An entity that could not be handled or written."""

    key: str
    """As Python: `Key('City', 5)`, with `namespace=` where it has one."""
    step: str
    """`handle` (the updater raised), `write` (the server refused), `read` (not decodable)."""
    error: str
    """One line: `ValueError: no latitude`."""
    traceback: str = ""
    """The user's frames, for `handle`."""


@dataclass(frozen=True)
class TargetInfo:
    """Which Datastore a run works on; empty strings are the defaults."""

    project: str
    database: str = ""
    namespace: str = ""
    emulator: str = ""
    """host:port of an emulator; empty for the real service."""
    local: str = ""
    """The file of the embedded Datastore, where it is one."""

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


@dataclass(frozen=True)
class RunStarted:
    run_id: str
    updater: str
    """The updater's name."""
    description: str
    """First line of its docstring, or empty."""
    target: TargetInfo
    params: Mapping[str, str]
    """Parameters as the command line would take them."""
    dry_run: bool = False
    resumed: bool = False
    already: Counts = field(default_factory=Counts)
    """What earlier runners of this run did."""
    total: int | None = None
    """Entities the query matches, where the server can count them."""
    state_file: str = ""


@dataclass(frozen=True)
class Progress:
    """Emitted often (at least every second, also while waiting); printers thin it out."""

    counts: Counts
    """Of the whole run, including earlier runners."""
    total: int | None
    elapsed_s: float
    """Of this runner."""
    rate: float
    """Entities per second, lately."""
    retries: int = 0
    """Calls that had to be sent again, of this runner."""
    waiting: str = ""
    """Why nothing moves: `UNAVAILABLE, next try in 8 s (attempt 4)`; empty when all is well."""


@dataclass(frozen=True)
class Retrying:
    """A call failed in a way that passes, and will be sent again."""

    call: str
    """`RunQuery`, `Commit`, ..."""
    error: str
    attempt: int
    wait_s: float
    left_s: float
    """Patience left before the run gives up."""


@dataclass(frozen=True)
class EntityFailed:
    failure: Failure
    failed: int
    """Failures so far, this one included."""
    max_failures: int
    """-1: no limit."""


@dataclass(frozen=True)
class Logged:
    """The updater called `self.log`."""

    line: str


@dataclass(frozen=True)
class Warned:
    """Something the user should know, and that does not end the run."""

    message: str


@dataclass(frozen=True)
class PropertyChange:
    name: str
    before: str | None
    """None: the property is new."""
    after: str | None
    """None: the property goes."""


@dataclass(frozen=True)
class WouldChange:
    """Dry run only: one write that would be made."""

    key: str
    action: str
    """`put` or `delete`."""
    changes: tuple[PropertyChange, ...] = ()


@dataclass(frozen=True)
class Report:
    """The end of a runner's work, also handed to `Updater.finish`."""

    run_id: str
    updater: str
    description: str
    target: TargetInfo
    params: Mapping[str, str]
    dry_run: bool
    state: RunState
    reason: str
    """One sentence: why it ended, when it is not FINISHED."""
    exit_code: Exit
    counts: Counts
    """Of the whole run."""
    total: int | None
    started: datetime
    """Of the whole run."""
    ended: datetime
    elapsed_s: float
    """Of this runner."""
    retries: int
    failures: tuple[Failure, ...] = ()
    """The first ones; `counts.failed` says how many there are."""
    log_lines: tuple[str, ...] = ()
    """The first ones."""
    log_total: int = 0
    warnings: tuple[str, ...] = ()
    state_file: str = ""
    next_command: str = ""
    """What to type next, or empty."""
    runners: int = 1
    """How many processes worked on the run, one after the other."""
    max_failures: int | None = None
    """The failure budget: -1 is no limit, None is unknown (the headline then is `reason`)."""

    @property
    def success(self) -> bool:
        """Every entity was handled, none failed or all within the budget."""
        return self.state is RunState.FINISHED


@dataclass(frozen=True)
class RunEnded:
    report: Report


Event = Union[
    RunStarted, Progress, Retrying, EntityFailed, Logged, Warned, WouldChange, RunEnded
]
Listener = Callable[[Event], None]

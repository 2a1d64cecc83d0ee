"""What happened, as frozen dataclasses: the only thing that leaves the engine.

Printers (terminal, JSON, HTML, e-mail) are twins over these and decide nothing. All texts that
stem from entities, keys, exceptions or servers are untrusted: whoever shows them escapes them.
Times are aware UTC datetimes; durations are seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from bulkup.errors import Exit
from bulkup.facts import Counts as Counts
from bulkup.facts import Failure as Failure
from bulkup.facts import RunState as RunState
from bulkup.facts import TargetInfo as TargetInfo


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
    pace: str = ""
    """The pace in force and its reason: `ramp-up 750/s, next step in 3:10`; empty: no limit."""


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

    predecessor: str = ""
    """The run before it in a chain, by its id."""
    successor: str = ""
    """The run that began with the end of this one, by its id."""

    @property
    def success(self) -> bool:
        """Every entity was handled, none failed or all within the budget."""
        return self.state is RunState.FINISHED


@dataclass(frozen=True)
class RunEnded:
    report: Report


Event = RunStarted | Progress | Retrying | EntityFailed | Logged | Warned | WouldChange | RunEnded
Listener = Callable[[Event], None]

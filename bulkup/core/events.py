"""What happened, as frozen dataclasses: the only thing that leaves the engine.

Printers (terminal, JSON, HTML, e-mail) are twins over these and decide nothing. All texts that
stem from entities, keys, exceptions or servers are untrusted: whoever shows them escapes them.
Times are aware UTC datetimes; durations are seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from bulkup.core.errors import Exit
from bulkup.core.model import Counts as Counts
from bulkup.core.model import Failure as Failure
from bulkup.core.model import RunState as RunState
from bulkup.core.model import TargetInfo as TargetInfo


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
class SpaceResult:
    """Where the work in one namespace stands, in the report on several."""

    namespace: str
    run_id: str
    """Empty in a dry run, and while it has not begun."""
    state: RunState | None
    """None: not begun."""
    counts: Counts = field(default_factory=Counts)
    """Of the run and its successors, by whomever."""
    exit_code: Exit = Exit.DONE
    note: str = ""
    """Why it ended, or who did it."""


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

    spaces: tuple[SpaceResult, ...] = ()
    """Of a command over several namespaces, whose report this is: the counts are sums, and the
    run id is the group's."""
    appeared: tuple[str, ...] = ()
    """Namespaces that have appeared meanwhile, and were not run."""

    @property
    def success(self) -> bool:
        """Every entity was handled, none failed or all within the budget."""
        return self.state is RunState.FINISHED


@dataclass(frozen=True)
class RunEnded:
    report: Report


@dataclass(frozen=True)
class GroupStarted:
    """What comes now, until `GroupEnded`, is about several namespaces, one after the other."""

    group_id: str
    """Empty where there is none: in a dry run, and for migrations."""
    title: str
    """The updater's name, or `migrations`."""
    target: TargetInfo
    """Its namespace says nothing."""
    pattern: str
    namespaces: tuple[str, ...]
    dry_run: bool = False
    resumed: bool = False


@dataclass(frozen=True)
class GroupEnded:
    report: Report


Event = (
    RunStarted
    | Progress
    | Retrying
    | EntityFailed
    | Logged
    | Warned
    | WouldChange
    | RunEnded
    | GroupStarted
    | GroupEnded
)
Listener = Callable[[Event], None]

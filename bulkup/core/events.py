"""Events: what the engine reports, as frozen dataclasses.

Printers (terminal, JSON, HTML, mail) only show these and decide nothing. Strings that come from
entities, keys, exceptions or servers are untrusted, and a printer must escape them. Times are aware
UTC datetimes; durations are seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from bulkup.core.changes import PropertyChange as PropertyChange
from bulkup.core.changes import WouldChange as WouldChange
from bulkup.core.errors import Exit
from bulkup.core.failure_groups import FailureGroup as FailureGroup
from bulkup.core.model import Counts as Counts
from bulkup.core.model import Failure as Failure
from bulkup.core.model import GateResult as GateResult
from bulkup.core.model import RangesSeen as RangesSeen
from bulkup.core.model import RunState as RunState
from bulkup.core.model import TargetInfo as TargetInfo
from bulkup.core.operations import OperationCounts as OperationCounts
from bulkup.core.plan import Planned as Planned
from bulkup.core.plan_terms import PlanOutcome as PlanOutcome
from bulkup.core.report import Report as Report
from bulkup.core.report import SpaceResult as SpaceResult
from bulkup.core.selection import EVERYTHING, Selection
from bulkup.core.steering import Steering, Verb
from bulkup.core.verification import Found as Found
from bulkup.core.verification import Verification as Verification
from bulkup.core.vitals import Vitals as Vitals


@dataclass(frozen=True)
class RunStarted:
    """A run starts or is resumed."""

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
    """How many entities the query matches; None where the server cannot count them."""
    state_file: str = ""
    verifies: bool = False
    """`bulkup verify` checks the entities; `dry_run` is True, too."""
    planned: bool = False
    """`bulkup plan` makes a plan and writes nothing; `Planned` follows instead of `RunEnded`."""
    gate: bool = False
    """This is the dry pass that comes before the first write."""
    selection: Selection = EVERYTHING
    """What narrows the updater's query."""
    query: str = ""
    """The resulting query, in GQL; empty: the updater's own."""


@dataclass(frozen=True)
class GatePassed:
    """The dry pass is clean, and the run starts."""

    result: GateResult


@dataclass(frozen=True)
class Progress:
    """Emitted at least every second, also while waiting. Printers show only some of them."""

    counts: Counts
    """The counts of the whole run, including earlier runners."""
    total: int | None
    elapsed_s: float
    """Seconds since this runner started."""
    rate: float
    """Entities per second, recently."""
    retries: int = 0
    """Calls that this runner had to send again."""
    waiting: str | None = None
    """Why nothing moves: `UNAVAILABLE, next try in 8 s (attempt 4)`, or `waiting for
    localhost:8081, 7 s`; None when all is well."""
    rate_limit: str | None = None
    """The rate limit in force and why: `ramp-up 750/s, next step in 3:10`; None: no limit."""
    handled: int = 0
    """Entities handled by now. `counts` has those that are done: written, if there is something to
    write."""
    vitals: Vitals | None = None
    """How the runner is doing; None: for work that is not a run, such as `bulkup diff`."""


@dataclass(frozen=True)
class Retrying:
    """A call failed with a transient error and will be sent again."""

    call: str
    """`RunQuery`, `Commit`, ..."""
    error: str
    attempt: int
    wait_s: float
    left_s: float
    """Seconds of retrying left before the run gives up."""


@dataclass(frozen=True)
class EntityFailed:
    """An entity could not be handled or written."""

    failure: Failure
    failed: int
    """Failures so far, including this one."""
    max_failures: int
    """-1: no limit."""


@dataclass(frozen=True)
class Logged:
    """The updater called `self.log`."""

    line: str


class Detailed(str):
    """A message with more lines below it, such as a traceback. The string contains all of them."""

    __slots__ = ("details", "head")
    head: str
    details: str

    def __new__(cls, head: str, details: str = "") -> Detailed:
        self = super().__new__(cls, f"{head}\n{details}" if details else head)
        self.head, self.details = head, details
        return self


def after(prefix: str, message: str) -> str:
    """Put a prefix before a message, and keep the lines below it."""
    if isinstance(message, Detailed):
        return Detailed(prefix + message.head, message.details)
    return prefix + message


@dataclass(frozen=True)
class Steered:
    """Somebody has steered the run, and this runner has done what it was asked: of a pause and a
    cancel, commits in flight have ended."""

    verb: Verb
    """`resume`: the run was paused when this runner began, and still is."""
    steering: Steering
    """As it is now: who changed it, and when."""
    message: str
    """`paused by ann@host`, in a sentence; `by` is untrusted."""


@dataclass(frozen=True)
class Held:
    """A health check says no, or it is outside the run's window: nothing is handled until
    `Released`. Emitted once commits in flight have ended, and again when the reason changes."""

    why: str
    """In a sentence; untrusted."""
    until: datetime | None = None
    """When the window opens; None: nobody knows."""


@dataclass(frozen=True)
class Released:
    """The run works again after `Held`."""

    held_s: float


class WarningKind(str, Enum):
    """What a warning is about, so that nothing has to compare its words."""

    EMPTY_QUERY = "empty_query"
    """The query found no entities."""
    MOVES = "moves"
    """The updater changes properties that its query orders or ranges on."""
    WAITING = "waiting"
    """Another process works on the run or holds the lock."""
    UNFINISHED_RUN = "unfinished_run"
    """The same work was started before: it is resumed, or would be without --dry-run."""
    SIMILAR_RUN = "similar_run"
    """An unfinished run that may have been meant, but has other parameters."""
    CODE_CHANGED = "code_changed"
    """The updater's source has changed since the run started."""
    SLOW_HANDLER = "slow_handler"
    """Handlers take more than a second for an entity."""
    UNWRITTEN = "unwritten"
    """Handlers have changed entities and have not written the changes."""
    FINISHED_MEANWHILE = "finished_meanwhile"
    """The report is of a run that another process has finished."""
    DONE_BEFORE = "done_before"
    """A run has finished the same work before."""
    NO_NUMBER = "no_number"
    """Files of a folder of migrations that seem to be updaters, but have no number."""
    DRIFT = "drift"
    """The finished run differs from its plan."""
    NOT_CLEAN = "not_clean"
    """The passes of --until-clean have ended, and the last one has still written."""
    SUCCESSOR = "successor"
    """The run's successor will not be able to begin."""
    NAIVE_DATETIME = "naive_datetime"
    """A datetime without a time zone is stored."""
    NUMBER_TYPE = "number_type"
    """A property changes from integers to floats, or the other way round."""
    OTHER_NAMESPACE = "other_namespace"
    """Handlers write to another namespace than that of the run."""
    READS_EACH = "reads_each"
    """Handlers read with their client for nearly every entity."""
    BATCH_REPEATED = "batch_repeated"
    """A batch has raised without naming the entities that fail, so each was handled alone."""
    PROCESS_STATE = "process_state"
    """Handlers keep something in a worker process that the run does not get."""
    MISSPELLED = "misspelled"
    """A new property is named almost like one that the entities have."""
    ABSENT = "absent"
    """No entity has the property that a parameter of a built-in updater names."""
    OTHER = "other"
    """Anything else."""


OF_CODE = (
    WarningKind.NAIVE_DATETIME,
    WarningKind.NUMBER_TYPE,
    WarningKind.OTHER_NAMESPACE,
    WarningKind.READS_EACH,
    WarningKind.BATCH_REPEATED,
    WarningKind.PROCESS_STATE,
    WarningKind.MISSPELLED,
    WarningKind.ABSENT,
)
"""Warnings about an updater's code that may be intended; `ignore_warnings` can turn them off."""


@dataclass(frozen=True)
class Warned:
    """Something that the user should know, but that does not end the run."""

    message: str
    kind: WarningKind = WarningKind.OTHER


@dataclass(frozen=True)
class AlreadyDone:
    """A run has finished the same work before. With `--once` there is nothing left to do."""

    run_id: str
    updater: str
    ended: datetime
    ago_s: float
    who: str
    """user@host, who ran it."""
    counts: Counts
    """Including those of its successors."""
    exit_code: Exit
    """How it ended: with or without failures."""
    same_source: bool
    """Whether the updater's source is the same, too."""


@dataclass(frozen=True)
class NothingToRetry:
    """`bulkup retry` was asked to handle a run's failed entities again, but the run names none."""

    run_id: str
    updater: str
    unnamed: int
    """Failed entities whose keys are not known, so they cannot be handled again."""

    @property
    def exit_code(self) -> Exit:
        return Exit.DONE_WITH_FAILURES if self.unnamed else Exit.DONE


@dataclass(frozen=True)
class RunEnded:
    """This process has ended its work on a run."""

    report: Report


@dataclass(frozen=True)
class GroupStarted:
    """The events until `GroupEnded` are about several namespaces, one after the other."""

    group_id: str
    """Empty in a dry run and for migrations, which have no group record."""
    title: str
    """The updater's name, or `migrations`."""
    target: TargetInfo
    """Its namespace means nothing here."""
    pattern: str
    namespaces: tuple[str, ...]
    dry_run: bool = False
    resumed: bool = False
    selection: Selection = EVERYTHING
    """What narrows the updater's query in each of them."""


@dataclass(frozen=True)
class GroupEnded:
    """The work in several namespaces has ended."""

    report: Report


Event = (
    RunStarted
    | GatePassed
    | Progress
    | Retrying
    | EntityFailed
    | Logged
    | Steered
    | Held
    | Released
    | Warned
    | AlreadyDone
    | NothingToRetry
    | WouldChange
    | Found
    | RunEnded
    | Planned
    | GroupStarted
    | GroupEnded
)
Listener = Callable[[Event], None]

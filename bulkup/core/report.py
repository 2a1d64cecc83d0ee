"""What a run, or a group of runs, has done: the content of the last event, passed to `finish`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from bulkup.core.errors import Exit
from bulkup.core.failure_groups import FailureGroup
from bulkup.core.model import Counts, Failure, GateResult, RangesSeen, RunState, TargetInfo
from bulkup.core.operations import OperationCounts
from bulkup.core.plan_terms import PlanOutcome
from bulkup.core.selection import EVERYTHING, Selection
from bulkup.core.verification import Verification


@dataclass(frozen=True)
class SpaceResult:
    """One namespace in a report about several."""

    namespace: str
    run_id: str
    """Empty in a dry run, and before the run has started."""
    state: RunState | None
    """None: not started."""
    counts: Counts = field(default_factory=Counts)
    """The counts of the run and its successors, by all runners."""
    exit_code: Exit = Exit.DONE
    note: str = ""
    """Why it ended, or who ran it."""


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
    """One sentence: why the run ended without being FINISHED."""
    exit_code: Exit
    counts: Counts
    """The counts of the whole run."""
    total: int | None
    started: datetime
    """When the first runner started."""
    ended: datetime
    elapsed_s: float
    """How long the last runner took."""
    retries: int
    failures: tuple[Failure, ...] = ()
    """The first ones; `counts.failed` says how many there are."""
    failure_groups: tuple[FailureGroup, ...] = ()
    """All of them by their error, the largest group first."""
    other_failures: int = 0
    """Failures that are in no group, because there are too many different errors."""
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
    """The failure budget. -1: no limit. None: unknown (the headline is then `reason`)."""

    over_budget: bool | None = None
    """Whether failures have stopped the run. None: unknown (the counts are then all there is)."""
    not_done: int = 0
    """Entities that were handled and do not count as done, since their changes were not written."""
    alive: bool | None = None
    """Of a run that has not ended: whether a process works on it. None: unknown."""
    only_end_left: bool = False
    """Every entity is done, but the run has not ended: its `finish` raised, say."""
    predecessor: str = ""
    """The id of the run before this one in its chain."""
    successor: str = ""
    """The id of the run that this one's end started."""
    retry_of: str = ""
    """The id of the run whose failed entities this one handles again; empty: it is not a retry."""
    retried_by: tuple[str, ...] = ()
    """The ids of the runs that have handled failed entities of this one again."""
    retried: int = 0
    """Of `counts.failed`: how many entities these have handled; they are not in `failures`."""
    gate: GateResult | None = None
    """What the dry pass before the first write found; None: none was asked for. If it was not
    clean, the report is of that pass, and nothing was written."""
    plan: PlanOutcome | None = None
    """How the run has kept to its plan; None: it has none."""
    passes: tuple[int, ...] | None = None
    """Of `--until-clean`: how much each of the passes before this run has written; None: the run is
    not repeated."""
    selection: Selection = EVERYTHING
    """What has narrowed the updater's query."""
    ranges: RangesSeen | None = None
    """Of a run in ranges that is not over, as `bulkup show` tells of it: how far all are."""

    operations: OperationCounts | None = None
    """Of this process, as they are billed; None: not counted. In a dry run the predicted ones are
    those of a run."""
    verification: Verification | None = None
    """Set in the report of `bulkup verify`, whose failures are the entities that are not done."""

    spaces: tuple[SpaceResult, ...] = ()
    """Set in the report about several namespaces, whose counts are sums and whose run id is the
    group's."""
    appeared: tuple[str, ...] = ()
    """Namespaces that were created during the run and were not run."""

    @property
    def success(self) -> bool:
        """Every entity was handled; failures, if any, stayed within the budget."""
        return self.state is RunState.FINISHED

"""A rehearsal: what an updater has done to a throwaway copy of real data.

`bulkup/rehearsal/` produces it, and printers show it. Keys, names, values and errors in a rehearsal
are untrusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from bulkup.core.errors import Exit
from bulkup.core.failure_groups import FailureGroup
from bulkup.core.model import Counts, RunState, TargetInfo
from bulkup.core.plan import Bill, ChangeKind, Forecast, PlanWarning
from bulkup.core.selection import Selection


@dataclass(frozen=True)
class RehearsedOn:
    """The data that was copied."""

    path: str
    """As the user gave it: a file of the embedded Datastore, or an export."""
    is_export: bool
    target: TargetInfo
    """The project, database and namespace that the updater has worked in."""
    kinds: tuple[tuple[str, int], ...]
    """The kinds of all namespaces and how many entities each holds, the largest first; without
    those of bulkup itself."""
    bytes: int
    """The size of the copy, as a file."""
    sample: str = ""
    """`1%`, if only so much of an export was loaded."""
    left_out: tuple[str, ...] = ()
    """What the export holds but the copy does not, a sentence each."""

    @property
    def entities(self) -> int:
        return sum(count for _, count in self.kinds)


@dataclass(frozen=True)
class RehearsedRun:
    """A run on the copy, or one run of a chain."""

    updater: str
    description: str
    params: Mapping[str, str]
    query: str
    """In GQL, if a selection has narrowed it; otherwise empty."""
    selection: Selection
    state: RunState
    reason: str
    """Why it ended unfinished."""
    exit_code: Exit
    counts: Counts
    elapsed_s: float
    runners: int
    max_failures: int | None
    failure_groups: tuple[FailureGroup, ...] = ()
    other_failures: int = 0
    warnings: tuple[str, ...] = ()
    log_lines: tuple[str, ...] = ()
    log_total: int = 0
    check_before: bool = False
    """The updater has such a check."""
    check_after: bool = False


@dataclass(frozen=True)
class ValueSummary:
    """The values of one property on one side, in the entities in which it differs."""

    types: tuple[tuple[str, int], ...]
    """`string`, `integer, not indexed`, `absent`, and how often; the most frequent first."""
    distinct: int | None
    """How many different values there are; None if there were too many to count."""
    common: tuple[tuple[str, int], ...] = ()
    """The most frequent values, and how often; empty where all values differ."""
    least: str | None = None
    """The least value, if all are numbers, timestamps or strings of one type; otherwise None."""
    greatest: str | None = None


@dataclass(frozen=True)
class PropertyEffect:
    """One property that differs afterwards."""

    kind: str
    name: str
    changed: int
    """Entities in which it differs."""
    before: ValueSummary
    after: ValueSummary


@dataclass(frozen=True)
class Effect:
    """What differs between two states of the data: all kinds, all namespaces."""

    created: int = 0
    changed: int = 0
    deleted: int = 0
    kinds: tuple[ChangeKind, ...] = ()
    """Groups of similar changes, the most frequent first."""
    more_kinds: int = 0
    """Entities that changed in further ways, which are only counted."""
    properties: tuple[PropertyEffect, ...] = ()
    """Properties of entities that were changed, by kind and name."""
    more_properties: int = 0
    """Properties that are left out of `properties`."""
    warnings: tuple[PlanWarning, ...] = ()
    """What the new values may do to a real Datastore."""

    @property
    def differs(self) -> bool:
        return bool(self.created or self.changed or self.deleted)


@dataclass(frozen=True)
class SecondRun:
    """The same work once more, on the result of the first run."""

    runs: tuple[RehearsedRun, ...]
    effect: Effect
    error: str = ""
    """Why it could not run; empty if it did."""

    @property
    def finished(self) -> bool:
        return not self.error and all(run.state is RunState.FINISHED for run in self.runs)

    def is_idempotent(self, first: tuple[RehearsedRun, ...]) -> bool:
        """Whether nothing differs afterwards, and no more entities fail than in the first run."""
        return (
            self.finished and not self.effect.differs and failed_of(self.runs) <= failed_of(first)
        )


@dataclass(frozen=True)
class Kill:
    """One kill of the process (SIGKILL) that worked on the copy."""

    after: bool
    """Right after a commit was applied, before its answer arrived; False: right before one."""
    writes: int
    """Entities that all processes so far had written or deleted by then."""


@dataclass(frozen=True)
class CrashPass:
    """The same work from the beginning, killed several times and resumed each time."""

    kills: tuple[Kill, ...]
    runs: tuple[RehearsedRun, ...]
    effect: Effect
    """What differs from the result of the run that was not interrupted, except for `varying`."""
    counts_differ: tuple[str, ...] = ()
    """`written: 12, not 10` for each count that differs from the one without crashes."""
    varying: tuple[str, ...] = ()
    """Properties (`Kind.name`) that also differ between two runs that were not interrupted."""
    unlike: str = ""
    """How the run ended differently; empty if it ended in the same way."""
    not_compared: int = 0
    """Differing entities beyond those that could be compared."""

    def was_killed_between(self, writes: int) -> bool:
        """Whether a kill came when some of `writes` entities were written, but not all."""
        return any(0 < kill.writes < writes for kill in self.kills)

    @property
    def is_same(self) -> bool:
        return not (self.effect.differs or self.counts_differ or self.unlike or self.not_compared)


@dataclass(frozen=True)
class RehearsedWork:
    """One updater with its successors, or one migration."""

    name: str
    runs: tuple[RehearsedRun, ...]
    effect: Effect
    bill: Bill | None
    """The bill for what the run on the copy read and wrote, including bulkup's own records."""
    forecast: Forecast | None
    claims_idempotent: bool | None
    """The updater's own `idempotent`."""
    second: SecondRun | None = None
    """None if the first run did not finish, or a second one was not requested."""
    crash: CrashPass | None = None
    """None for the same reasons, or if the run made no commit, so that nothing could be lost."""
    error: str = ""
    """Why it could not run; empty if it did."""
    error_code: Exit = Exit.DONE
    """The exit code of `bulkup run` for that error."""
    may_be_empty: bool = False
    """There may be nothing to handle (`--allow-empty`)."""

    @property
    def counts(self) -> Counts:
        total = Counts()
        for run in self.runs:
            total = total + run.counts
        return total

    @property
    def finished(self) -> bool:
        return (
            bool(self.runs)
            and not self.error
            and all(run.state is RunState.FINISHED for run in self.runs)
        )

    @property
    def found_nothing(self) -> bool:
        """There was no entity to handle, so the rehearsal shows nothing. A run that does nothing on
        purpose (`once`) has a reason, and does not count."""
        has_reason = any(run.reason for run in self.runs)
        idle = not (self.counts.handled or self.effect.differs or has_reason)
        return self.finished and idle

    @property
    def is_idempotent(self) -> bool | None:
        """Whether a second run changed nothing; None: not known."""
        return None if self.second is None else self.second.is_idempotent(self.runs)

    @property
    def breaks_promise(self) -> bool:
        """The crashes have led to a different result, or `idempotent = True` is not true."""
        is_false = self.claims_idempotent is True and self.is_idempotent is False
        return is_false or (self.crash is not None and not self.crash.is_same)

    @property
    def exit_code(self) -> Exit:
        """That of `bulkup run`, but PENDING if a pass shows that the work is not safe, or if there
        was nothing to handle."""
        if self.error:
            return self.error_code
        unfinished = [run.exit_code for run in self.runs if run.state is not RunState.FINISHED]
        if unfinished:
            return unfinished[0] or Exit.FAILED
        if self.breaks_promise or (self.found_nothing and not self.may_be_empty):
            return Exit.PENDING
        return max((run.exit_code for run in self.runs), default=Exit.DONE)


@dataclass(frozen=True)
class Rehearsal:
    source: RehearsedOn
    created: datetime
    version: str
    """The version of bulkup."""
    elapsed_s: float
    works: tuple[RehearsedWork, ...]
    is_migrations: bool = False
    folder: str = ""
    """The folder of migrations, as the user gave it."""
    left: tuple[str, ...] = ()
    """Migrations that were not rehearsed, because an earlier one did not finish."""
    warnings: tuple[str, ...] = field(default=())

    @property
    def exit_code(self) -> Exit:
        """The code of the first work that is worse than done with failures; otherwise the greatest
        code."""
        codes = [work.exit_code for work in self.works]
        mild = (Exit.DONE, Exit.DONE_WITH_FAILURES)
        worse = [code for code in codes if code not in mild]
        return worse[0] if worse else max(codes, default=Exit.DONE)


def failed_of(runs: tuple[RehearsedRun, ...]) -> int:
    return sum(run.counts.failed for run in runs)

"""Finds work that a run has finished before, from its run record, which stays in Datastore.

Two runs do the same work if updater, parameters and query are the same. The second one repeats the
first only if the source of the updater is the same, too.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import islice, takewhile

from bulkup.core.clock import rough_age
from bulkup.core.errors import Exit
from bulkup.core.events import AlreadyDone, Report, Warned, WarningKind
from bulkup.core.model import Counts, RunState
from bulkup.core.records import RunInfo, next_id
from bulkup.runs.context import RunContext
from bulkup.runs.prepare import PreparedRun
from bulkup.state.finished_runs import FinishedRuns
from bulkup.state.record import RunRecord
from bulkup.state.run_records import Ledger

MOST_UNLISTED = 1000
"""How many records of runs that earlier versions finished are read."""


def find_done(
    ledger: Ledger,
    finished: FinishedRuns,
    run_info: RunInfo,
    settled: Container[str] = frozenset(),
) -> AlreadyDone | None:
    """The last run that finished this work, if any. A run with the same source is preferred.

    A chain has finished when its last run has. `settled`: retries whose outcome is known here. The
    entities of these and of all earlier retries have failed again, so they do not count. Raises
    CallError.
    """

    def done_of(records: Iterable[RunRecord]) -> _Done | None:
        others = (one for one in records if one.run_info.run_id != run_info.run_id)
        unsettled = takewhile(lambda one: one.run_info.run_id not in settled, others)
        chains = (_finished_chain(ledger, first) for first in unsettled)
        return next((_Done(chain, run_info) for chain in chains if chain), None)

    found = done_of(finished.last_first)
    if found is None or not found.same_source:
        same = done_of(finished.last_first_of(run_info.checksum)) if found is not None else None
        old = done_of(_of_earlier_versions(finished, run_info, settled))
        every = [one for one in (same, found, old) if one is not None]
        found = max(every, key=lambda one: (one.same_source, one.ended), default=None)
    return None if found is None else found.event(ledger.server_time.now())


def _of_earlier_versions(
    finished: FinishedRuns, run_info: RunInfo, settled: Container[str]
) -> list[RunRecord]:
    """The runs that earlier versions finished: those with the same source first, and the latest
    first."""
    firsts = [
        record
        for record in islice(finished.of_earlier_versions(), MOST_UNLISTED)
        if not record.chain.links and record.run_info.run_id not in settled
    ]
    return sorted(
        firsts,
        key=lambda one: (one.run_info.checksum == run_info.checksum, one.ended),
        reverse=True,
    )


def _finished_chain(ledger: Ledger, first: RunRecord) -> list[RunRecord] | None:
    """The runs of a chain; None if one of them is not finished or is undone."""
    chain = [first]
    while True:
        if is_undone(ledger, chain[-1]):
            return None
        following = ledger.read(next_id(chain[-1].run_info.run_id))
        if following is None:
            return chain
        if following.state is not RunState.FINISHED:
            return None  # it was abandoned
        chain.append(following)


@dataclass(frozen=True)
class _Done:
    chain: list[RunRecord]
    run_info: RunInfo
    """The facts of the run that asks."""

    @property
    def same_source(self) -> bool:
        return self.chain[0].run_info.checksum == self.run_info.checksum

    @property
    def ended(self) -> int:
        return self.chain[-1].ended

    def event(self, now: float) -> AlreadyDone:
        holder = self.chain[-1].lease.holder
        counts = sum((record.counts for record in self.chain), Counts())
        return AlreadyDone(
            self.chain[0].run_info.run_id,
            self.run_info.updater,
            datetime.fromtimestamp(self.ended, timezone.utc),
            now - self.ended,
            holder.who if holder else "",
            counts,
            Exit.DONE_WITH_FAILURES if counts.failed else Exit.DONE,
            self.same_source,
        )


def is_undone(ledger: Ledger, record: RunRecord) -> bool:
    """Whether everything that a run changed was put back, and that undo was not itself undone
    completely. Raises CallError."""
    if not record.undone_by or record.undone_partly:
        return False
    undo = ledger.read(record.undone_by)
    return undo is None or not undo.undone_by or undo.undone_partly


def warning_of(done: AlreadyDone) -> Warned:
    source = "" if done.same_source else ", with other source code,"
    failed = f", {done.counts.failed:,} of them failed" if done.counts.failed else ""
    skip = "; add --once to leave it at that" if done.same_source else ""
    message = (
        f"run {done.run_id} finished the same work{source} {rough_age(done.ago_s)} ago "
        f"({done.counts.handled:,} entities{failed}); this run handles all entities again{skip}"
    )
    return Warned(message, WarningKind.DONE_BEFORE)


def warn_or_ask(done: AlreadyDone | None, context: RunContext) -> list[Warned]:
    """The warning that the work was done before; empty if `on_done` has asked somebody. Raises what
    `on_done` raises."""
    if done is None or (context.on_done is not None and context.on_done(done)):
        return []
    return [warning_of(done)]


def report_of(prepared: PreparedRun, done: AlreadyDone) -> Report:
    """The report of a command that has nothing to do. The listener gets `done` as an event."""
    context, source = prepared.context, prepared.source
    context.listener(done)
    now = context.clock.now()
    return Report(
        run_id=done.run_id,
        updater=source.name,
        description=source.description,
        target=prepared.target.info,
        params=prepared.params,
        selection=prepared.selection,
        dry_run=context.options.dry_run,
        state=RunState.FINISHED,
        reason=f"already done as {done.run_id}",
        exit_code=done.exit_code,
        counts=done.counts,
        total=None,
        started=now,
        ended=now,
        elapsed_s=0.0,
        retries=0,
    )

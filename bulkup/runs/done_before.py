"""Work that a run finished before: found by its run record, which stays in Datastore.

Two runs are of the same work if updater, parameters and query are the same; they are the same work
done twice only if the source of the updater is the same, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timezone
from itertools import islice

from bulkup.core.clock import rough_age
from bulkup.core.errors import Exit
from bulkup.core.events import AlreadyDone, Report, Warned, WarningKind
from bulkup.core.model import Counts, RunState
from bulkup.core.records import RunInfo, first_id, next_id
from bulkup.runs.context import RunContext
from bulkup.runs.prepare import PreparedRun
from bulkup.state.record import RunRecord
from bulkup.state.run_records import Ledger

MOST_RECORDS = 1000
"""How many records of the same work are read. One is enough to know that it was done."""


def find_done(
    ledger: Ledger, records: Iterable[RunRecord], run_info: RunInfo
) -> AlreadyDone | None:
    """The last run that finished this work, if any; one with the same source before others.

    `records`: of `Ledger.finished_runs_of`. A chain has finished when its last run has. Raises
    CallError.
    """
    chains: dict[str, list[RunRecord]] = {}
    for record in islice(records, MOST_RECORDS):
        if record.run_info.run_id != run_info.run_id and not is_undone(ledger, record):
            chains.setdefault(first_id(record.run_info.run_id), []).append(record)
    found = [
        (chain[0].run_info.checksum == run_info.checksum, chain[-1].ended, chain)
        for chain in (sorted(one, key=lambda r: len(r.chain.links)) for one in chains.values())
        if not chain[0].chain.links
    ]
    for same_source, ended, chain in sorted(found, key=lambda one: one[:2], reverse=True):
        last = chain[-1]
        if ledger.read(next_id(last.run_info.run_id)) is not None:
            continue  # its successor was abandoned
        holder = last.lease.holder
        counts = sum((record.counts for record in chain), Counts())
        return AlreadyDone(
            chain[0].run_info.run_id,
            run_info.updater,
            datetime.fromtimestamp(ended, timezone.utc),
            ledger.server_time.now() - ended,
            holder.who if holder else "",
            counts,
            Exit.DONE_WITH_FAILURES if counts.failed else Exit.DONE,
            same_source,
        )
    return None


def is_undone(ledger: Ledger, record: RunRecord) -> bool:
    """Whether what a run changed was put back, all of it, and is not there again. Raises
    CallError."""
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
    """A warning, unless somebody was asked. Raises what the question raises."""
    if done is None or (context.on_done is not None and context.on_done(done)):
        return []
    return [warning_of(done)]


def report_of(prepared: PreparedRun, done: AlreadyDone) -> Report:
    """The report of a command that has nothing to do. Its listener hears of it."""
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

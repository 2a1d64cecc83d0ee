"""Reports runs that are finished in Datastore, but whose end was not reported here.

Either the process that finished the run was killed before it recorded and reported the end. Its
checkpoint knows the outcome of every entity, so only the report is missing. Or another process has
finished a run that this one was waiting for. In both cases nothing is handled: the command delivers
the report, and ends as that run ended.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from bulkup.core.errors import Exit, HeldError
from bulkup.core.events import Report, RunEnded, RunStarted, Warned, WarningKind
from bulkup.core.model import RunState
from bulkup.core.plan_terms import MaxDrift
from bulkup.core.records import next_id, predecessor_of
from bulkup.engine.drift import plan_outcome
from bulkup.engine.outcomes import final_exit
from bulkup.engine.reports import stored_report
from bulkup.runs.context import RunContext
from bulkup.runs.prepare import PreparedRun
from bulkup.runs.ranges.ending import note_end
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.display import retry_command
from bulkup.state.files import CHECKPOINT_NAME, RunLock
from bulkup.state.record import RunRecord
from bulkup.state.run_records import Ledger
from bulkup.state.unreported import is_unreported, reported, unreported_runs

KILLED_BEFORE_REPORT = (
    "run {} was finished by a process that was killed before it could report that; this is its "
    "report, and nothing was handled again"
)

AGAIN = " (repeat the command to run it again)"


def report_if_finished(
    context: RunContext,
    ledger: Ledger,
    record: RunRecord | None,
    checkpoint: Checkpoint,
    hint: str = "",
) -> Report | None:
    """Deliver the report of a finished run whose end was not reported. Returns None if the run is
    not finished, was reported, or was finished by another runner. `record`: the record of the
    checkpoint's run; None if it has none.

    Raises CallError.
    """
    if checkpoint.status().state is not RunState.FINISHED:
        if not _was_finished_here(ledger, record, checkpoint):
            return None
        _note_end(ledger, record, checkpoint)
    elif not is_unreported(checkpoint.folder):
        return None
    message = KILLED_BEFORE_REPORT.format(checkpoint.run_info.run_id) + hint
    return _deliver_stored(context, checkpoint, message)


def report_stored(context: RunContext, checkpoint: Checkpoint) -> Report:
    """Deliver the report of a run that is finished according to its checkpoint."""
    message = f"run {checkpoint.run_info.run_id} is finished; this is its report"
    if is_unreported(checkpoint.folder):
        message = KILLED_BEFORE_REPORT.format(checkpoint.run_info.run_id)
    return _deliver_stored(context, checkpoint, message)


def report_unheard(prepared: PreparedRun, unfinished: RunRecord | None) -> Report | None:
    """Deliver the reports of earlier runs of this work that are finished but were not reported.
    Returns the last report; None if there are none. `unfinished`: the run of this work that is
    known to be unfinished. Raises CallError, StateError."""
    last = None
    context, ledger = prepared.context, prepared.ledger
    for folder in unreported_runs(context.state_dir, prepared.identity):
        if unfinished is not None and folder.name == unfinished.run_info.run_id:
            continue
        with _opened(folder) as checkpoint:
            if checkpoint is None or checkpoint.run_info.target != prepared.target.info:
                continue
            record = ledger.read(checkpoint.run_info.run_id)
            if _is_ranged_and_done(record, checkpoint):
                assert record is not None
                note_end(prepared, record, checkpoint)
                last = _deliver_stored(context, checkpoint, _by_another(record))
                continue
            report = report_if_finished(context, ledger, record, checkpoint, AGAIN)
            if report is None and record is not None and record.state.is_over:
                reported(folder)  # by whoever has ended it
            last = report or last
    return last


def report_unheard_run(context: RunContext, ledger: Ledger, record: RunRecord) -> Report | None:
    """Deliver the report of one finished run if it was not reported; otherwise return None. Raises
    CallError, StateError."""
    folder = context.state_dir / record.run_info.run_id
    if not is_unreported(folder):
        return None
    with _opened(folder) as checkpoint:
        if checkpoint is None or checkpoint.run_info.created != record.run_info.created:
            return None
        return report_if_finished(context, ledger, record, checkpoint)


def _is_ranged_and_done(record: RunRecord | None, checkpoint: Checkpoint) -> bool:
    """Whether this is a finished run in ranges. Each process that worked on it reports its end."""
    return (
        record is not None
        and record.ranges is not None
        and record.state is RunState.FINISHED
        and record.run_info.created == checkpoint.run_info.created
    )


def _by_another(record: RunRecord) -> str:
    holder = record.lease.holder
    who = holder.who if holder else "another process"
    return f"run {record.run_info.run_id} was finished by {who} in the meantime; this is its report"


@contextmanager
def _opened(folder: Path) -> Iterator[Checkpoint | None]:
    """Lock and open a run's checkpoint. Yields None if there is none, or if its process is alive
    and will report the end itself.

    Raises StateError.
    """
    if not (folder / CHECKPOINT_NAME).exists():
        yield None
        return
    lock = RunLock(folder)
    try:
        lock.acquire()
    except HeldError:
        yield None
        return
    try:
        with closing(Checkpoint.open(folder)) as checkpoint:
            yield checkpoint
    finally:
        lock.release()


def forget_unheard(prepared: PreparedRun) -> None:
    """Mark earlier runs of this work as reported: a new run was asked for, so nobody waits for
    their reports."""
    for folder in unreported_runs(prepared.context.state_dir, prepared.identity):
        reported(folder)


def report_finished_meanwhile(
    prepared: PreparedRun, record: RunRecord, checkpoint: Checkpoint
) -> Report | None:
    """Deliver the report of a run that another process finished while this one waited for it
    (`--wait`). Returns None if this process was not to wait, the run is not finished, or nothing is
    known about it. `record`: the record as this process found it.

    Raises CallError.
    """
    context, ledger = prepared.context, prepared.ledger
    if not context.wait_s:
        return None
    run_id = record.run_info.run_id
    now = ledger.read(run_id)
    holder = (now or record).lease.holder
    who = holder.who if holder else "another process"
    message = _by_another(now or record)
    if checkpoint.status().state is RunState.FINISHED:
        return _deliver_stored(context, checkpoint, message)
    if now is None or now.state is not RunState.FINISHED:
        return None
    if now.run_info.created != record.run_info.created:
        return None
    if _was_finished_here(ledger, now, checkpoint):
        return report_if_finished(context, ledger, now, checkpoint)
    if checkpoint.status().runners:
        checkpoint.end_work(now.state, f"ended by {who}", Exit.DONE, clean=True)
        reported(checkpoint.folder)
    else:
        shutil.rmtree(checkpoint.folder)  # it was never used
    return report_record(prepared, now)


def report_record(prepared: PreparedRun, record: RunRecord) -> Report:
    """Deliver what Datastore knows of a run that was finished elsewhere. Raises CallError."""
    holder = record.lease.holder
    who = holder.who if holder else "another process"
    message = f"run {record.run_info.run_id} was finished by {who} in the meantime"
    if record.counts.failed:
        message += "; its report there names the entities that failed"
    return _deliver(prepared.context, _report_of_record(prepared, record), message)


def _was_finished_here(ledger: Ledger, record: RunRecord | None, checkpoint: Checkpoint) -> bool:
    """Whether this checkpoint's own runner has finished the run in Datastore. Then the checkpoint
    knows the outcome of every entity."""
    if not checkpoint.only_end_left():
        return False
    if record is None:
        # With `--no-record`, the run's end removes the claim, and the record is removed after that.
        # A runner that was not killed would have recorded the end here.
        was_killed = checkpoint.status().state is RunState.RUNNING
        return was_killed and ledger.read_claim(checkpoint.run_info.identity) is None
    return (
        record.state is RunState.FINISHED
        and record.run_info.created == checkpoint.run_info.created
        and record.lease.generation == checkpoint.status().generation
    )


def _note_end(ledger: Ledger, record: RunRecord | None, checkpoint: Checkpoint) -> None:
    """Record the end of the run in the checkpoint, in place of the process that was killed."""
    successor = ledger.read(next_id(checkpoint.run_info.run_id))
    exit_code = final_exit(RunState.FINISHED, Exit.DONE, checkpoint.counts().failed)
    checkpoint.end_work(
        RunState.FINISHED,
        None,
        exit_code,
        clean=True,
        successor=successor.run_info.run_id if successor is not None else None,
        ended=_time(record.ended) if record is not None and record.ended else None,
    )


def _deliver_stored(context: RunContext, checkpoint: Checkpoint, message: str) -> Report:
    retry = retry_command(checkpoint.run_info, context.typed_state_dir, context.repeated)
    report = stored_report(checkpoint, retry_command=retry)
    report = replace(report, state_file=context.shown(checkpoint.path))
    report = _deliver(context, report, message)
    if not context.reports_itself:
        reported(checkpoint.folder)
    return report


def _deliver(context: RunContext, report: Report, message: str) -> Report:
    report = replace(report, warnings=(*report.warnings, message))
    context.listener(
        RunStarted(
            report.run_id, report.updater, report.description, report.target, report.params,
            resumed=True, already=report.counts, state_file=report.state_file,
        )
    )  # fmt: skip
    context.listener(Warned(message, WarningKind.FINISHED_MEANWHILE))
    context.listener(RunEnded(report))
    return report


def _report_of_record(prepared: PreparedRun, record: RunRecord) -> Report:
    """The report of a run that was finished elsewhere, as far as Datastore knows it."""
    run_info, counts = record.run_info, record.counts
    started = datetime.fromisoformat(run_info.created)
    ended = record.ended_at() or started
    successor = prepared.ledger.read(next_id(run_info.run_id))
    return Report(
        run_id=run_info.run_id,
        updater=run_info.updater,
        description=run_info.description,
        target=prepared.target.info,
        params=run_info.params,
        selection=run_info.selection,
        dry_run=False,
        state=record.state,
        reason="",
        exit_code=final_exit(record.state, Exit.DONE, counts.failed),
        counts=counts,
        total=None,
        started=started,
        ended=ended,
        elapsed_s=max(0.0, (ended - started).total_seconds()),
        retries=0,
        runners=record.lease.generation,
        predecessor=predecessor_of(run_info.run_id),
        successor=successor.run_info.run_id if successor is not None else "",
        gate=record.gate,
        plan=plan_outcome(
            record.plan, counts, MaxDrift(), record.state, is_repeated=run_info.is_repeated
        ),
    )


def _time(unix: int) -> datetime:
    return datetime.fromtimestamp(unix, timezone.utc)

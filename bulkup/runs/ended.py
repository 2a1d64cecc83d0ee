"""Runs that are finished in Datastore, and of which nobody here has heard that they are.

Either the process that finished the run was killed before it had written that down and reported
it. Its checkpoint knows the outcome of everything, so all that is left is to say so. Or another
process has finished a run that this one was waiting for. In both cases nothing is handled, and the
command delivers the report and ends as that run ended.
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
    """Deliver the report of a run that is finished and has not reported it; None: it is not, or
    another runner has finished it. `record`: that of the checkpoint's run; None: it has none.

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
    """Deliver the report of a run that is finished as its checkpoint says."""
    message = f"run {checkpoint.run_info.run_id} is finished; this is its report"
    if is_unreported(checkpoint.folder):
        message = KILLED_BEFORE_REPORT.format(checkpoint.run_info.run_id)
    return _deliver_stored(context, checkpoint, message)


def report_unheard(prepared: PreparedRun, unfinished: RunRecord | None) -> Report | None:
    """Deliver the reports of earlier runs of this work that are finished and could not say so;
    return the last one. None: there are none. `unfinished`: the run of this work that is known not
    to be finished. Raises CallError, StateError."""
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
    """The same, of a finished run. Raises CallError, StateError."""
    folder = context.state_dir / record.run_info.run_id
    if not is_unreported(folder):
        return None
    with _opened(folder) as checkpoint:
        if checkpoint is None or checkpoint.run_info.created != record.run_info.created:
            return None
        return report_if_finished(context, ledger, record, checkpoint)


def _is_ranged_and_done(record: RunRecord | None, checkpoint: Checkpoint) -> bool:
    """Of a run that several processes have worked on, each reports the end."""
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
    """A run's checkpoint, locked; None: there is none, or its process is alive and reports itself.

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
    """A new run of this work was asked for, so nobody waits for the reports of earlier ones."""
    for folder in unreported_runs(prepared.context.state_dir, prepared.identity):
        reported(folder)


def report_finished_meanwhile(
    prepared: PreparedRun, record: RunRecord, checkpoint: Checkpoint
) -> Report | None:
    """Deliver the report of a run that another process has finished while this one was to wait for
    it (`--wait`); None: it was not finished, or nothing is known of it. `record`: as it was when
    this process found it.

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
        shutil.rmtree(checkpoint.folder)  # it was made for nothing
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
    """Whether the runner of this checkpoint has finished the run in Datastore: the file knows the
    outcome of all."""
    if not checkpoint.only_end_left():
        return False
    if record is None:
        # The record of such a run goes after its claim (`--no-record`), which goes with its end.
        # A runner that had ended would have said so here.
        was_killed = checkpoint.status().state is RunState.RUNNING
        return was_killed and ledger.read_claim(checkpoint.run_info.identity) is None
    return (
        record.state is RunState.FINISHED
        and record.run_info.created == checkpoint.run_info.created
        and record.lease.generation == checkpoint.status().generation
    )


def _note_end(ledger: Ledger, record: RunRecord | None, checkpoint: Checkpoint) -> None:
    """Write down what the process that was killed has not."""
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
    """What Datastore knows of a run that was finished elsewhere."""
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

"""Resume a run of this state directory: what `bulkup resume` calls."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from bulkup.core.errors import Exit, MismatchError, NotFoundError, StateError
from bulkup.core.events import Report, Warned, WarningKind
from bulkup.core.model import RunState
from bulkup.core.records import RunInfo, next_id, predecessor_of
from bulkup.core.visible import assignment
from bulkup.runs.acquire import CutMeanwhile, acquire_lease, lock_folder
from bulkup.runs.chain import execute_successors, resume_chain, unfinished_from
from bulkup.runs.context import RunContext
from bulkup.runs.ended import report_finished_meanwhile, report_if_finished, report_stored
from bulkup.runs.execute import execute, request_sample
from bulkup.runs.gate import check_begun
from bulkup.runs.housekeeping import sweep_markers
from bulkup.runs.key_input import keys_kept_in
from bulkup.runs.lost_record import record_again
from bulkup.runs.prepare import PreparedRun, prepare
from bulkup.runs.ranges.ending import conclude_run
from bulkup.runs.ranges.work import JOINING_WITHIN_S, work_on_ranges
from bulkup.runs.retry import settle_retry
from bulkup.runs.target import TargetOptions, check_same_target, options_for
from bulkup.runs.undone import settle_undo
from bulkup.runs.which_run import RESUME
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.display import undoes
from bulkup.state.files import CHECKPOINT_NAME, find_run, run_folders
from bulkup.state.range_folders import is_cut
from bulkup.state.record import RunRecord
from bulkup.state.unreported import is_unreported


def _start_of(folder: Path) -> str:
    """When a run began, in the form with which most run ids begin. The ids of migrations do not."""
    try:
        with closing(Checkpoint.open(folder, check=False)) as checkpoint:
            return checkpoint.run_info.created.replace("-", "").replace("T", "-").replace(":", "")
    except (StateError, sqlite3.DatabaseError):
        return folder.name


@contextmanager
def open_unfinished(name: str | None, context: RunContext) -> Iterator[Checkpoint]:
    """Lock and open the checkpoint of the named run, or of the latest unfinished one.

    A finished run is also opened if its end was not reported, if this process has waited for
    another one to finish it, or if a successor in its chain is not known to be over. Raises
    NotFoundError when there is nothing to resume, HeldError while another process executes the run.
    """
    if name is not None:
        folder = find_run(context.state_dir, name, RESUME.fits)
    else:
        folder = _latest_unfinished(context)
    if is_cut(folder):  # other processes on this machine hold it only briefly
        context = replace(context, wait_s=max(context.wait_s, JOINING_WITHIN_S))
    lock = lock_folder(folder, context)
    try:
        with closing(Checkpoint.open(folder)) as checkpoint:
            status = checkpoint.status()
            waited = lock.waited and status.state is RunState.FINISHED
            if not waited and not _is_open(checkpoint) and not _has_open_chain(checkpoint):
                raise _nothing_to_resume(folder.name, status.state)
            checkpoint.lock = lock
            yield checkpoint
            lock = checkpoint.lock
    finally:
        lock.release()


def _nothing_to_resume(run_id: str, state: RunState) -> NotFoundError:
    return NotFoundError(
        f"run {run_id} is {state.value}, so there is nothing to resume; "
        f"`bulkup show {run_id}` shows its report"
    )


def _is_open(checkpoint: Checkpoint) -> bool:
    """Whether there is something to resume, or a report to be delivered."""
    state = checkpoint.status().state
    return not state.is_over or (state is RunState.FINISHED and is_unreported(checkpoint.folder))


def _has_open_chain(checkpoint: Checkpoint) -> bool:
    """Whether a successor in the run's chain is not known to be over."""
    while checkpoint.status().state is RunState.FINISHED:
        successor = checkpoint.status().successor
        if not successor:
            return False
        folder = checkpoint.folder.with_name(successor)
        if not (folder / CHECKPOINT_NAME).exists():
            return True
        with closing(Checkpoint.open(folder, check=False)) as next_one:
            if not next_one.status().state.is_over:
                return True
            return _has_open_chain(next_one)
    return False


def _latest_unfinished(context: RunContext) -> Path:
    successor_left: Path | None = None
    for folder in sorted(run_folders(context.state_dir), key=_start_of, reverse=True):
        try:
            with closing(Checkpoint.open(folder, check=False)) as checkpoint:
                if _is_open(checkpoint):
                    return folder
                if successor_left is None and _has_open_chain(checkpoint):
                    successor_left = folder
        except (StateError, sqlite3.DatabaseError):
            message = f"skipped run {folder.name}: its checkpoint is damaged"
            context.listener(Warned(message))
    if successor_left is not None:
        return successor_left
    raise NotFoundError(
        f"there is nothing to resume in {str(context.typed_state_dir)!r}, which has no unfinished "
        "run; look elsewhere with --state-dir, or use `bulkup run UPDATER`, which resumes an "
        "unfinished run of the same work even if its state directory is lost"
    )


@contextmanager
def prepare_resume(
    checkpoint: Checkpoint,
    target_options: TargetOptions,
    params: Mapping[str, str],
    context: RunContext,
) -> Iterator[PreparedRun]:
    """Prepare a run again from its checkpoint, and check that it is still the same work.

    Options that the user leaves at their defaults are those of the last `run` or `resume`.
    Raises BulkupError; MismatchError when the target, a parameter or the query is different.
    """
    run_info = checkpoint.run_info
    target_options = options_for(run_info, target_options)
    check_same_params(run_info, params)
    with prepare(
        run_info.spec,
        run_info.params,
        target_options,
        replace(
            context,
            options=context.options.or_as(checkpoint.status().asked),
            typed=context.typed_options,
        ),
        check_target=lambda target: check_same_target(run_info, target),
        selection=run_info.selection,
        keys=keys_kept_in(checkpoint.folder, run_info) if run_info.keys else None,
    ) as prepared:
        if prepared.query.fingerprint(prepared.target.info) != run_info.fingerprint:
            raise MismatchError(
                f"the query of {run_info.updater} has changed since run {run_info.run_id} started; "
                "restore it (pass a value that changes, such as the time, as a parameter), or "
                "start a new run"
            )
        if "@" in run_info.run_id:
            message = (
                "this resumes one namespace only; to resume the others too, repeat the command "
                "that started them"
            )
            prepared.warnings.append(Warned(message))
        if prepared.source.checksum != run_info.checksum and not checkpoint.only_end_left():
            message = (
                f"{run_info.source_path} has changed since run {run_info.run_id} started; the "
                "remaining entities get the new code"
            )
            prepared.warnings.append(Warned(message, WarningKind.CODE_CHANGED))
        yield prepared


def check_same_params(run_info: RunInfo, params: Mapping[str, str]) -> None:
    """Raises MismatchError."""
    for name, value in params.items():
        recorded = run_info.params.get(name)
        if recorded == value:
            continue
        if recorded is None:
            mismatch = f"has no parameter {name}"
        else:
            was, now = assignment(name, recorded), assignment(name, value)
            mismatch = f"was started with {was}, not {now}"
        raise MismatchError(
            f"run {run_info.run_id} {mismatch}; resume it without -p, or start a new run"
        )


def resume(prepared: PreparedRun, checkpoint: Checkpoint) -> Report:
    """Resume a run and execute it, and its successors, to the end.

    The locked checkpoint is from `open_unfinished`, the run from `prepare_resume`. Raises
    HeldError, NotFoundError, TargetError when the run cannot be resumed.
    """
    report = _resume(prepared, checkpoint)
    settle_undo(prepared, checkpoint, report)
    return report


def _resume(prepared: PreparedRun, checkpoint: Checkpoint) -> Report:
    context, ledger, run_info = prepared.context, prepared.ledger, checkpoint.run_info
    with context.stop.listening():
        to_sweep = ledger.to_sweep()  # sent together with the next request
        record = ledger.read(run_info.run_id)
        sweep_markers(ledger, prepared.rpc, to_sweep)
        if record is not None:
            _check_not_replaced(record, checkpoint)
        links = int(run_info.run_id.rpartition("+")[2]) if predecessor_of(run_info.run_id) else 0
        report = report_if_finished(context, ledger, record, checkpoint)
        is_finished = checkpoint.status().state is RunState.FINISHED
        successor = None
        if is_finished or (record is not None and record.state is RunState.FINISHED):
            successor = unfinished_from(ledger, next_id(run_info.run_id))
        if successor is not None:
            if not is_finished:
                first = next_id(run_info.run_id)
                checkpoint.end_work(RunState.FINISHED, None, Exit.DONE, clean=True, successor=first)
            return resume_chain(prepared, successor, links=links)
        if report is not None:
            return execute_successors(prepared, report, links=links)
        if is_finished:
            if _has_open_chain(checkpoint):  # but Datastore says that it is over
                raise _nothing_to_resume(run_info.run_id, RunState.FINISHED)
            return report_stored(context, checkpoint)  # this process has waited for its end
        if record is not None and record.ranges is not None:
            report = _resume_ranges(prepared, record, checkpoint)
            return execute_successors(prepared, report, links=links)
        if record is not None:
            _check_not_ended(record, checkpoint)
        else:
            record = record_again(prepared, checkpoint)
        check_begun(prepared, record)
        try:
            held = acquire_lease(prepared, record, checkpoint)
        except CutMeanwhile:
            return _resume(prepared, checkpoint)
        except NotFoundError:
            report = report_finished_meanwhile(prepared, record, checkpoint)
            if report is None:
                raise
        else:
            report = execute(prepared, checkpoint, held, request_sample(prepared))
        settle_retry(checkpoint, context)
        return execute_successors(prepared, report, links=links)


def _resume_ranges(prepared: PreparedRun, record: RunRecord, checkpoint: Checkpoint) -> Report:
    """Join the other workers on the ranges of a run, or report how they have ended it."""
    if record.state is RunState.FINISHED:
        return conclude_run(prepared, record.run_info.run_id, checkpoint=checkpoint)
    _check_not_ended(record, checkpoint)
    check_begun(prepared, record)
    return work_on_ranges(prepared, record, checkpoint=checkpoint)


def needs_no_datastore(checkpoint: Checkpoint) -> bool:
    """Whether all that is left is to deliver the report of an opened run (`report_stored`)."""
    status = checkpoint.status()
    if undoes(checkpoint.run_info) is not None:  # the run that is undone may not know of it yet
        return False
    return status.state is RunState.FINISHED and not status.successor


def _check_not_replaced(record: RunRecord, checkpoint: Checkpoint) -> None:
    run_info = checkpoint.run_info
    if record.run_info.created != run_info.created:
        reason = f"a run started on {record.run_info.created[:16]} has taken its place"
        checkpoint.end_work(RunState.ABANDONED, reason, Exit.DONE, clean=True)
        raise NotFoundError(f"run {run_info.run_id} cannot be resumed: {reason}")


def _check_not_ended(record: RunRecord, checkpoint: Checkpoint) -> None:
    if record.state in (RunState.FINISHED, RunState.ABANDONED):
        holder = record.lease.holder
        who = holder.who if holder else "another process"
        checkpoint.end_work(record.state, f"ended by {who}", Exit.DONE, clean=True)
        raise NotFoundError(
            f"run {record.run_info.run_id} is {record.state.value} (by {who}), so there is nothing "
            "to resume"
        )

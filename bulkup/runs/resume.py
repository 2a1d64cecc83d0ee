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
from bulkup.core.records import RunInfo, next_id
from bulkup.core.visible import assignment
from bulkup.runs.acquire import acquire_lease, lock_folder
from bulkup.runs.chain import execute_successors, resume_chain, unfinished_successor
from bulkup.runs.context import RunContext
from bulkup.runs.execute import execute, request_sample
from bulkup.runs.housekeeping import sweep_markers
from bulkup.runs.lost_record import record_again
from bulkup.runs.prepare import PreparedRun, prepare
from bulkup.runs.target import TargetOptions, check_same_target, options_for
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.files import find_run, run_folders
from bulkup.state.record import RunRecord


@contextmanager
def open_unfinished(name: str | None, context: RunContext) -> Iterator[Checkpoint]:
    """Lock and open the checkpoint of the named run, or of the latest unfinished one.

    Raises NotFoundError when there is nothing to resume, HeldError while another process executes
    the run.
    """
    if name is not None:
        folder = find_run(context.state_dir, name)
    else:
        folder = _latest_unfinished(context)
    lock = lock_folder(folder, context)
    try:
        with closing(Checkpoint.open(folder)) as checkpoint:
            state = checkpoint.status().state
            if state.is_over:
                raise NotFoundError(
                    f"run {folder.name} is {state.value}, so there is nothing to resume; "
                    f"`bulkup show {folder.name}` shows its report"
                )
            yield checkpoint
    finally:
        lock.release()


def _latest_unfinished(context: RunContext) -> Path:
    for folder in reversed(run_folders(context.state_dir)):
        try:
            with closing(Checkpoint.open(folder, check=False)) as checkpoint:
                if not checkpoint.status().state.is_over:
                    return folder
        except (StateError, sqlite3.DatabaseError):
            message = f"skipped run {folder.name}: its checkpoint is damaged"
            context.listener(Warned(message))
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
        replace(context, options=context.options.or_as(checkpoint.status().asked)),
        check_target=lambda target: check_same_target(run_info, target),
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
        if prepared.source.checksum != run_info.checksum:
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
    context, ledger, run_info = prepared.context, prepared.ledger, checkpoint.run_info
    with context.stop.listening():
        to_sweep = ledger.to_sweep()  # in flight with the next request
        record = ledger.read(run_info.run_id)
        sweep_markers(ledger, prepared.rpc, to_sweep)
        if record is not None:
            _check_not_replaced(record, checkpoint)
            successor = unfinished_successor(ledger, record)
            if successor is not None:
                first = next_id(run_info.run_id)
                checkpoint.end_work(record.state, None, Exit.DONE, clean=True, successor=first)
                return resume_chain(prepared, successor, links=len(record.chain.links))
            _check_not_ended(record, checkpoint)
        else:
            record = record_again(prepared, checkpoint)
        held = acquire_lease(prepared, record, checkpoint)
        report = execute(prepared, checkpoint, held, request_sample(prepared))
        return execute_successors(prepared, report, links=len(record.chain.links))


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

"""Records that a run is undone, in its folder and in its record."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from bulkup.core.errors import Exit, HeldError, NotFoundError, StateError
from bulkup.core.events import Report, Warned
from bulkup.core.model import RunState
from bulkup.core.records import RunInfo
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.rpc_errors import explained
from bulkup.datastore.target import Target
from bulkup.engine.recovery import Recovery, recover
from bulkup.runs.abandon import abandon_by_hand
from bulkup.runs.context import RunContext
from bulkup.runs.open_to_run import open_to_run
from bulkup.runs.prepare import PreparedRun
from bulkup.runs.ranges.stopping import end_ranges
from bulkup.runs.retry import note_retry_undone
from bulkup.runs.target import TargetOptions, check_same_target
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.display import undoes
from bulkup.state.files import CHECKPOINT_NAME, RunLock
from bulkup.state.holder import this_process
from bulkup.state.key_list import KeyList
from bulkup.state.lease import Lease
from bulkup.state.markers import Markers
from bulkup.state.notes import Notes
from bulkup.state.record import MigrationInfo, RunRecord
from bulkup.state.restore_list import Restores
from bulkup.state.run_records import Ledger
from bulkup.state.sweeping import after_late_copies
from bulkup.state.taking import take
from bulkup.state.taking_back import take_back
from bulkup.state.undo_log import UndoLog


def end_unfinished(
    checkpoint: Checkpoint,
    options: TargetOptions,
    context: RunContext,
    confirm: Callable[[Target], None],
    check: Callable[[], None],
) -> None:
    """Make definite what an unfinished run has written, and end the run where it is. If it is a run
    in ranges that is already over, only learn what others have written.

    After this, no commit of its last runner can arrive any more. For a run in ranges, `check` is
    called before the run is ended, once the checkpoint knows what is definite. If it raises, the
    error is passed on, and the run can still be resumed. Raises HeldError while a process works on
    the run, NotFoundError when Datastore does not know it as unfinished, CallError.
    """
    run_info = checkpoint.run_info
    with (
        open_to_run(options, context) as target,
        closing(context.connect(target)) as rpc,
        explained(rpc),
    ):
        check_same_target(run_info, target.info)
        rpc.connect()
        ledger = Ledger(rpc, target.info)
        record = ledger.read(run_info.run_id)
        was_over = checkpoint.status().state.is_over
        if record is None or record.run_info.created != run_info.created:
            if was_over:
                return
            raise NotFoundError(
                f"run {run_info.run_id} is unfinished here, and Datastore has no record of it; "
                f"`bulkup resume {run_info.run_id}` finds out what became of it"
            )
        confirm(target)
        who = this_process().who
        if record.ranges is not None:
            by_server = context.by_server_time(rpc)
            end_ranges(record, ledger, rpc, checkpoint, by_server, check)
        elif not record.state.is_over:
            _end(record, ledger, rpc, checkpoint, context.by_server_time(rpc))
        if was_over:
            return
        state = record.state if record.state.is_over else RunState.ABANDONED
        checkpoint.end_work(state, f"ended by {who} to undo it", Exit.DONE, clean=True)


def _end(
    record: RunRecord, ledger: Ledger, rpc: Rpc, checkpoint: Checkpoint, context: RunContext
) -> None:
    clock, run_info = context.clock, record.run_info
    held = take(
        ledger, record, this_process(), clock=clock, stop=context.stop, wait_s=context.wait_s,
        on_wait=lambda message: context.listener(Warned(message)),
    )  # fmt: skip
    lease = Lease(ledger, held, clock=clock, refresh=lambda record: record)
    if held.lease.generation > 1:
        namespace, run_id = run_info.target.namespace, run_info.run_id
        recovery = Recovery(
            rpc=rpc, checkpoint=checkpoint, markers=Markers(rpc, namespace, run_id),
            notes=Notes(rpc, namespace, run_id), runner=lease.runner,
        )  # fmt: skip
        recover(recovery, checkpoint, lease, clock.unix())
        # This drops the commits that the checkpoint still has in flight.
        checkpoint.follow(lease.record.layout.shards, lease.record.lease.generation)
    reason = f"ended by {this_process().who} to undo it"
    lease.update(
        lambda record: replace(
            record,
            state=RunState.ABANDONED,
            reason=reason,
            ended=int(clock.unix()),
            lease=replace(record.lease, until=0),
            layout=after_late_copies(record.layout, ledger.server_time),
        ),
        over=True,
    )


def end_successor(
    run_info: RunInfo,
    successor: str,
    options: TargetOptions,
    context: RunContext,
    confirm: Callable[[Target], None],
) -> None:
    """Give up the run that would have followed one that is to be undone.

    Raises StateError if it has begun somewhere else, CallError.
    """
    with (
        open_to_run(options, context) as target,
        closing(context.connect(target)) as rpc,
        explained(rpc),
    ):
        check_same_target(run_info, target.info)
        rpc.connect()
        ledger = Ledger(rpc, target.info)
        record = ledger.read(successor)
        if record is None or record.lease.generation:
            raise StateError(
                f"run {successor}, which followed {run_info.run_id}, is not in this state "
                "directory, so what it changed cannot be put back first; undo it where it ran, "
                "then this one"
            )
        if record.state.is_over:
            return
        if context.options.dry_run:
            context.listener(Warned(f"run {successor} has not begun, and would be given up"))
            return
        confirm(target)
        abandon_by_hand(ledger, successor, None, confirm=lambda *_: True)
        context.listener(Warned(f"run {successor}, which had not begun, is given up"))


def undone_by(checkpoint: Checkpoint, report: Report) -> list[str]:
    """The runs by which the checkpoint's run is undone, after another undo run has ended. Undoing
    one of them brings back those changes of the run that it took back."""
    status = checkpoint.status()
    # A process may have died between the end of an undo and recording it here.
    earlier = dict.fromkeys((*status.undone_by_all, *status.undos))
    earlier.pop(report.run_id, None)
    wrote = [
        run_id
        for run_id in earlier
        if run_id in status.undone_by_all or _has_written(checkpoint.folder.with_name(run_id))
    ]
    return wrote if wrote and not report.counts.writes else [*wrote, report.run_id]


def _has_written(folder: Path) -> bool:
    if not (folder / CHECKPOINT_NAME).exists():
        return False
    with closing(Checkpoint.open(folder, check=False)) as checkpoint:
        return bool(checkpoint.counts().writes)


def note_undone(
    prepared: PreparedRun, checkpoint: Checkpoint, by: Sequence[str], *, partly: bool
) -> None:
    """Record that the checkpoint's run was undone by the runs `by`. `partly`: not all of it was.

    A migration that is undone is pending again. Raises CallError.
    """
    checkpoint.undone(by, partly=partly)
    if not partly:
        note_retry_undone(checkpoint)
    _note_in_record(prepared, checkpoint.run_info, by[-1], partly=partly)
    _note_effects(prepared, checkpoint, by[-1], partly=partly)


def _note_in_record(
    prepared: PreparedRun, run_info: RunInfo, undone_by: str, *, partly: bool
) -> None:
    """Record it in the run record. `undone_by` empty: what the run changed was brought back."""
    target = replace(prepared.target.info, namespace=run_info.target.namespace)
    ledger, context = Ledger(prepared.rpc, target), prepared.context
    record = ledger.read(run_info.run_id)
    if record is None or record.run_info.created != run_info.created:
        return
    record = replace(record, undone_by=undone_by, undone_partly=partly)
    migration = record.migration
    if migration is not None:
        is_applied = record.state is RunState.FINISHED
        if partly and is_applied:
            message = (
                f"migration {migration.name} is still applied, because not all that it changed "
                "was put back"
            )
            context.listener(Warned(message))
        elif not partly and is_applied == bool(undone_by):
            record = _turned(record, migration, context)
    ledger.write(record, over=record.state.is_over)


def _turned(record: RunRecord, migration: MigrationInfo, context: RunContext) -> RunRecord:
    """The record of a migration that was applied and is now pending, or the other way round."""
    who = this_process().who
    if record.state is RunState.FINISHED:
        state, marked = RunState.ABANDONED, f"pending by {who}"
        message = f"migration {migration.name} is no longer applied, but pending"
    else:
        state, marked = RunState.FINISHED, f"applied by {who}"
        message = f"migration {migration.name} is applied again"
    context.listener(Warned(message))
    ended = int(context.clock.unix())
    return replace(record, state=state, ended=ended, migration=replace(migration, marked=marked))


def _note_effects(prepared: PreparedRun, checkpoint: Checkpoint, by: str, *, partly: bool) -> None:
    """Follow the effects of undoing the checkpoint's run. If it was itself an undo, the changes of
    the run that it undid are back; and so on."""
    undo_id, run_id = checkpoint.run_info.run_id, undoes(checkpoint.run_info)
    is_undone = False
    while run_id is not None:
        folder = checkpoint.folder.with_name(run_id)
        if not (folder / CHECKPOINT_NAME).exists():
            return
        with closing(Checkpoint.open(folder, check=False)) as earlier:
            every = earlier.status().undone_by_all or (undo_id,)
            if partly or len(every) > 1:  # some of it is back; the next undo compares all
                left = list(every)
                earlier.undone(left, partly=True)
                _note_in_record(prepared, earlier.run_info, left[-1], partly=True)
                return
            if is_undone:
                earlier.undone([by])
            else:
                earlier.brought_back(by)
            note_retry_undone(earlier, brought_back=not is_undone)
            _note_in_record(prepared, earlier.run_info, by if is_undone else "", partly=False)
            undo_id, run_id = run_id, undoes(earlier.run_info)
            is_undone = not is_undone


def settle_undo(prepared: PreparedRun, undo: Checkpoint, report: Report) -> None:
    """Record what an undo run has done, after it was resumed. If the folder of the run that it
    undoes is in use, the next `bulkup undo` does it. Raises StateError, CallError."""
    run_id, state = undoes(undo.run_info), undo.status().state
    if run_id is None or state is not RunState.FINISHED:
        return
    folder = undo.folder.with_name(run_id)
    if not (folder / CHECKPOINT_NAME).exists():
        return
    lock = RunLock(folder)
    try:
        lock.acquire()
    except HeldError:
        message = f"repeat `bulkup undo {run_id}`, which notes that it is undone"
        prepared.context.listener(Warned(message))
        return
    try:
        with closing(Checkpoint.open(folder)) as undone:
            status = undone.status()
            if undo.run_info.run_id in status.undone_by_all or status.brought_back_by:
                return
            if status.partly or not status.undone_by:
                partly = bool(undo.counts().failed) or not _is_of_all(undo, undone)
                note_undone(prepared, undone, undone_by(undone, report), partly=partly)
    finally:
        lock.release()


def _is_of_all(undo: Checkpoint, undone: Checkpoint) -> bool:
    """Whether the list of what was put back includes every entity that the undone run changed."""
    keys = KeyList.kept_in(undo.folder)
    if keys is None:
        return False
    with closing(keys), closing(UndoLog(undone)) as log, closing(Restores()) as restores:
        take_back(log, restores)
        is_known = not log.missing and not log.unknown
        return is_known and keys.facts.count == restores.count()

"""What is noted of a run that is undone, in its folder and in its record."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

from bulkup.core.errors import Exit, NotFoundError
from bulkup.core.events import Warned
from bulkup.core.model import RunState
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.rpc_errors import explained
from bulkup.datastore.target import Target
from bulkup.engine.recovery import Recovery, recover
from bulkup.runs.context import RunContext
from bulkup.runs.open_to_run import open_to_run
from bulkup.runs.prepare import PreparedRun
from bulkup.runs.target import TargetOptions, check_same_target
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.display import undoes
from bulkup.state.files import CHECKPOINT_NAME
from bulkup.state.holder import this_process
from bulkup.state.lease import Lease, take
from bulkup.state.markers import Markers
from bulkup.state.notes import Notes
from bulkup.state.record import RunRecord
from bulkup.state.run_records import Ledger
from bulkup.state.sweeping import after_late_copies


def end_unfinished(
    checkpoint: Checkpoint,
    options: TargetOptions,
    context: RunContext,
    confirm: Callable[[Target], None],
) -> None:
    """Make definite what an unfinished run has written, and end it where it is.

    After this no commit of its last runner can arrive any more. Raises HeldError while a process
    works on it, NotFoundError when Datastore does not know it as unfinished, CallError.
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
        if record is None or record.run_info.created != run_info.created:
            raise NotFoundError(
                f"run {run_info.run_id} is unfinished here, and Datastore has no record of it; "
                f"`bulkup resume {run_info.run_id}` finds out what became of it"
            )
        confirm(target)
        who = this_process().who
        if not record.state.is_over:
            _end(record, ledger, rpc, checkpoint, context.by_server_time(rpc))
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


def note_undone(prepared: PreparedRun, checkpoint: Checkpoint, by: str, *, partly: bool) -> None:
    """The run of the checkpoint was undone by the run `by`. `partly`: not all of it.

    A migration that is undone is pending again. Raises CallError.
    """
    ledger, context = prepared.ledger, prepared.context
    checkpoint.undone(by, partly=partly)
    record = ledger.read(checkpoint.run_info.run_id)
    if record is not None and record.run_info.created == checkpoint.run_info.created:
        record = replace(record, undone_by=by)
        migration = record.migration
        if migration is not None and record.state is RunState.FINISHED:
            if partly:
                message = (
                    f"migration {migration.name} is still applied, because not all that it changed "
                    "was put back"
                )
            else:
                message = f"migration {migration.name} is no longer applied, but pending"
                marked = f"pending by {this_process().who}"
                record = replace(
                    record,
                    state=RunState.ABANDONED,
                    ended=int(context.clock.unix()),
                    migration=replace(migration, marked=marked),
                )
            context.listener(Warned(message))
        ledger.write(record, over=record.state.is_over)
    if not partly:
        _note_effects(ledger, checkpoint, by)


def _note_effects(ledger: Ledger, checkpoint: Checkpoint, by: str) -> None:
    """The run of the checkpoint was undone. If it had itself undone another run, what that one
    changed is there again; and so on."""
    run_id, is_undone = undoes(checkpoint.run_info), False
    while run_id is not None:
        folder = checkpoint.folder.with_name(run_id)
        if not (folder / CHECKPOINT_NAME).exists():
            return
        with closing(Checkpoint.open(folder, check=False)) as earlier:
            if is_undone:
                earlier.undone(by)
            else:
                earlier.brought_back(by)
            record = ledger.read(run_id)
            if record is not None and record.run_info.created == earlier.run_info.created:
                ledger.write(
                    replace(record, undone_by=by if is_undone else ""), over=record.state.is_over
                )
            run_id, is_undone = undoes(earlier.run_info), not is_undone

"""Give up an unfinished run by hand: what `bulkup abandon` calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from bulkup.core.clock import Clock
from bulkup.core.errors import Exit, NotFoundError
from bulkup.core.model import Counts, RunState, TargetInfo
from bulkup.core.records import RunInfo, next_id
from bulkup.core.stop import StopRequest
from bulkup.datastore.rpc import Rpc
from bulkup.runs.housekeeping import abandon
from bulkup.runs.which_run import ABANDON
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.files import RunLock, find_run
from bulkup.state.groups import Group
from bulkup.state.holder import this_process
from bulkup.state.run_records import Ledger


@contextmanager
def open_to_abandon(name: str, state_dir: Path) -> Iterator[Checkpoint | None]:
    """Lock and open the checkpoint of the run with this id or unambiguous id prefix. Yields None if
    the run is not in this state directory.

    Raises HeldError while a process on this machine executes it, UsageError, StateError.
    """
    try:
        folder = find_run(state_dir, name, ABANDON.fits)
    except NotFoundError:
        yield None
        return
    lock = RunLock(folder)
    lock.acquire()
    try:
        with closing(Checkpoint.open(folder)) as checkpoint:
            yield checkpoint
    finally:
        lock.release()


def abandon_by_hand(
    ledger: Ledger,
    run_id: str,
    checkpoint: Checkpoint | None,
    *,
    confirm: Callable[[RunInfo, Counts], bool],
) -> bool:
    """Abandon a run that Datastore or the checkpoint knows. Returns False if `confirm` returned
    False; then nothing was done.

    Raises NotFoundError when there is no such run or it is over, HeldError while a process holds
    it, CallError.
    """
    record = ledger.read(run_id)
    if checkpoint is not None:
        run_info, state, counts = (
            checkpoint.run_info,
            checkpoint.status().state,
            checkpoint.counts(),
        )
        if record is not None and record.run_info.created != run_info.created:
            record = None  # it is of a later run whose id was made from the same name
    if record is not None:
        run_info, state = record.run_info, record.state
        known = [record.counts] if checkpoint is None else [record.counts, checkpoint.counts()]
        counts = max(known, key=lambda one: one.handled)  # the record may lag behind
    elif checkpoint is None:
        raise NotFoundError(
            f"there is no run {run_id!r} in this state directory or on this target; "
            "`bulkup list --all` shows all that there are"
        )
    if state.is_over:
        raise NotFoundError(f"run {run_id} is {state.value}, so there is nothing to abandon")
    if not confirm(run_info, counts):
        return False
    reason = f"abandoned by {this_process().who}"
    if record is not None:
        clock = replace(Clock(), unix=ledger.server_time.now)
        abandon(ledger, record, reason, clock=clock, stop=StopRequest())
        if record.plan is not None:  # it is for the data before the run
            why = f"was given up with run {run_id}"
            ledger.approvals().spend(record.plan.identity, why, plan_id=record.plan.plan_id)
    if checkpoint is not None:
        checkpoint.end_work(RunState.ABANDONED, reason, Exit.DONE, clean=True)
    return True


def abandon_group(rpc: Rpc, target: TargetInfo, group: Group, state_dir: Path) -> None:
    """Abandon the unfinished runs of a group, with their successors.

    Raises HeldError while a process holds one of them, CallError.
    """
    for namespace in group.namespaces:
        ledger = Ledger(rpc, replace(target, namespace=namespace))
        run_id = group.run_id(namespace)
        while (record := ledger.read(run_id)) is not None:
            if not record.state.is_over:
                with open_to_abandon(run_id, state_dir) as checkpoint:
                    abandon_by_hand(ledger, run_id, checkpoint, confirm=lambda *_: True)
            run_id = next_id(run_id)

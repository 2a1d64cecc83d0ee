"""Acquire a run for this process: its folder's lock, its checkpoint, the lease on its record."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from bulkup.core.errors import HeldError, MismatchError, StateError
from bulkup.core.events import Warned, WarningKind
from bulkup.core.records import RunInfo
from bulkup.runs.context import RunContext
from bulkup.runs.own_state import bound_to, check_own_state
from bulkup.runs.prepare import PreparedRun
from bulkup.runs.steered_start import steering_of_runner
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.files import CHECKPOINT_NAME, RunLock, make_run_folder, set_aside
from bulkup.state.holder import this_process
from bulkup.state.record import RunRecord
from bulkup.state.run_records import RecordMovedOn
from bulkup.state.steering import read_steering
from bulkup.state.taking import WAIT_STEP_S, take


class CutMeanwhile(Exception):
    """Another process has cut the run into ranges since its record was read, so this process must
    join the run instead of executing it."""


@contextmanager
def open_checkpoint(run_info: RunInfo, prepared: PreparedRun) -> Iterator[Checkpoint]:
    """Lock a run's folder in this state directory and open its checkpoint, new or existing.

    Raises HeldError, StateError, StopAskedError.
    """
    context = prepared.context
    folder = make_run_folder(context.state_dir, run_info.run_id)
    lock = lock_folder(folder, context)
    try:
        if (folder / CHECKPOINT_NAME).exists() and _is_of_another_run(folder, run_info):
            # Another process may be waiting for the old lock file; it must not end up in the new
            # folder beside us.
            set_aside(folder)
            lock.release()
            folder = make_run_folder(context.state_dir, run_info.run_id)
            lock = lock_folder(folder, context)
        prepared.query.keep_in(folder)
        if (folder / CHECKPOINT_NAME).exists():
            checkpoint = Checkpoint.open(folder)
        else:
            checkpoint = Checkpoint.create(folder, _as_here(run_info, prepared))
        with closing(checkpoint):
            yield checkpoint
    finally:
        lock.release()


def _as_here(run_info: RunInfo, prepared: PreparedRun) -> RunInfo:
    """The facts that the checkpoint stores about a run that another machine may have started.

    A later `bulkup resume` loads the updater that the checkpoint names, and connects to its target.
    So these come from this command and not from the record, which anybody who may write to the
    Datastore may have written. Besides, paths and addresses may be different on the other machine.
    """
    source = prepared.source
    return replace(
        run_info,
        updater=source.name,
        spec=source.spec,
        source_path=source.path,
        params=dict(prepared.params),
        selection=prepared.selection,
        target=prepared.target.info,
    )


def lock_folder(folder: Path, context: RunContext) -> RunLock:
    """Lock a run's folder, waiting for it if need be.

    Raises HeldError, StateError, StopAskedError.
    """
    lock = RunLock(folder)
    deadline = context.clock.monotonic() + context.wait_s
    warned = False
    while True:
        try:
            lock.acquire()
            return lock
        except HeldError as held:
            if context.clock.monotonic() >= deadline:
                raise
            if not warned:
                context.carried.before_wait = read_steering(folder)
                message = f"waiting: {held.message.partition(';')[0]}"
                context.listener(Warned(message, WarningKind.WAITING))
                warned = lock.waited = True
        context.clock.sleep(WAIT_STEP_S)
        context.stop.raise_if_asked()


def _is_of_another_run(folder: Path, run_info: RunInfo) -> bool:
    """Whether the folder belongs to another run with the same id. An id made from a name (a
    migration, a namespace) is used again on another target, and on an emulator that was emptied.
    The old checkpoint says nothing about the new run."""
    with closing(Checkpoint.open(folder, check=False)) as checkpoint:
        return checkpoint.run_info.created != run_info.created


def acquire_lease(prepared: PreparedRun, record: RunRecord, checkpoint: Checkpoint) -> RunRecord:
    """Take the lease on a run; return the record as written.

    Raises HeldError, NotFoundError, StopAskedError, CallError; StateError and MismatchError when
    this process must not continue the run; CutMeanwhile.
    """
    context, query = prepared.context, prepared.query
    if record.version:
        check_own_state(checkpoint, record, query)

    def waits(message: str) -> None:
        context.carried.before_wait = record.steering
        context.listener(Warned(message, WarningKind.WAITING))

    held = take(
        prepared.ledger,
        record,
        this_process(),
        change=lambda latest: replace(
            bound_to(checkpoint, latest, query),
            gate=record.gate or latest.gate,
            plan=record.plan or latest.plan,
            kinds=tuple(str(kind.name) for kind in query.pb.kind),
            steering=steering_of_runner(context, checkpoint.folder, latest),
        ),
        clock=context.clock,
        stop=context.stop,
        wait_s=context.wait_s,
        on_wait=waits,
    )
    if held.ranges is not None and record.ranges is None:
        with suppress(RecordMovedOn):  # somebody steers it; then the lease expires
            prepared.ledger.write(replace(held, lease=replace(held.lease, until=0)))
        raise CutMeanwhile
    try:
        check_own_state(checkpoint, held, query)  # another runner may have begun it meanwhile
        check_same_identity(held, record.run_info.identity)
    except (StateError, MismatchError):
        released = replace(held.lease, holder=record.lease.holder, until=0)
        prepared.ledger.write(replace(held, lease=released))
        raise
    return held


def check_same_identity(record: RunRecord, identity: str) -> None:
    """Check that the record is of the same work: a run id made from a name may have been used by a
    checkout with other code.

    Raises MismatchError.
    """
    if record.run_info.identity != identity:
        raise MismatchError(
            f"run {record.run_info.run_id} was started with another query, class or parameters "
            f"than {record.run_info.updater} has now; restore them, or start a new run (--new)"
        )

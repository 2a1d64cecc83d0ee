"""Work on a run: take its lease and its checkpoint, bind them to an engine, run it to its end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from bulkup.core.clock import Clock
from bulkup.core.errors import HeldError, MismatchError, StateError
from bulkup.core.events import Report, Warned, WarningKind
from bulkup.core.model import RunState
from bulkup.core.records import RunInfo
from bulkup.core.stop import StopRequest
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.rpc_errors import explained
from bulkup.engine.execution import Execution
from bulkup.engine.pool.pool import WorkerPool, WorkerSetup
from bulkup.engine.splits import Sampling, shards_at_once
from bulkup.engine.task import Surroundings, TakenRun, Task
from bulkup.runs.prepare import PreparedRun, RunContext
from bulkup.runs.successor import begin
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.display import resume_command
from bulkup.state.files import CHECKPOINT_NAME, RunLock, make_run_folder, set_aside
from bulkup.state.holder import this_process
from bulkup.state.lease import WAIT_STEP_S, take
from bulkup.state.markers import LATE_COPY_S, Markers
from bulkup.state.record import RunRecord
from bulkup.state.run_records import Ledger, RecordMovedOn


def work_on(prepared: PreparedRun, record: RunRecord, context: RunContext) -> Report:
    """Take the run of a record, a new or an unfinished one, and work on it to its end.

    Raises HeldError, StopAskedError; NotFoundError when the run has come to its end meanwhile.
    """
    ledger = Ledger(prepared.rpc, prepared.target.info)
    with opened_here(record.run_info, prepared, context) as checkpoint:
        with explained(prepared.rpc):
            taken = take_run(ledger, record, checkpoint, prepared, context)
        return work(prepared, checkpoint.run_info, checkpoint, taken, context)


def work(
    prepared: PreparedRun,
    run_info: RunInfo,
    checkpoint: Checkpoint | None,
    taken: RunRecord | None,
    context: RunContext,
    *,
    sampling: Sampling | None = None,
) -> Report:
    """Let the engine work on a run that is ours. Without checkpoint and entry: a dry run.

    `sampling`: begun before, see `ask_for_sample`.
    """
    taken_run = None
    if checkpoint is not None and taken is not None:
        taken_run = TakenRun(
            checkpoint,
            taken,
            next_command=context.again
            or resume_command(run_info.run_id, context.state_dir, context.options.words()),
            begin_successor=lambda record: begin(prepared, record, context.clock),
        )
    run = Execution(
        Task(prepared.updater, prepared.query, prepared.rpc, run_info, prepared.entity_bytes),
        Surroundings(context.options, context.listener, prepared.stop, context.clock),
        taken_run,
        workers=_workers(prepared, context) if checkpoint else None,
        sampling=sampling,
    )
    if context.options.processes > 1 and checkpoint is None:
        run.warn("a dry run handles all entities in this one process (--processes is for runs)")
    for warning in prepared.warnings:
        run.warn(warning.message, warning.kind)
    return run.execute()


def ask_for_sample(prepared: PreparedRun, context: RunContext) -> Sampling | None:
    """Begin to find out where the query may be cut into shards, if it is to be.

    Whoever holds the run: a sample only proposes where to cut, so an old one does no harm.
    """
    width = shards_at_once(context.options.shards, prepared.query, is_real=prepared.target.is_real)
    return Sampling(prepared.rpc, prepared.query, width) if width > 1 else None


def _workers(prepared: PreparedRun, context: RunContext) -> WorkerPool | None:
    if context.options.processes == 1:
        return None
    info, query = prepared.target.info, prepared.query
    orders = WorkerSetup(
        spec=prepared.source.spec,
        checksum=prepared.source.checksum,
        params=prepared.params,
        project=info.project,
        database=info.database,
        namespace=info.namespace,
        local=info.local,
        emulator="" if prepared.target.is_real else prepared.rpc.address,
        query=query.pb.SerializeToString(),
        query_namespace=query.namespace,
        keys_only=query.keys_only,
        has_filters=query.has_filters,
        ranged=tuple(query.ranged),
        retry_for_s=context.options.retry_for_s,
    )
    return WorkerPool(context.options.processes, orders, prepared.rpc)


def take_run(
    ledger: Ledger,
    record: RunRecord,
    checkpoint: Checkpoint,
    prepared: PreparedRun,
    context: RunContext,
) -> RunRecord:
    """The entry with the lease on it. Raises what `lease.take` raises, and StateError."""
    _knows_what_moved(checkpoint, record)
    taken = take(
        ledger,
        record,
        this_process(),
        clock=context.clock,
        stop=prepared.stop,
        wait_s=context.wait_s,
        on_wait=lambda text: context.listener(Warned(text, WarningKind.WAITING)),
    )
    try:
        _knows_what_moved(checkpoint, taken)  # it may have moved something while we waited
        same_run(taken, record.run_info.identity)
    except (StateError, MismatchError):
        lease = replace(taken.lease, holder=record.lease.holder, until=0)
        ledger.write(replace(taken, lease=lease))
        raise
    return taken


def same_run(record: RunRecord, identity: str) -> None:
    """For ids that are not random: two checkouts that differ may have begun the same one.

    Raises MismatchError.
    """
    if record.run_info.identity != identity:
        raise MismatchError(
            f"run {record.run_info.run_id} was begun with another query, class or parameters than "
            f"{record.run_info.updater} has now: restore these, or begin anew (--new)"
        )


def _knows_what_moved(checkpoint: Checkpoint, record: RunRecord) -> None:
    moved_in, holder = record.layout.moved_in, record.lease.holder
    if moved_in and moved_in != checkpoint.status().file_id:
        who = holder.who if holder else "another runner"
        raise StateError(
            f"run {record.run_info.run_id} changes what its query orders or ranges on, and which "
            f"entities are done is known only to the state directory of {who}: resume it there "
            "(or --new starts over, and handles those again)"
        )


def give_up(ledger: Ledger, record: RunRecord, prepared: PreparedRun, clock: Clock) -> None:
    """`--new`: the unfinished run is ended as it is; what it wrote stays."""
    taken = take(ledger, record, this_process(), clock=clock, stop=prepared.stop)
    ledger.write(
        replace(
            taken,
            state=RunState.ABANDONED,
            reason="given up for a new run (--new)",
            ended=int(clock.unix()),
            lease=replace(taken.lease, until=0),
            layout=replace(taken.layout, sweep_at=int(clock.unix() + LATE_COPY_S) + 1),
        ),
        over=True,
    )


def locked(folder: Path, stop: StopRequest, context: RunContext) -> RunLock:
    """The lock on a run's folder, waited for. Raises HeldError, StateError, StopAskedError."""
    lock = RunLock(folder)
    give_up = context.clock.monotonic() + context.wait_s
    said = False
    while True:
        try:
            lock.acquire()
            return lock
        except HeldError as held:
            if context.clock.monotonic() >= give_up:
                raise
            if not said:
                message = f"waiting: {held.message.partition(';')[0]}"
                context.listener(Warned(message, WarningKind.WAITING))
                said = True
        context.clock.sleep(WAIT_STEP_S)
        stop.raise_if_asked()


@contextmanager
def opened_here(
    run_info: RunInfo, prepared: PreparedRun, context: RunContext
) -> Iterator[Checkpoint]:
    """The locked checkpoint of a run in this state directory, made when it is not there."""
    folder = make_run_folder(context.state_dir, run_info.run_id)
    lock = locked(folder, prepared.stop, context)
    try:
        if (folder / CHECKPOINT_NAME).exists() and _is_of_another(folder, run_info):
            # Whoever waits for the old lock file must not get in beside us.
            set_aside(folder)
            lock.release()
            folder = make_run_folder(context.state_dir, run_info.run_id)
            lock = locked(folder, prepared.stop, context)
        if (folder / CHECKPOINT_NAME).exists():
            checkpoint = Checkpoint.open(folder)
        else:
            # Begun elsewhere, perhaps reached by another address: here it is what it is here.
            checkpoint = Checkpoint.create(folder, replace(run_info, target=prepared.target.info))
        try:
            yield checkpoint
        finally:
            checkpoint.close()
    finally:
        lock.release()


def _is_of_another(folder: Path, run_info: RunInfo) -> bool:
    """A run whose id is made from a name comes again on another target, or on an emulator that
    was emptied; what an earlier one of that name did here says nothing about this one."""
    checkpoint = Checkpoint.open(folder, check=False)
    try:
        return checkpoint.run_info.created != run_info.created
    finally:
        checkpoint.close()


def sweep(ledger: Ledger, rpc: Rpc, found: Iterable[RunRecord]) -> None:
    """Remove the markers that disturbed runs on this target had to leave, once they may go.

    `found`: from `Ledger.to_sweep`. Raises CallError.
    """
    for record in list(found):
        markers = Markers(rpc, record.run_info.target.namespace, record.run_info.run_id)
        markers.remove(markers.all_keys())
        if record.keep:
            with suppress(RecordMovedOn):  # somebody else swept it at the same time
                ledger.write(replace(record, layout=replace(record.layout, sweep_at=0)))
        else:
            ledger.remove(record)

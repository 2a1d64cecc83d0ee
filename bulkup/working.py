"""Work on a run: take its lease and its checkpoint, bind them to an engine, run it to its end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from bulkup.clock import Clock
from bulkup.engine.events import Report, Warned
from bulkup.engine.lease import WAIT_STEP_S, take, this_process
from bulkup.engine.run import Run
from bulkup.engine.sharding import Sampling, width_of
from bulkup.engine.stop import StopRequest
from bulkup.engine.workers import Orders, Workers
from bulkup.errors import HeldError, MismatchError, StateError
from bulkup.facts import RunState
from bulkup.jobs import Job, Runner
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.files import CHECKPOINT_NAME, RunLock, make_run_folder, set_aside
from bulkup.state.ledger import Entry, Ledger, RecordMovedOn
from bulkup.state.markers import LATE_COPY_S, Markers
from bulkup.state.records import RunRecord
from bulkup.state.words import resume_command
from bulkup.successor import begin
from bulkup.wire.client import Wire
from bulkup.wire.explain import explained


def work_on(job: Job, entry: Entry, me: Runner) -> Report:
    """Take the run of a record, a new or an unfinished one, and work on it to its end.

    Raises HeldError, StopAskedError; NotFoundError when the run has come to its end meanwhile.
    """
    ledger = Ledger(job.wire, job.target.info)
    with opened_here(entry.record, job, me) as checkpoint:
        with explained(job.wire):
            taken = take_run(ledger, entry, checkpoint, job, me)
        return work(job, checkpoint.record, checkpoint, taken, me)


def work(
    job: Job,
    record: RunRecord,
    checkpoint: Checkpoint | None,
    taken: Entry | None,
    me: Runner,
    *,
    sampling: Sampling | None = None,
) -> Report:
    """Let the engine work on a run that is ours. Without checkpoint and entry: a dry run.

    `sampling`: begun before, see `ask_for_sample`.
    """
    run = Run(
        updater=job.updater,
        wire=job.wire,
        query=job.query,
        record=record,
        checkpoint=checkpoint,
        taken=taken,
        options=me.options,
        listener=me.listener,
        stop=job.stop,
        clock=me.clock,
        state_file=str(checkpoint.path) if checkpoint else "",
        next_command=me.again or resume_command(record.run_id, me.state_dir, me.options.words()),
        begin=lambda entry: begin(job, entry, me.clock),
        entity_bytes=job.entity_bytes,
        workers=_workers(job, me) if checkpoint else None,
        sampling=sampling,
    )
    if me.options.processes > 1 and checkpoint is None:
        run.warn("a dry run handles all entities in this one process (--processes is for runs)")
    for warning in job.warnings:
        run.warn(warning)
    return run.execute()


def ask_for_sample(job: Job, me: Runner) -> Sampling | None:
    """Begin to find out where the query may be cut into shards, if it is to be.

    Whoever holds the run: a sample only proposes where to cut, so an old one does no harm.
    """
    width = width_of(me.options.shards, job.query, is_real=job.target.is_real)
    return Sampling(job.wire, job.query, width) if width > 1 else None


def _workers(job: Job, me: Runner) -> Workers | None:
    if me.options.processes == 1:
        return None
    info, query = job.target.info, job.query
    orders = Orders(
        spec=job.source.spec,
        checksum=job.source.checksum,
        params=job.params,
        project=info.project,
        database=info.database,
        namespace=info.namespace,
        local=info.local,
        emulator="" if job.target.is_real else job.wire.address,
        query=query.pb.SerializeToString(),
        query_namespace=query.namespace,
        keys_only=query.keys_only,
        has_filters=query.has_filters,
        ranged=tuple(query.ranged),
        retry_for_s=me.options.retry_for_s,
    )
    return Workers(me.options.processes, orders, job.wire)


def take_run(ledger: Ledger, entry: Entry, checkpoint: Checkpoint, job: Job, me: Runner) -> Entry:
    """The entry with the lease on it. Raises what `lease.take` raises, and StateError."""
    _knows_what_moved(checkpoint, entry)
    taken = take(
        ledger,
        entry,
        this_process(),
        clock=me.clock,
        stop=job.stop,
        wait_s=me.wait_s,
        on_wait=lambda text: me.listener(Warned(text)),
    )
    try:
        _knows_what_moved(checkpoint, taken)  # it may have moved something while we waited
        same_run(taken, entry.record.identity)
    except (StateError, MismatchError):
        ledger.write(replace(taken, holder=entry.holder, lease_until=0))
        raise
    return taken


def same_run(entry: Entry, identity: str) -> None:
    """For ids that are not random: two checkouts that differ may have begun the same one.

    Raises MismatchError.
    """
    if entry.record.identity != identity:
        raise MismatchError(
            f"run {entry.record.run_id} was begun with another query, class or parameters than "
            f"{entry.record.updater} has now: restore these, or begin anew (--new)"
        )


def _knows_what_moved(checkpoint: Checkpoint, entry: Entry) -> None:
    if entry.moved_in and entry.moved_in != checkpoint.file_id:
        who = entry.holder.who if entry.holder else "another runner"
        raise StateError(
            f"run {entry.record.run_id} changes what its query orders or ranges on, and which "
            f"entities are done is known only to the state directory of {who}: resume it there "
            "(or --new starts over, and handles those again)"
        )


def give_up(ledger: Ledger, entry: Entry, job: Job, clock: Clock) -> None:
    """`--new`: the unfinished run is ended as it is; what it wrote stays."""
    taken = take(ledger, entry, this_process(), clock=clock, stop=job.stop)
    ledger.write(
        replace(
            taken,
            state=RunState.ABANDONED,
            reason="given up for a new run (--new)",
            lease_until=0,
            sweep_at=int(clock.unix() + LATE_COPY_S) + 1,
            ended=int(clock.unix()),
        ),
        over=True,
    )


def locked(folder: Path, stop: StopRequest, me: Runner) -> RunLock:
    """The lock on a run's folder, waited for. Raises HeldError, StateError, StopAskedError."""
    lock = RunLock(folder)
    give_up = me.clock.monotonic() + me.wait_s
    said = False
    while True:
        try:
            lock.acquire()
            return lock
        except HeldError as held:
            if me.clock.monotonic() >= give_up:
                raise
            if not said:
                me.listener(Warned(f"waiting: {held.message.partition(';')[0]}"))
                said = True
        me.clock.sleep(WAIT_STEP_S)
        stop.raise_if_asked()


@contextmanager
def opened_here(record: RunRecord, job: Job, me: Runner) -> Iterator[Checkpoint]:
    """The locked checkpoint of a run in this state directory, made when it is not there."""
    folder = make_run_folder(me.state_dir, record.run_id)
    lock = locked(folder, job.stop, me)
    try:
        if (folder / CHECKPOINT_NAME).exists() and _is_of_another(folder, record):
            # Whoever waits for the old lock file must not get in beside us.
            set_aside(folder)
            lock.release()
            folder = make_run_folder(me.state_dir, record.run_id)
            lock = locked(folder, job.stop, me)
        if (folder / CHECKPOINT_NAME).exists():
            checkpoint = Checkpoint.open(folder)
        else:
            # Begun elsewhere, perhaps reached by another address: here it is what it is here.
            checkpoint = Checkpoint.create(folder, replace(record, target=job.target.info))
        try:
            yield checkpoint
        finally:
            checkpoint.close()
    finally:
        lock.release()


def _is_of_another(folder: Path, record: RunRecord) -> bool:
    """A run whose id is made from a name comes again on another target, or on an emulator that
    was emptied; what an earlier one of that name did here says nothing about this one."""
    checkpoint = Checkpoint.open(folder, check=False)
    try:
        return checkpoint.record.created != record.created
    finally:
        checkpoint.close()


def sweep(ledger: Ledger, wire: Wire, found: Iterable[Entry]) -> None:
    """Remove the markers that disturbed runs on this target had to leave, once they may go.

    `found`: from `Ledger.to_sweep`. Raises CallError.
    """
    for entry in list(found):
        markers = Markers(wire, entry.record.target.namespace, entry.record.run_id)
        markers.remove(markers.all_keys())
        if entry.keep:
            with suppress(RecordMovedOn):  # somebody else swept it at the same time
                ledger.write(replace(entry, sweep_at=0))
        else:
            ledger.remove(entry)

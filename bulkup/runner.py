"""Runs from beginning to end: what `bulkup run`, `bulkup resume` and `bulkup.run` call.

Everything is checked before anything is made: a run whose updater, parameters, query or server is
not right leaves no trace.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from bulkup import chain
from bulkup.clock import Clock
from bulkup.engine.events import Event, Listener, Report, Warned
from bulkup.engine.lease import WAIT_STEP_S, take, this_process
from bulkup.engine.run import Options, Run
from bulkup.engine.scan import QueryPlan, plan
from bulkup.engine.stop import StopRequest
from bulkup.errors import (
    BulkupError,
    Exit,
    HeldError,
    MismatchError,
    NotFoundError,
    StateError,
    UpdaterError,
    UsageError,
)
from bulkup.facts import RunState, TargetInfo
from bulkup.loading import UpdaterSource, describe, load, make
from bulkup.parameters import convert, to_text
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.files import (
    CHECKPOINT_NAME,
    RunLock,
    find_run,
    make_run_folder,
    run_folders,
    set_aside,
)
from bulkup.state.ledger import Entry, Ledger, RecordMovedOn
from bulkup.state.markers import LATE_COPY_S, Markers
from bulkup.state.records import RunRecord, Shard, next_id
from bulkup.state.words import DEFAULT_STATE_DIR, resume_command
from bulkup.target import Target, emulator_host, resolve
from bulkup.tracebacks import error_line, user_traceback
from bulkup.updater import Updater
from bulkup.wire.client import Wire
from bulkup.wire.explain import explain
from bulkup.wire.retries import CallError, Patience
from bulkup.wire.userclient import ReadOnlyClient, UserClient


@dataclass(frozen=True)
class Where:
    """The target as it was asked for; None: as the environment says."""

    project: str | None = None
    database: str | None = None
    namespace: str | None = None
    local: str | None = None


@dataclass
class Job:
    """An updater ready to work on a target that answers."""

    source: UpdaterSource
    updater: Updater
    params: dict[str, str]
    target: Target
    wire: Wire
    query: QueryPlan
    stop: StopRequest
    entity_bytes: int = 0
    """Of the first entity that the query finds."""
    warnings: list[str] = field(default_factory=list)


@contextmanager
def prepare(
    updater: Any,
    params: Mapping[str, Any],
    where: Where,
    *,
    dry_run: bool = False,
    retry_for_s: float = Patience.retry_for_s,
    check: Callable[[TargetInfo], None] = lambda _: None,
    clock: Clock | None = None,
) -> Iterator[Job]:
    """Load, convert, connect, ask the server once. Raises BulkupError for whatever is wrong.

    `check` sees the target before anything is sent to it.
    """
    clock = clock or Clock()
    source = load(updater) if isinstance(updater, str) else describe(updater)
    values = convert(source, params)
    made = make(source, values)
    chain.check(source)
    with opened(where) as target:
        check(target.info)
        patience = Patience(retry_for_s)
        with _ready(source, values, made, target, StopRequest(), patience, clock, dry_run) as job:
            yield job


@contextmanager
def prepare_on(
    target: Target,
    spec: str,
    params: Mapping[str, Any],
    *,
    stop: StopRequest,
    retry_for_s: float = Patience.retry_for_s,
    clock: Clock,
) -> Iterator[Job]:
    """`prepare` on a target that is open already, for whoever has several updaters to run."""
    source = load(spec)
    values = convert(source, params)
    made = make(source, values)
    chain.check(source)
    with _ready(source, values, made, target, stop, Patience(retry_for_s), clock) as job:
        yield job


@contextmanager
def _ready(
    source: UpdaterSource,
    values: Mapping[str, Any],
    made: Updater,
    target: Target,
    stop: StopRequest,
    patience: Patience,
    clock: Clock,
    dry_run: bool = False,
) -> Iterator[Job]:
    patience.stopping_s = stop.seconds
    wire = Wire(target.client, patience=patience, sleep=clock.sleep, monotonic=clock.monotonic)
    made.client = (ReadOnlyClient if dry_run else UserClient).over(wire, target.client)
    try:
        query = plan(_query_of(made, source), target.client)
        entity_bytes = _say_hello(wire, query)
        texts = {name: to_text(value) for name, value in values.items()}
        yield Job(source, made, texts, target, wire, query, stop, entity_bytes)
    finally:
        wire.close()


@contextmanager
def opened(where: Where) -> Iterator[Target]:
    """The target, with its embedded Datastore started where it is one. Raises BulkupError."""
    if where.local is None:
        yield resolve(where.project, where.database, where.namespace)
        return
    if not os.path.exists(where.local):
        raise UsageError(
            f"there is no file {where.local!r}; `bulkup local load` makes one from JSON lines, "
            "`bulkup demo` one to play with"
        )
    from bulkup.local.process import start_local

    with start_local(where.local) as server:
        yield resolve(
            where.project,
            where.database,
            where.namespace,
            local=where.local,
            address=server.host,
        )


def _query_of(updater: Updater, source: UpdaterSource) -> object:
    try:
        return updater.get_query()
    except BulkupError:
        raise
    except (Exception, SystemExit) as error:
        raise UpdaterError(
            f"get_query of {source.name} raised {error_line(error)}; nothing was started",
            details=user_traceback(error),
        ) from error


def _say_hello(wire: Wire, query: QueryPlan) -> int:
    """Ask for the first entity: shows that the server answers, lets us in, and can run this.

    Gives its size.
    """
    pb = type(query.pb)()
    pb.CopyFrom(query.pb)
    pb.limit.value = 1
    with _explained(wire):
        wire.connect()
        batch = wire.run_query(pb, query.namespace).result().batch
    return sum(result.ByteSize() for result in batch.entity_results)


def start(
    job: Job,
    *,
    options: Options,
    state_dir: Path,
    listener: Listener,
    fresh: bool = False,
    keep_record: bool = True,
    wait_s: float = 0.0,
    clock: Clock | None = None,
) -> Report:
    """Begin a run and work on it to its end.

    When a run of the same updater, with the same parameters and query, is unfinished on the
    target, that one goes on, unless `fresh`. `keep_record` False: the run record goes when the
    run has finished. `wait_s`: for a runner that works on it already. Raises BulkupError when it
    cannot begin.
    """
    clock = clock or Clock()
    info = job.target.info
    record = RunRecord(
        run_id=_new_run_id(clock),
        updater=job.source.name,
        description=job.source.description,
        spec=job.source.spec,
        source_path=job.source.path,
        checksum=job.source.checksum,
        params=job.params,
        target=info,
        fingerprint=job.query.fingerprint(info),
        identity=job.query.identity(job.source.spec, job.params),
        created=clock.now().isoformat(),
    )
    if options.dry_run:
        with job.stop.listening():
            with _explained(job.wire):
                unfinished_one = Ledger(job.wire, info).unfinished(record.identity)
            if unfinished_one is not None:
                job.warnings.append(
                    f"run {unfinished_one.record.run_id} of this work is unfinished: without -n "
                    "the same command goes on with it, behind what is done already"
                )
            return _work(job, record, None, None, options, listener, clock, state_dir)
    with job.stop.listening():
        return _start(job, record, options, state_dir, listener, fresh, keep_record, wait_s, clock)


def _start(
    job: Job,
    record: RunRecord,
    options: Options,
    state_dir: Path,
    listener: Listener,
    fresh: bool,
    keep_record: bool,
    wait_s: float,
    clock: Clock,
) -> Report:
    info = job.target.info
    ledger = Ledger(job.wire, info)
    with _explained(job.wire):
        sweep(ledger, job.wire, clock.unix())
    while True:
        with _explained(job.wire):
            entry = ledger.unfinished(record.identity)
            if entry is not None and fresh:
                _give_up(ledger, entry, job, clock)
                entry = None
        if entry is not None and entry.chain:
            listener(Warned(_goes_on(entry, job)))
            return _go_on_behind(job, entry, 0, options, state_dir, listener, wait_s, clock)
        begins = entry is None
        if begins and not fresh:
            with _explained(job.wire):
                job.warnings += _similar(ledger, record)
        if entry is None:
            entry = Entry(record, RunState.RUNNING, keep=keep_record)
        with _opened_here(entry.record, job, state_dir, wait_s, listener, clock) as checkpoint:
            try:
                with _explained(job.wire):
                    taken = _take(ledger, entry, checkpoint, job, wait_s, listener, clock)
            except NotFoundError:
                if not begins or ledger.read(record.run_id) is not None:
                    raise  # the latter: a copy of this state directory was resumed meanwhile
                # Somebody began the same work at the same moment and was first: go on with that.
                shutil.rmtree(checkpoint.folder)
                continue
            if not begins:
                job.warnings.append(_goes_on(entry, job))
            report = _work(
                job, checkpoint.record, checkpoint, taken, options, listener, clock, state_dir
            )
        return follow(job, report, options, state_dir, listener, wait_s, clock)


def follow(
    job: Job,
    report: Report,
    options: Options,
    state_dir: Path,
    listener: Listener,
    wait_s: float,
    clock: Clock,
    *,
    links: int = 0,
) -> Report:
    """Go on with what follows a run, until its chain has ended; gives the last report.

    `links`: how many lead to the run of `job`. Raises what `work_on` raises.
    """
    began = clock.monotonic() - report.elapsed_s
    ledger = Ledger(job.wire, job.target.info)
    folder = os.path.dirname(job.source.path)
    while report.successor:
        with _explained(job.wire):
            entry = ledger.read(report.successor)
        if entry is None or entry.state.is_over:
            return report  # somebody else was faster
        left = options
        if options.max_time_s is not None:
            passed = clock.monotonic() - began
            left = replace(options, max_time_s=max(options.max_time_s - passed, 0.0))
        report = _successor(
            job, entry, chain.locate(entry.chain[links:], folder), left, state_dir, listener,
            wait_s, clock,
        )  # fmt: skip
    return report


def _go_on_behind(
    job: Job,
    entry: Entry,
    links: int,
    options: Options,
    state_dir: Path,
    listener: Listener,
    wait_s: float,
    clock: Clock,
) -> Report:
    """Go on with a run somewhere behind that of `job`, to which so many links lead."""
    spec = chain.locate(entry.chain[links:], os.path.dirname(job.source.path))
    report = _successor(job, entry, spec, options, state_dir, listener, wait_s, clock)
    return follow(job, report, options, state_dir, listener, wait_s, clock, links=links)


def _successor(
    job: Job,
    entry: Entry,
    spec: str,
    options: Options,
    state_dir: Path,
    listener: Listener,
    wait_s: float,
    clock: Clock,
) -> Report:
    with prepare_on(
        job.target,
        spec,
        entry.record.params,
        stop=job.stop,
        retry_for_s=options.retry_for_s,
        clock=clock,
    ) as next_job:
        same_work(next_job, entry)
        return work_on(
            next_job,
            entry,
            options=options,
            state_dir=state_dir,
            listener=listener,
            wait_s=wait_s,
            clock=clock,
            next_command="",
        )


def same_work(job: Job, entry: Entry) -> None:
    """The successor that was recorded is the one that was loaded. Raises MismatchError."""
    if entry.work != job.query.identity(job.source.name, job.params):
        raise MismatchError(
            f"run {entry.record.run_id} follows with another query, class or parameters than "
            f"{job.source.path} has now: restore these, or begin anew (--new)"
        )


def _begin(job: Job, entry: Entry, clock: Clock) -> Entry | None:
    """The record of the successor that an updater wants, whose run has the record `entry`."""
    then = chain.wanted(job.source, job.updater)
    if then is None:
        return None
    folder = os.path.dirname(job.source.path)
    link = chain.relative_spec(then.updater, folder)
    source = load(chain.locate([link], folder))
    values = convert(source, then.params)
    made = make(source, values)
    made.client = UserClient.over(job.wire, job.target.client)
    query = plan(_query_of(made, source), job.target.client)
    info = job.target.info
    params = {name: to_text(value) for name, value in values.items()}
    record = RunRecord(
        run_id=next_id(entry.record.run_id),
        updater=source.name,
        description=source.description,
        spec=source.spec,
        source_path=source.path,
        checksum=source.checksum,
        params=params,
        target=info,
        fingerprint=query.fingerprint(info),
        identity=entry.record.identity,
        created=clock.now().isoformat(),
    )
    return Entry(
        record,
        RunState.RUNNING,
        keep=entry.keep,
        migration=entry.migration,
        code=entry.code,
        origin=entry.origin,
        chain=(*entry.chain, link),
        work=query.identity(source.name, params),
    )


def work_on(
    job: Job,
    entry: Entry,
    *,
    options: Options,
    state_dir: Path,
    listener: Listener,
    wait_s: float,
    clock: Clock,
    next_command: str,
) -> Report:
    """Take the run of a record, a new or an unfinished one, and work on it to its end.

    Raises HeldError, StopAskedError; NotFoundError when the run has come to its end meanwhile.
    """
    ledger = Ledger(job.wire, job.target.info)
    with _opened_here(entry.record, job, state_dir, wait_s, listener, clock) as checkpoint:
        with _explained(job.wire):
            taken = _take(ledger, entry, checkpoint, job, wait_s, listener, clock)
        return _work(
            job, checkpoint.record, checkpoint, taken, options, listener, clock, state_dir,
            next_command,
        )  # fmt: skip


def _knows_what_moved(checkpoint: Checkpoint, entry: Entry) -> None:
    if entry.moved_in and entry.moved_in != checkpoint.file_id:
        who = entry.holder.who if entry.holder else "another runner"
        raise StateError(
            f"run {entry.record.run_id} changes what its query orders or ranges on, and which "
            f"entities are done is known only to the state directory of {who}: resume it there "
            "(or --new starts over, and handles those again)"
        )


def _similar(ledger: Ledger, record: RunRecord) -> list[str]:
    """Unfinished runs that may have been meant: a parameter or the file's name is different."""
    return [
        f"{record.updater} is unfinished here with other parameters, query or file name: run "
        f"{other.record.run_id} ({', '.join(f'{n}={v}' for n, v in other.record.params.items())}); "
        "this is a new run, and handles all entities"
        for other in ledger.open_runs_of(record.updater)
    ]


def _goes_on(entry: Entry, job: Job) -> str:
    was, who = entry.record, entry.holder.who if entry.holder else "somebody"
    text = (
        f"{was.updater} was not finished on this target: run {was.run_id}, begun by {who} on "
        f"{was.created[:16].replace('T', ' ')} UTC, goes on (--new starts over)"
    )
    if not entry.chain and was.checksum != job.source.checksum:
        text += "; its source has changed since, entities handled from now on get the new code"
    return text


def _give_up(ledger: Ledger, entry: Entry, job: Job, clock: Clock) -> None:
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


def _take(
    ledger: Ledger,
    entry: Entry,
    checkpoint: Checkpoint,
    job: Job,
    wait_s: float,
    listener: Listener,
    clock: Clock,
) -> Entry:
    """The entry with the lease on it."""
    _knows_what_moved(checkpoint, entry)
    taken = take(
        ledger,
        entry,
        this_process(),
        clock=clock,
        stop=job.stop,
        wait_s=wait_s,
        on_wait=lambda text: listener(Warned(text)),
    )
    try:
        _knows_what_moved(checkpoint, taken)  # it may have moved something while we waited
    except StateError:
        ledger.write(replace(taken, holder=entry.holder, lease_until=0))
        raise
    return taken


def _locked(
    folder: Path, stop: StopRequest, wait_s: float, listener: Listener, clock: Clock
) -> RunLock:
    """The lock on a run's folder, waited for. Raises HeldError, StateError, StopAskedError."""
    lock = RunLock(folder)
    give_up = clock.monotonic() + wait_s
    said = False
    while True:
        try:
            lock.acquire()
            return lock
        except HeldError as held:
            if clock.monotonic() >= give_up:
                raise
            if not said:
                listener(Warned(f"waiting: {held.message.partition(';')[0]}"))
                said = True
        clock.sleep(WAIT_STEP_S)
        stop.raise_if_asked()


@contextmanager
def _opened_here(
    record: RunRecord, job: Job, state_dir: Path, wait_s: float, listener: Listener, clock: Clock
) -> Iterator[Checkpoint]:
    """The locked checkpoint of a run in this state directory, made when it is not there."""
    folder = make_run_folder(state_dir, record.run_id)
    lock = _locked(folder, job.stop, wait_s, listener, clock)
    try:
        if (folder / CHECKPOINT_NAME).exists() and _is_of_another(folder, record):
            # Whoever waits for the old lock file must not get in beside us.
            set_aside(folder)
            lock.release()
            folder = make_run_folder(state_dir, record.run_id)
            lock = _locked(folder, job.stop, wait_s, listener, clock)
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


def sweep(ledger: Ledger, wire: Wire, now: float) -> None:
    """Remove the markers that disturbed runs on this target had to leave, once they may go.

    Raises CallError.
    """
    for entry in ledger.to_sweep(now):
        markers = Markers(wire, entry.record.target.namespace, entry.record.run_id)
        markers.remove(markers.all_keys())
        if entry.keep:
            with suppress(RecordMovedOn):  # somebody else swept it at the same time
                ledger.write(replace(entry, sweep_at=0))
        else:
            ledger.remove(entry)


@contextmanager
def _explained(wire: Wire) -> Iterator[None]:
    try:
        yield
    except CallError as error:
        raise explain(
            error, address=wire.address, project=wire.project, contacted=wire.patience.contacted
        ) from error


def _new_run_id(clock: Clock) -> str:
    """Sorts by the time it was made, also within a second."""
    now = clock.now()
    return f"{now:%Y%m%d-%H%M%S}-{now.microsecond // 100:04d}{uuid.uuid4().hex[:2]}"


def _work(
    job: Job,
    record: RunRecord,
    checkpoint: Checkpoint | None,
    taken: Entry | None,
    options: Options,
    listener: Listener,
    clock: Clock,
    state_dir: Path,
    next_command: str = "",
) -> Report:
    run = Run(
        updater=job.updater,
        wire=job.wire,
        query=job.query,
        record=record,
        checkpoint=checkpoint,
        taken=taken,
        options=options,
        listener=listener,
        stop=job.stop,
        clock=clock,
        state_file=str(checkpoint.path) if checkpoint else "",
        next_command=next_command or resume_command(record.run_id, state_dir),
        begin=lambda entry: _begin(job, entry, clock),
        entity_bytes=job.entity_bytes,
    )
    for warning in job.warnings:
        run.warn(warning)
    return run.execute()


# --- resuming ---


@contextmanager
def unfinished(
    state_dir: Path,
    name: str | None,
    *,
    wait_s: float = 0.0,
    listener: Listener = lambda _: None,
    clock: Clock | None = None,
) -> Iterator[Checkpoint]:
    """The run to resume, locked for this process: the one named, or the latest unfinished one.

    `wait_s`: for another process of this machine that works on it.
    Raises NotFoundError when there is nothing to resume, HeldError when somebody works on it.
    """
    folder = find_run(state_dir, name) if name is not None else _latest_unfinished(state_dir)
    lock = _locked(folder, StopRequest(), wait_s, listener, clock or Clock())
    try:
        checkpoint = Checkpoint.open(folder)
        try:
            if checkpoint.state.is_over:
                raise NotFoundError(
                    f"run {folder.name} is {checkpoint.state.value}, there is nothing to resume; "
                    f"`bulkup show {folder.name}` shows its report"
                )
            yield checkpoint
        finally:
            checkpoint.close()
    finally:
        lock.release()


def _latest_unfinished(state_dir: Path) -> Path:
    for folder in reversed(run_folders(state_dir)):
        checkpoint = Checkpoint.open(folder, check=False)
        state = checkpoint.state
        checkpoint.close()
        if not state.is_over:
            return folder
    raise NotFoundError(
        f"there is nothing to resume in {str(state_dir)!r}: every run there is finished, or there "
        "is none; --state-dir looks elsewhere, `bulkup run UPDATER` begins one (or goes on with "
        "the same work, if it is unfinished in Datastore and only the folder was lost)"
    )


@contextmanager
def prepare_resume(
    checkpoint: Checkpoint,
    where: Where,
    params: Mapping[str, str],
    *,
    retry_for_s: float = Patience.retry_for_s,
    clock: Clock | None = None,
) -> Iterator[Job]:
    """Make a run's job again, and make sure that it is the same. Raises MismatchError."""
    record = checkpoint.record
    if not (record.target.local or where.local):
        # Before a client is made: on the wrong side it would ask for credentials.
        _same_target(record, replace(record.target, emulator=emulator_host()))
    same = record.target
    asked = Where(
        project=where.project or same.project,
        database=same.database if where.database is None else where.database,
        namespace=same.namespace if where.namespace is None else where.namespace,
        local=where.local or same.local or None,
    )
    for name, text in params.items():
        if record.params.get(name) != text:
            was = record.params.get(name)
            raise MismatchError(
                f"run {record.run_id} has "
                + (f"{name}={was}" if was is not None else f"no parameter {name}")
                + f", not {name}={text}: resume it without -p, or begin a new run"
            )
    with prepare(
        record.spec,
        record.params,
        asked,
        retry_for_s=retry_for_s,
        check=lambda now: _same_target(record, now),
        clock=clock,
    ) as job:
        if job.query.fingerprint(job.target.info) != record.fingerprint:
            raise MismatchError(
                f"the query of {record.updater} is not the one that run {record.run_id} began "
                "with: restore it (a value that changes, such as the time, belongs into a "
                "parameter), or begin a new run"
            )
        if job.source.checksum != record.checksum:
            job.warnings.append(
                f"{record.source_path} has changed since run {record.run_id} began; entities "
                "handled from now on get the new code"
            )
        yield job


def _same_target(record: RunRecord, now: TargetInfo) -> None:
    if now == record.target:
        return
    if now.emulator != record.target.emulator:
        was = record.target.emulator
        what = f"DATASTORE_EMULATOR_HOST={was}" if was else "without DATASTORE_EMULATOR_HOST"
        raise MismatchError(
            f"run {record.run_id} is on {record.target}, and the environment now means {now}: "
            f"resume it {'with ' if was else ''}{what}, or begin a new run"
        )
    raise MismatchError(
        f"run {record.run_id} is on {record.target}, not on {now}: resume it without --project, "
        "--database, --namespace and --local, or begin a new run"
    )


def resume(
    job: Job,
    checkpoint: Checkpoint,
    *,
    options: Options,
    state_dir: Path,
    listener: Listener,
    wait_s: float = 0.0,
    clock: Clock | None = None,
) -> Report:
    """Go on with a run. Its locked checkpoint comes from `unfinished`, its job from
    `prepare_resume`. Raises HeldError, NotFoundError, TargetError when it cannot."""
    clock = clock or Clock()
    with job.stop.listening():
        return _resume(job, checkpoint, options, state_dir, listener, wait_s, clock)


def _resume(
    job: Job,
    checkpoint: Checkpoint,
    options: Options,
    state_dir: Path,
    listener: Listener,
    wait_s: float,
    clock: Clock,
) -> Report:
    record = checkpoint.record
    if options.max_failures is None:
        options = replace(options, max_failures=checkpoint.asked_failures)
    ledger = Ledger(job.wire, job.target.info)
    with _explained(job.wire):
        sweep(ledger, job.wire, clock.unix())
        entry = ledger.read(record.run_id)
        if entry is not None and entry.record.created != record.created:
            reason = f"another run has taken its place, begun on {entry.record.created[:16]}"
            checkpoint.end_work(RunState.ABANDONED, reason, Exit.DONE, clean=True)
            raise NotFoundError(f"run {record.run_id} cannot be resumed: {reason}")
        behind = _unfinished_behind(ledger, entry) if entry is not None else None
        if entry is not None and behind is not None:
            first = next_id(record.run_id)
            checkpoint.end_work(entry.state, "", Exit.DONE, clean=True, successor=first)
            return _go_on_behind(
                job, behind, len(entry.chain), options, state_dir, listener, wait_s, clock
            )
        if entry is not None and entry.state in (RunState.FINISHED, RunState.ABANDONED):
            who = entry.holder.who if entry.holder else "another runner"
            checkpoint.end_work(entry.state, f"ended by {who}", Exit.DONE, clean=True)
            raise NotFoundError(
                f"run {record.run_id} is {entry.state.value} ({who}), there is nothing to resume"
            )
        if entry is None:
            ledger.release(record.identity, record.run_id)
            entry = _entry_from(checkpoint)
        taken = _take(ledger, entry, checkpoint, job, wait_s, listener, clock)
    report = _work(job, record, checkpoint, taken, options, listener, clock, state_dir)
    links = len(entry.chain)
    return follow(job, report, options, state_dir, listener, wait_s, clock, links=links)


def _unfinished_behind(ledger: Ledger, entry: Entry) -> Entry | None:
    """The run of a chain that is under way behind a finished one. Raises CallError."""
    behind: Entry | None = entry
    while behind is not None and behind.state is RunState.FINISHED:
        behind = ledger.read(next_id(behind.record.run_id))
    return None if behind is None or behind is entry or behind.state.is_over else behind


def _entry_from(checkpoint: Checkpoint) -> Entry:
    """The run record, when it is not in Datastore (any more): made again from the file."""
    shards = checkpoint.shards() or [Shard(1)]
    return Entry(
        checkpoint.record,
        RunState.RUNNING,
        generation=checkpoint.generation,
        shards=tuple(Shard(s.id, s.start, s.end, low_cursor=s.start) for s in shards),
        next_shard=max(checkpoint.next_shard, 1 + max(s.id for s in shards)),
    )


# --- the door for Python ---


def run(
    updater: str | type[Updater] | Callable[..., Any],
    *,
    params: Mapping[str, Any] | None = None,
    project: str | None = None,
    database: str | None = None,
    namespace: str | None = None,
    local: str | None = None,
    state_dir: str | Path = DEFAULT_STATE_DIR,
    dry_run: bool = False,
    batch_size: int | None = None,
    in_flight: int | None = None,
    max_failures: int | None = None,
    limit: int | None = None,
    shards: int | None = None,
    retry_for_s: float | None = None,
    listener: Listener | None = None,
) -> Report:
    """What `bulkup run` does, from Python: run an updater and return its report.

    `updater` is what the command takes, or the class or decorated function itself. The target is
    found as `google.cloud.datastore.Client()` finds it. Nothing is printed; `listener` gets the
    events. Raises BulkupError when the run cannot begin; how a begun one ended is in the report.
    """
    given = {
        "batch_size": batch_size,
        "in_flight": in_flight,
        "max_failures": max_failures,
        "limit": limit,
        "shards": shards,
        "retry_for_s": retry_for_s,
    }
    options = Options(
        dry_run=dry_run,
        **{k: v for k, v in given.items() if v is not None},  # type: ignore[arg-type]
    )
    where = Where(project, database, namespace, local)
    with prepare(
        updater, params or {}, where, dry_run=dry_run, retry_for_s=options.retry_for_s
    ) as job:
        return start(job, options=options, state_dir=Path(state_dir), listener=listener or _nobody)


def _nobody(event: Event) -> None:
    pass

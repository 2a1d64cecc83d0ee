"""Runs from beginning to end: what `bulkup run`, `bulkup resume` and `bulkup.run` call.

Everything is checked before anything is made: a run whose updater, parameters, query or server is
not right leaves no trace.
"""

from __future__ import annotations

import shlex
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bulkup.clock import Clock
from bulkup.engine.events import Event, Listener, Report
from bulkup.engine.run import Options, Run, clear_leftovers
from bulkup.engine.scan import QueryPlan, plan
from bulkup.engine.stop import StopRequest
from bulkup.errors import BulkupError, MismatchError, NotFoundError, UpdaterError
from bulkup.facts import RunState, TargetInfo
from bulkup.loading import UpdaterSource, describe, load, make
from bulkup.parameters import convert, to_text
from bulkup.state.checkpoint import Checkpoint, RunRecord
from bulkup.state.files import RunLock, find_run, make_run_folder, run_folders
from bulkup.target import Target, resolve
from bulkup.tracebacks import error_line, user_traceback
from bulkup.updater import Updater
from bulkup.wire.client import Wire
from bulkup.wire.explain import explain
from bulkup.wire.retries import CallError, Patience
from bulkup.wire.userclient import ReadOnlyClient

DEFAULT_STATE_DIR = Path(".bulkup")


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
    warnings: list[str] = field(default_factory=list)


@contextmanager
def prepare(
    updater: Any,
    params: Mapping[str, Any],
    where: Where,
    *,
    dry_run: bool = False,
    clock: Clock | None = None,
) -> Iterator[Job]:
    """Load, convert, connect, ask the server once. Raises BulkupError for whatever is wrong."""
    clock = clock or Clock()
    source = load(updater) if isinstance(updater, str) else describe(updater)
    values = convert(source, params)
    made = make(source, values)
    with _opened(where) as target:
        made.client = ReadOnlyClient.like(target.client) if dry_run else target.client
        query = plan(_query_of(made, source), target.client)
        wire = Wire(
            target.client, patience=Patience(), sleep=clock.sleep, monotonic=clock.monotonic
        )
        try:
            _say_hello(wire, query)
            texts = {name: to_text(value) for name, value in values.items()}
            yield Job(source, made, texts, target, wire, query)
        finally:
            wire.close()


@contextmanager
def _opened(where: Where) -> Iterator[Target]:
    if where.local is None:
        yield resolve(where.project, where.database, where.namespace)
        return
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
    except Exception as error:
        raise UpdaterError(
            f"get_query of {source.name} raised {error_line(error)}; nothing was started",
            details=user_traceback(error),
        ) from error


def _say_hello(wire: Wire, query: QueryPlan) -> None:
    """Ask for the first entity: shows that the server answers, lets us in, and can run this."""
    pb = type(query.pb)()
    pb.CopyFrom(query.pb)
    pb.limit.value = 1
    try:
        wire.run_query(pb, query.namespace).result()
    except CallError as error:
        raise explain(error, address=wire.address, project=wire.project, contacted=False) from error


def start(
    job: Job, *, options: Options, state_dir: Path, listener: Listener, clock: Clock | None = None
) -> Report:
    """Begin a new run and work on it to its end. Raises BulkupError when it cannot begin."""
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
        created=clock.now().isoformat(),
    )
    if options.dry_run:
        return _work(job, record, None, options, listener, clock, state_dir)
    folder = make_run_folder(state_dir, record.run_id)
    lock = RunLock(folder)
    lock.acquire()
    try:
        checkpoint = Checkpoint.create(folder, record)
        try:
            _clear_finished_runs(job, state_dir, clock)
            return _work(job, record, checkpoint, options, listener, clock, state_dir)
        finally:
            checkpoint.close()
    finally:
        lock.release()


def _new_run_id(clock: Clock) -> str:
    return f"{clock.now():%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:4]}"


def _work(
    job: Job,
    record: RunRecord,
    checkpoint: Checkpoint | None,
    options: Options,
    listener: Listener,
    clock: Clock,
    state_dir: Path,
) -> Report:
    stop = StopRequest()
    with stop.listening():
        run = Run(
            updater=job.updater,
            wire=job.wire,
            query=job.query,
            record=record,
            checkpoint=checkpoint,
            options=options,
            listener=listener,
            stop=stop,
            clock=clock,
            state_file=str(checkpoint.path) if checkpoint else "",
            next_command=resume_command(record.run_id, state_dir),
        )
        for warning in job.warnings:
            run.warn(warning)
        return run.execute()


def resume_command(run_id: str, state_dir: Path) -> str:
    """What to type to go on with a run."""
    words = ["bulkup", "resume", run_id]
    if state_dir != DEFAULT_STATE_DIR:
        words += ["--state-dir", str(state_dir)]
    return shlex.join(words)


def state_text(checkpoint: Checkpoint) -> str:
    """The state of a run as people say it: one whose runner died is not running."""
    if checkpoint.state is RunState.RUNNING and not RunLock(checkpoint.folder).is_held():
        return "killed"
    return checkpoint.state.value


# --- resuming ---


@contextmanager
def unfinished(state_dir: Path, name: str | None) -> Iterator[Checkpoint]:
    """The run to resume, locked for this process: the one named, or the latest unfinished one.

    Raises NotFoundError when there is nothing to resume, HeldError when somebody works on it.
    """
    folder = find_run(state_dir, name) if name else _latest_unfinished(state_dir)
    lock = RunLock(folder)
    lock.acquire()
    try:
        checkpoint = Checkpoint.open(folder)
        try:
            if checkpoint.state is RunState.FINISHED:
                raise NotFoundError(
                    f"run {folder.name} is finished, there is nothing to resume; "
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
        if state is not RunState.FINISHED:
            return folder
    raise NotFoundError(
        f"there is nothing to resume in {str(state_dir)!r}: every run there is finished, or there "
        "is none; `bulkup run UPDATER` begins one, --state-dir looks elsewhere"
    )


@contextmanager
def prepare_resume(
    checkpoint: Checkpoint,
    where: Where,
    params: Mapping[str, str],
    *,
    clock: Clock | None = None,
) -> Iterator[Job]:
    """Make a run's job again, and make sure that it is the same. Raises MismatchError."""
    record = checkpoint.record
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
    with prepare(record.spec, record.params, asked, clock=clock) as job:
        _same_target(record, job.target.info)
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
    clock: Clock | None = None,
) -> Report:
    """Go on with a run. Its locked checkpoint comes from `unfinished`, its job from
    `prepare_resume`."""
    clock = clock or Clock()
    _clear_finished_runs(job, state_dir, clock)
    return _work(job, checkpoint.record, checkpoint, options, listener, clock, state_dir)


def _clear_finished_runs(job: Job, state_dir: Path, clock: Clock) -> None:
    """Remove the markers that disturbed runs on this target had to leave, once they may go."""
    for folder in run_folders(state_dir):
        try:
            checkpoint = Checkpoint.open(folder, check=False)
        except BulkupError:
            continue  # `bulkup list` shows it as damaged; it must not stop this run
        try:
            ours = checkpoint.record.target == job.target.info
            if ours and checkpoint.state is RunState.FINISHED and checkpoint.leftovers():
                clear_leftovers(job.wire, checkpoint, clock.unix())
        finally:
            checkpoint.close()


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
        "retry_for_s": retry_for_s,
    }
    options = Options(
        dry_run=dry_run,
        **{k: v for k, v in given.items() if v is not None},  # type: ignore[arg-type]
    )
    where = Where(project, database, namespace, local)
    with prepare(updater, params or {}, where, dry_run=dry_run) as job:
        return start(job, options=options, state_dir=Path(state_dir), listener=listener or _nobody)


def _nobody(event: Event) -> None:
    pass

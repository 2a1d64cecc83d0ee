"""Go on with a run of this state directory: what `bulkup resume` calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bulkup.clock import Clock
from bulkup.engine.events import Report
from bulkup.engine.stop import StopRequest
from bulkup.errors import Exit, MismatchError, NotFoundError
from bulkup.facts import Counts, RunState, TargetInfo
from bulkup.following import follow, go_on_behind, unfinished_behind
from bulkup.jobs import Job, Runner, Where, prepare
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.files import find_run, run_folders
from bulkup.state.ledger import Entry, Ledger
from bulkup.state.records import RunRecord, Shard, next_id
from bulkup.target import emulator_host
from bulkup.wire.explain import explained
from bulkup.wire.retries import Patience
from bulkup.working import locked, sweep, take_run, work


@contextmanager
def unfinished(name: str | None, me: Runner) -> Iterator[Checkpoint]:
    """The run to resume, locked for this process: the one named, or the latest unfinished one.

    Raises NotFoundError when there is nothing to resume, HeldError when somebody works on it.
    """
    if name is not None:
        folder = find_run(me.state_dir, name)
    else:
        folder = _latest_unfinished(me.state_dir)
    lock = locked(folder, StopRequest(), me)
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
        if "@" in record.run_id:
            job.warnings.append(
                "this is the run of one of several namespaces: the command that began them goes on "
                "with the others"
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


def resume(job: Job, checkpoint: Checkpoint, me: Runner) -> Report:
    """Go on with a run. Its locked checkpoint comes from `unfinished`, its job from
    `prepare_resume`. Raises HeldError, NotFoundError, TargetError when it cannot."""
    me = replace(me, options=me.options.or_as(checkpoint.asked))
    with job.stop.listening():
        return _resume(job, checkpoint, me)


def _resume(job: Job, checkpoint: Checkpoint, me: Runner) -> Report:
    record = checkpoint.record
    ledger = Ledger(job.wire, job.target.info)
    with explained(job.wire):
        to_sweep = ledger.to_sweep(me.clock.unix())
        entry = ledger.read(record.run_id)  # together with that
        sweep(ledger, job.wire, to_sweep)
        if entry is not None and entry.record.created != record.created:
            reason = f"another run has taken its place, begun on {entry.record.created[:16]}"
            checkpoint.end_work(RunState.ABANDONED, reason, Exit.DONE, clean=True)
            raise NotFoundError(f"run {record.run_id} cannot be resumed: {reason}")
        behind = unfinished_behind(ledger, entry) if entry is not None else None
        if entry is not None and behind is not None:
            first = next_id(record.run_id)
            checkpoint.end_work(entry.state, "", Exit.DONE, clean=True, successor=first)
            return go_on_behind(job, behind, len(entry.chain), me)
        if entry is not None and entry.state in (RunState.FINISHED, RunState.ABANDONED):
            who = entry.holder.who if entry.holder else "another runner"
            checkpoint.end_work(entry.state, f"ended by {who}", Exit.DONE, clean=True)
            raise NotFoundError(
                f"run {record.run_id} is {entry.state.value} ({who}), there is nothing to resume"
            )
        if entry is None:
            ledger.release(record.identity, record.run_id)
            entry = _entry_from(checkpoint)
        taken = take_run(ledger, entry, checkpoint, job, me)
    report = work(job, record, checkpoint, taken, me)
    return follow(job, report, me, links=len(entry.chain))


def _entry_from(checkpoint: Checkpoint) -> Entry:
    """The run record, when it is not in Datastore (any more): made again from the file."""
    shards = checkpoint.shards() or [Shard(1)]
    inside = Counts()
    for shard in shards:
        inside = inside + checkpoint.counts_of(shard.id)
    return Entry(
        checkpoint.record,
        RunState.RUNNING,
        generation=checkpoint.generation,
        shards=tuple(shard.unbegun for shard in shards),
        next_shard=max(checkpoint.next_shard, 1 + max(s.id for s in shards)),
        settled=checkpoint.done() - inside,
    )

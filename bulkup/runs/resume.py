"""Go on with a run of this state directory: what `bulkup resume` calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bulkup.core.clock import Clock
from bulkup.core.errors import Exit, MismatchError, NotFoundError
from bulkup.core.events import Report, Warned, WarningKind
from bulkup.core.model import Counts, RunState, TargetInfo
from bulkup.core.records import RunInfo, Shard, next_id
from bulkup.core.stop import StopRequest
from bulkup.datastore.retry import RetryPolicy
from bulkup.datastore.rpc_errors import explained
from bulkup.datastore.target import emulator_host
from bulkup.runs.chain import follow, go_on_behind, unfinished_behind
from bulkup.runs.execute import locked, sweep, take_run, work
from bulkup.runs.prepare import PreparedRun, RunContext, TargetOptions, prepare
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.files import find_run, run_folders
from bulkup.state.record import Layout, LeaseTerms, RunRecord
from bulkup.state.run_records import Ledger


@contextmanager
def unfinished(name: str | None, context: RunContext) -> Iterator[Checkpoint]:
    """The run to resume, locked for this process: the one named, or the latest unfinished one.

    Raises NotFoundError when there is nothing to resume, HeldError when somebody works on it.
    """
    if name is not None:
        folder = find_run(context.state_dir, name)
    else:
        folder = _latest_unfinished(context.state_dir)
    lock = locked(folder, StopRequest(), context)
    try:
        checkpoint = Checkpoint.open(folder)
        try:
            state = checkpoint.status().state
            if state.is_over:
                raise NotFoundError(
                    f"run {folder.name} is {state.value}, there is nothing to resume; "
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
        state = checkpoint.status().state
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
    where: TargetOptions,
    params: Mapping[str, str],
    *,
    retry_for_s: float = RetryPolicy.retry_for_s,
    clock: Clock | None = None,
) -> Iterator[PreparedRun]:
    """Make a run's job again, and make sure that it is the same. Raises MismatchError."""
    run_info = checkpoint.run_info
    if not (run_info.target.local or where.local):
        # Before a client is made: on the wrong side it would ask for credentials.
        _same_target(run_info, replace(run_info.target, emulator=emulator_host()))
    same = run_info.target
    asked = TargetOptions(
        project=where.project or same.project,
        database=same.database if where.database is None else where.database,
        namespace=same.namespace if where.namespace is None else where.namespace,
        local=where.local or same.local or None,
    )
    for name, text in params.items():
        if run_info.params.get(name) != text:
            was = run_info.params.get(name)
            raise MismatchError(
                f"run {run_info.run_id} has "
                + (f"{name}={was}" if was is not None else f"no parameter {name}")
                + f", not {name}={text}: resume it without -p, or begin a new run"
            )
    with prepare(
        run_info.spec,
        run_info.params,
        asked,
        retry_for_s=retry_for_s,
        check=lambda now: _same_target(run_info, now),
        clock=clock,
    ) as prepared:
        if prepared.query.fingerprint(prepared.target.info) != run_info.fingerprint:
            raise MismatchError(
                f"the query of {run_info.updater} is not the one that run {run_info.run_id} began "
                "with: restore it (a value that changes, such as the time, belongs into a "
                "parameter), or begin a new run"
            )
        if "@" in run_info.run_id:
            prepared.warnings.append(
                Warned(
                    "this is the run of one of several namespaces: the command that began them "
                    "goes on with the others"
                )
            )
        if prepared.source.checksum != run_info.checksum:
            message = (
                f"{run_info.source_path} has changed since run {run_info.run_id} began; entities "
                "handled from now on get the new code"
            )
            prepared.warnings.append(Warned(message, WarningKind.CODE_CHANGED))
        yield prepared


def _same_target(run_info: RunInfo, now: TargetInfo) -> None:
    if now == run_info.target:
        return
    if now.emulator != run_info.target.emulator:
        was = run_info.target.emulator
        what = f"DATASTORE_EMULATOR_HOST={was}" if was else "without DATASTORE_EMULATOR_HOST"
        raise MismatchError(
            f"run {run_info.run_id} is on {run_info.target}, and the environment now means {now}: "
            f"resume it {'with ' if was else ''}{what}, or begin a new run"
        )
    raise MismatchError(
        f"run {run_info.run_id} is on {run_info.target}, not on {now}: resume it without "
        "--project, --database, --namespace and --local, or begin a new run"
    )


def resume(prepared: PreparedRun, checkpoint: Checkpoint, context: RunContext) -> Report:
    """Go on with a run. Its locked checkpoint comes from `unfinished`, its job from
    `prepare_resume`. Raises HeldError, NotFoundError, TargetError when it cannot."""
    context = replace(context, options=context.options.or_as(checkpoint.status().asked))
    with prepared.stop.listening():
        return _resume(prepared, checkpoint, context)


def _resume(prepared: PreparedRun, checkpoint: Checkpoint, context: RunContext) -> Report:
    run_info = checkpoint.run_info
    ledger = Ledger(prepared.rpc, prepared.target.info)
    with explained(prepared.rpc):
        to_sweep = ledger.to_sweep(context.clock.unix())
        record = ledger.read(run_info.run_id)  # together with that
        sweep(ledger, prepared.rpc, to_sweep)
        if record is not None and record.run_info.created != run_info.created:
            reason = f"another run has taken its place, begun on {record.run_info.created[:16]}"
            checkpoint.end_work(RunState.ABANDONED, reason, Exit.DONE, clean=True)
            raise NotFoundError(f"run {run_info.run_id} cannot be resumed: {reason}")
        behind = unfinished_behind(ledger, record) if record is not None else None
        if record is not None and behind is not None:
            first = next_id(run_info.run_id)
            checkpoint.end_work(record.state, "", Exit.DONE, clean=True, successor=first)
            return go_on_behind(prepared, behind, len(record.chain.links), context)
        if record is not None and record.state in (RunState.FINISHED, RunState.ABANDONED):
            holder = record.lease.holder
            who = holder.who if holder else "another runner"
            checkpoint.end_work(record.state, f"ended by {who}", Exit.DONE, clean=True)
            raise NotFoundError(
                f"run {run_info.run_id} is {record.state.value} ({who}), there is nothing to resume"
            )
        if record is None:
            ledger.release(run_info.identity, run_info.run_id)
            record = _record_from(checkpoint)
        taken = take_run(ledger, record, checkpoint, prepared, context)
    report = work(prepared, run_info, checkpoint, taken, context)
    return follow(prepared, report, context, links=len(record.chain.links))


def _record_from(checkpoint: Checkpoint) -> RunRecord:
    """The run record, when it is not in Datastore (any more): made again from the file."""
    shards = checkpoint.shards() or [Shard(1)]
    inside = Counts()
    for shard in shards:
        inside = inside + checkpoint.counts_of(shard.id)
    return RunRecord(
        checkpoint.run_info,
        RunState.RUNNING,
        lease=LeaseTerms(generation=checkpoint.status().generation),
        layout=Layout(
            shards=tuple(shard.unbegun for shard in shards),
            next_shard=max(checkpoint.next_shard(), 1 + max(s.id for s in shards)),
            settled=checkpoint.done() - inside,
        ),
    )

"""Execute a run: bind what was prepared and acquired to the engine, and let it work to the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext

from bulkup.core.errors import BulkupError
from bulkup.core.events import Listener, Report, Warned
from bulkup.core.records import RunInfo
from bulkup.core.spans import observed_by
from bulkup.datastore.call_error import CallError
from bulkup.engine.checks import check_before
from bulkup.engine.event_log import both
from bulkup.engine.execution import Execution
from bulkup.engine.key_scan import KeyPlan, KeySampling
from bulkup.engine.options import AUTO_SHARDS
from bulkup.engine.pool.pool import FIRST_CHUNK, ROUNDS, WorkerPool
from bulkup.engine.pool.protocol import WorkerSetup
from bulkup.engine.splits import Sampling, why_not_split
from bulkup.engine.task import Surroundings, TakenRun, Task
from bulkup.runs.acquire import acquire_lease, open_checkpoint
from bulkup.runs.passes import as_pass, passes_of, why_not_clean
from bulkup.runs.prepare import PreparedRun
from bulkup.runs.successor import foretell_successor, successor_record
from bulkup.runs.telemetry import Telemetry, telemetry_of
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.display import continue_command, retry_command
from bulkup.state.record import RunRecord
from bulkup.state.run_log import RunLog
from bulkup.state.timeline import Timeline
from bulkup.state.unreported import reported


def acquire_and_execute(prepared: PreparedRun, record: RunRecord) -> Report:
    """Acquire the run of a record, new or unfinished, and execute it.

    Raises HeldError, StopAskedError; NotFoundError when another process has just ended the run.
    """
    with open_checkpoint(record.run_info, prepared) as checkpoint:
        held = acquire_lease(prepared, record, checkpoint)
        return execute(prepared, checkpoint, held, request_sample(prepared))


def execute(
    prepared: PreparedRun,
    checkpoint: Checkpoint,
    held: RunRecord,
    sampling: Sampling | KeySampling | None,
    *,
    began: float | None = None,
) -> Report:
    """Execute a run that this process has acquired. `sampling`: from `request_sample`. `began`: see
    `TakenRun`."""
    _warn_of_dropped(prepared, checkpoint)
    context, run_info = prepared.context, checkpoint.run_info
    prepared = as_pass(prepared, run_info)

    taken = TakenRun(
        checkpoint,
        prepared.ledger,
        held,
        lambda: context.command_to_resume(run_info.run_id),
        begin_successor=lambda record: successor_record(prepared, record),
        retry_command=""
        if prepared.source.only_here
        else retry_command(run_info, context.typed_state_dir, context.repeated),
        why_not_clean=lambda counts: why_not_clean(passes_of(context, held), counts),
        continue_command=continue_command(run_info.run_id, context.typed_state_dir),
        state_file=context.shown(checkpoint.path),
        began=began,
    )
    workers = _worker_pool(prepared) if context.options.processes > 1 else None
    holder = held.lease.holder
    log = RunLog(checkpoint.folder, held.lease.generation, who=holder.who if holder else "")
    timeline = Timeline(checkpoint.folder, held.lease.generation)
    with closing(log), closing(timeline):
        listener = both(both(log, timeline), context.listener)
        with _prepared_execution(
            prepared, run_info, taken, listener, workers=workers, sampling=sampling
        ) as execution:
            log.on_loss = timeline.on_loss = execution.warn
            report = execution.execute()
    if report.success:
        _spend_approval(prepared, held)
        if not context.reports_itself:
            reported(checkpoint.folder)
    return report


def _warn_of_dropped(prepared: PreparedRun, checkpoint: Checkpoint) -> None:
    """Warn if the run was limited to certain times, and this command lacks the options for that."""
    dropped = prepared.context.options.dropped_when(checkpoint.status().asked)
    if not dropped:
        return
    names = " and ".join(f"--{name.replace('_', '-')}" for name in dropped)
    run_id = checkpoint.run_info.run_id
    prepared.warnings.append(
        Warned(
            f"this command has no {names}, which the run had until now, so it works without; to "
            f"keep {'it' if len(dropped) == 1 else 'them'}, stop it and use `bulkup resume "
            f"{run_id}`"
        )
    )


def _spend_approval(prepared: PreparedRun, held: RunRecord) -> None:
    """Mark the approved plan as used: it is for one run, which is finished."""
    plan = held.plan
    if plan is None or not plan.approved_by:
        return
    why = f"was carried out by run {held.run_info.run_id}"
    try:
        prepared.ledger.approvals().spend(plan.identity, why, plan_id=plan.plan_id)
    except (CallError, BulkupError) as error:
        prepared.context.listener(
            Warned(
                f"the run is finished, but its approval could not be marked as used ({error}): "
                "whoever runs it again is held to the same plan"
            )
        )


def execute_dry_run(prepared: PreparedRun, run_info: RunInfo) -> Report:
    """Handle every entity and write nothing, neither in Datastore nor in the state directory.

    Raises UpdaterError when the updater's `check_before` does not hold.
    """
    check_before(prepared.updater, prepared.source.name, prepared.rpc)
    if prepared.context.options.processes > 1:
        message = "a dry run ignores --processes and handles all entities in this process"
        prepared.warnings.append(Warned(message))
    with _prepared_execution(prepared, run_info, None, prepared.context.listener) as execution:
        return execution.execute()


@contextmanager
def _prepared_execution(
    prepared: PreparedRun,
    run_info: RunInfo,
    taken: TakenRun | None,
    listener: Listener,
    *,
    workers: WorkerPool | None = None,
    sampling: Sampling | KeySampling | None = None,
) -> Iterator[Execution]:
    """The execution of a run, or of a dry run if `taken` is None. It is traced if that was asked
    for."""
    context = prepared.context
    observer = context.observer
    running: AbstractContextManager[None] = nullcontext()
    if telemetry := _telemetry(prepared, run_info):
        listener, running = both(telemetry.event, listener), telemetry.running()
        observer = observed_by(telemetry.span, observer)
    with running:
        execution = Execution(
            Task(
                prepared.updater,
                prepared.query,
                prepared.rpc,
                run_info,
                prepared.first_entity_bytes,
                prepared.nothing_there,
            ),
            Surroundings(
                context.options, listener, context.stop, context.clock, context.carried, observer
            ),
            taken,
            workers=workers,
            sampling=sampling,
        )
        for warning in (*prepared.warnings, *foretell_successor(prepared)):
            execution.warn(warning.message, warning.kind)
        yield execution


def _telemetry(prepared: PreparedRun, run_info: RunInfo) -> Telemetry | None:
    kinds = [str(kind.name) for kind in prepared.query.pb.kind]
    return telemetry_of(
        run_info,
        prepared.rpc.address,
        kinds[0] if len(kinds) == 1 else "",
        monotonic=prepared.context.clock.monotonic,
    )


def request_sample(prepared: PreparedRun) -> Sampling | KeySampling | None:
    """Ask Datastore where to split the query into shards. Returns None if it is not to be split.

    This may be called before this process holds the run: a sample only proposes where to split, so
    an old one does no harm.
    """
    query, shards = prepared.query, prepared.context.options.shards
    if isinstance(query, KeyPlan) and query.list is not None:
        shards = shards or (AUTO_SHARDS if prepared.target.info.is_real else 1)
        return KeySampling(query.list, shards) if shards > 1 else None
    reason = why_not_split(query)
    if reason is None:
        shards = shards or (AUTO_SHARDS if prepared.target.info.is_real else 1)
        return Sampling(prepared.rpc, query, shards) if shards > 1 else None
    if shards is not None and shards > 1:
        prepared.warnings.append(Warned(f"the query is not split into shards: {reason}"))
    return None


def _worker_pool(prepared: PreparedRun) -> WorkerPool:
    options = prepared.context.options
    setup = WorkerSetup(
        spec=prepared.source.spec,
        checksum=prepared.source.checksum,
        params=prepared.params,
        target=prepared.target.info,
        address=None if prepared.target.info.is_real else prepared.rpc.address,
        query=prepared.query,
        retry_for_s=options.retry_for_s,
        keeps_images=not options.no_undo,
    )
    updater, least_chunk = prepared.updater, FIRST_CHUNK
    if updater._form == "handle_batch":
        least_chunk = options.batch_size
    elif updater._is_async:
        least_chunk = min(options.batch_size, ROUNDS * updater.concurrency)
    return WorkerPool(
        options.processes, setup, prepared.rpc, prepared.context.started_in,
        least_chunk=least_chunk,
    )  # fmt: skip

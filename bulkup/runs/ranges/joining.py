"""Joins a run that is cut into ranges."""

from __future__ import annotations

from dataclasses import replace

from bulkup.core.errors import NotFoundError, StateError
from bulkup.core.model import RunState
from bulkup.runs.acquire import check_same_identity
from bulkup.runs.prepare import PreparedRun
from bulkup.runs.steered_start import steering_of_runner
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.ranges import change_record
from bulkup.state.record import RunRecord


def join(prepared: PreparedRun, record: RunRecord, checkpoint: Checkpoint) -> RunRecord:
    """Take part in a run: lift an earlier stop, and apply this command's options for speed and
    failures to all workers. Returns the run's record.

    Raises NotFoundError when the run is over, MismatchError, StateError, CallError.
    """
    run_id = record.run_info.run_id
    check_same_identity(record, prepared.identity)
    made_at, created = record.made.record_ns, record.created_ns
    if made_at and created not in (0, made_at):
        raise StateError(
            f"run {run_id} cannot be resumed in a copy of its Datastore: all entities were created "
            "anew there, so bulkup cannot tell which of them the run made. To handle all entities, "
            "start a new run (--new)"
        )

    def joined(there: RunRecord) -> RunRecord:
        plan, context = there.ranges, prepared.context
        assert plan is not None
        typed, options = context.typed_options, context.options
        if "max_failures" in typed and options.max_failures is not None:
            plan = replace(plan, max_failures=str(options.max_failures))
        if "max_rate" in typed:
            plan = replace(plan, max_rate=str(options.max_rate))
        return replace(
            there,
            ranges=replace(plan, stop=None),
            state=RunState.RUNNING,
            reason=None,
            ended=0,
            steering=steering_of_runner(context, checkpoint.folder, there),
        )

    there = change_record(prepared.ledger, run_id, joined)
    if there is None or there.state.is_over:
        state = there.state.value if there is not None else "gone"
        raise NotFoundError(f"run {run_id} has just ended ({state}); there is nothing left to do")
    checkpoint.begin_work(
        (),
        max(there.lease.generation, 1),
        max_failures=0,
        asked=prepared.context.options.asked(),
        gate=there.gate,
    )
    return there

"""Plan a run: what it would do, what it would cost, how long it would take. Writes nothing, neither
in Datastore nor in the state directory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from bulkup.core.clock import rough_age
from bulkup.core.events import RunStarted
from bulkup.core.max_failures import MaxFailures
from bulkup.core.plan import (
    Bill,
    Estimate,
    Forecast,
    Hazard,
    Plan,
    Planned,
    PlannedWork,
    PlanWarning,
)
from bulkup.engine.batches import MAX_BATCH_SIZE
from bulkup.engine.checks import objection
from bulkup.engine.planning.planner import EveryWrite, Findings, PlannedTask, Planner
from bulkup.engine.task import NOTHING_FOUND, Surroundings
from bulkup.engine.throttle.ramp import ramp_seconds
from bulkup.runs.done_before import find_done
from bulkup.runs.missing_kind import check_kind
from bulkup.runs.plan_file import PlanWriter
from bulkup.runs.planned_work import planned_work
from bulkup.runs.prepare import PreparedRun
from bulkup.runs.prices import Prices, bill, prices_for
from bulkup.runs.successor import foretell_successor

DEFAULT_SAMPLE = 1000


@dataclass(frozen=True)
class PlanRequest:
    sample: int | None = DEFAULT_SAMPLE
    """How many entities to handle; None: all."""
    out: Path | None = None
    """The file for the plan with every write; None: the plan is not saved."""
    prices: Prices = field(default_factory=prices_for)
    seed: int = 0
    """The seed for what is drawn at random."""


def make_plan(prepared: PreparedRun, request: PlanRequest) -> Plan:
    """Plan what `start` would do with the same prepared run. The last event is Planned.

    Raises BulkupError, CallError.
    """
    context = prepared.context
    context.listener(
        RunStarted(
            "", prepared.source.name, prepared.source.description, prepared.target.info,
            prepared.params, dry_run=True, planned=True, selection=prepared.selection,
            query=prepared.shown_query,
        )
    )  # fmt: skip
    work = planned_work(prepared)  # identifies the code before it is called
    earlier = list(_earlier_runs(prepared))
    check_kind(prepared)
    with (
        context.stop.listening(),
        PlanWriter(request.out) if request.out is not None else nullcontext() as writer,
    ):
        planner = Planner(
            PlannedTask(
                prepared.updater,
                prepared.query,
                prepared.rpc,
                prepared.target.info,
                prepared.first_entity_bytes,
                request.sample,
                request.seed,
            ),
            Surroundings(context.options, context.listener, context.stop, context.clock),
            None if writer is None else EveryWrite(writer.change, writer.failure),
        )
        plan = _plan(prepared, planner.plan(), request, earlier, work)
        if writer is not None:
            writer.finish(plan)
    context.listener(Planned(plan))
    return plan


def _earlier_runs(prepared: PreparedRun) -> Iterator[PlanWarning]:
    """Warnings about runs of the same work, which change what a run would do. Raises CallError."""
    ledger = prepared.ledger
    run_info = prepared.new_run_info(None, prepared.identity)
    finished = ledger.finished_runs_of(run_info.identity)
    unfinished = ledger.unfinished(run_info.identity)
    if unfinished is not None:
        yield PlanWarning(
            Hazard.UNFINISHED_RUN,
            f"run {unfinished.run_info.run_id} is unfinished: `bulkup run` resumes it "
            "after the entities that are done, and this plan is about all of them",
        )
    elif done := find_done(ledger, finished, run_info):
        yield PlanWarning(
            Hazard.DONE_BEFORE,
            f"run {done.run_id} finished the same work {rough_age(done.ago_s)} ago "
            f"({done.counts.handled:,} entities); a run handles all of them again",
        )


def _plan(
    prepared: PreparedRun,
    findings: Findings,
    request: PlanRequest,
    earlier: list[PlanWarning],
    work: PlannedWork,
) -> Plan:
    warnings = [
        *earlier,
        *(PlanWarning(Hazard.OTHER, warned.message) for warned in prepared.warnings),
        *(PlanWarning(Hazard.SUCCESSOR, one.message) for one in foretell_successor(prepared)),
        *_warnings(prepared, findings),
        *findings.warnings,
    ]
    return Plan(
        work=work,
        drawn=findings.drawn,
        handled=findings.handled,
        total=findings.matching_is,
        predicted=findings.predicted,
        kinds=findings.kinds.most_frequent(findings.handled, findings.matching),
        more_kinds=findings.kinds.left_out(),
        failure_groups=findings.failures.largest_first(),
        other_failures=findings.failures.others,
        bill=_bill(prepared, findings, request.prices),
        forecast=forecast(findings.matching, findings.speed, ramps=prepared.target.info.is_real),
        round_trip_s=findings.round_trip_s,
        warnings=tuple(warnings),
    )


def _warnings(prepared: PreparedRun, findings: Findings) -> Iterator[PlanWarning]:
    unmet = objection(prepared.updater, "check_before", prepared.rpc)
    if unmet is not None:
        message = (
            f"check_before of {prepared.source.name} {unmet[0]}; until it holds, no run starts"
        )
        yield PlanWarning(Hazard.OTHER, message)
    if not findings.handled:
        yield PlanWarning(Hazard.EMPTY_QUERY, prepared.nothing_there or NOTHING_FOUND)
    limit = MaxFailures.of(prepared.updater.max_failures)
    total, failing = findings.predicted.handled.count, findings.predicted.failed.count
    allowed = limit.allowed(total, total)
    if findings.counts.failed and 0 <= allowed < failing:
        at = "the first failure" if not allowed else f"failure {allowed + 1:,}"
        yield PlanWarning(
            Hazard.FAILURES,
            f"a run stops at {at} (max_failures is {limit}): fix the updater, or allow as many "
            "with --max-failures",
        )


def _bill(prepared: PreparedRun, findings: Findings, prices: Prices) -> Bill:
    """The cost of a run's operations: of its query, its handlers and its writes, and of bulkup's
    own marker for each batch, which is written and deleted again."""
    predicted, nothing = findings.predicted, Estimate.exact(0)
    keys_only = prepared.query.keys_only
    batches = Estimate.exact(math.ceil(findings.matching / MAX_BATCH_SIZE))
    return bill(
        prices,
        reads=_sum(nothing if keys_only else predicted.handled, findings.reads),
        writes=_sum(predicted.written, predicted.other_written, batches),
        deletes=_sum(predicted.deleted, predicted.other_deleted, batches),
        small=_sum(predicted.handled if keys_only else nothing, predicted.created),
    )


def _sum(*estimates: Estimate) -> Estimate:
    """The sum of estimates. Adding the bounds gives an interval that may be wider than necessary,
    but is never too narrow."""
    return Estimate(
        sum(one.count for one in estimates),
        sum(one.low for one in estimates),
        sum(one.high for one in estimates),
    )


def forecast(entities: int, speed: float, *, ramps: bool) -> Forecast | None:
    """The least time that a run over this many entities takes; None if there is nothing to do.

    `speed`: entities read and handled per second. `ramps`: the target is a real project.
    """
    if not speed:
        return None
    seconds, ramp_s = entities / speed, ramp_seconds(entities, math.inf)
    with_ramp = ramp_seconds(entities, speed)
    if ramps and with_ramp > seconds:
        return Forecast(with_ramp, "ramp-up", speed, ramp_s)
    return Forecast(seconds, "speed", speed, ramp_s)

"""Builds the report of a run from its checkpoint or, for a dry run, from its events."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from itertools import islice

from bulkup.core.events import Report
from bulkup.core.failure_groups import FailureGroups
from bulkup.core.model import Counts, RunState
from bulkup.core.operations import OperationCounts, Operations
from bulkup.core.plan_terms import MaxDrift, PlanOutcome
from bulkup.core.records import RunInfo, predecessor_of
from bulkup.datastore.rpc import Rpc
from bulkup.engine.drift import plan_outcome
from bulkup.engine.event_log import SHOWN_FAILURES, SHOWN_LOG_LINES, EventLog
from bulkup.engine.outcomes import Outcome, final_exit
from bulkup.state.checkpoint import Checkpoint


def stored_report(
    checkpoint: Checkpoint,
    *,
    next_command: str = "",
    retry_command: str = "",
    shown: int = SHOWN_FAILURES,
) -> Report:
    """What the checkpoint knows of a run, with its first `shown` failures.

    The runner may be alive, dead or done. `next_command` resumes the run, and `retry_command`
    handles its failed entities again once it is finished.
    """
    run_info, status = checkpoint.run_info, checkpoint.status()
    groups = FailureGroups(checkpoint.failures())
    started = datetime.fromisoformat(run_info.created)
    ended = datetime.fromisoformat(status.ended) if status.ended else started
    return Report(
        run_id=run_info.run_id,
        updater=run_info.updater,
        description=run_info.description,
        target=run_info.target,
        params=run_info.params,
        dry_run=False,
        state=status.state,
        reason=status.reason or "",
        exit_code=status.exit_code,
        counts=checkpoint.counts(),
        total=status.total,
        started=started,
        ended=ended,
        elapsed_s=(ended - started).total_seconds() if status.took_s is None else status.took_s,
        retries=0,
        failures=tuple(islice(checkpoint.failures(), shown)),
        failure_groups=groups.largest_first(),
        other_failures=groups.others,
        log_lines=tuple(islice(checkpoint.log_lines(), SHOWN_LOG_LINES)),
        log_total=checkpoint.log_total(),
        state_file=str(checkpoint.path),
        next_command=_next(checkpoint, status.state, next_command, retry_command),
        runners=status.runners,
        max_failures=status.max_failures,
        over_budget=status.over_budget,
        not_done=checkpoint.not_done().handled,
        only_end_left=checkpoint.only_end_left(),
        predecessor=predecessor_of(run_info.run_id),
        successor=status.successor or "",
        retry_of=run_info.retry_of,
        retried_by=tuple(checkpoint.retries()),
        retried=checkpoint.retried(),
        gate=status.gate,
        passes=run_info.passes,
        selection=run_info.selection,
        plan=_plan(checkpoint, status.state, status.reason or ""),
    )


def _plan(checkpoint: Checkpoint, state: RunState, reason: str) -> PlanOutcome | None:
    status = checkpoint.status()
    max_drift = status.asked.get("max_drift")
    most = MaxDrift() if max_drift is None else MaxDrift.parse(max_drift)
    is_repeated = checkpoint.run_info.is_repeated
    return plan_outcome(
        status.plan, checkpoint.counts(), most, state, reason, is_repeated=is_repeated
    )


def _next(checkpoint: Checkpoint, state: RunState, resume: str, retry: str) -> str:
    if state is not RunState.FINISHED:
        return resume
    return retry if checkpoint.has_failures_to_retry() else ""


def report_of_end(
    checkpoint: Checkpoint, outcome: Outcome, *, next_command: str, retry_command: str
) -> Report:
    """The report of a runner that ends now. Its end is not in the checkpoint yet."""
    report = stored_report(checkpoint)
    return replace(
        report,
        state=outcome.state,
        reason=outcome.reason,
        exit_code=final_exit(outcome.state, outcome.exit_code, report.counts.failed),
        next_command=_next(checkpoint, outcome.state, next_command, retry_command),
        over_budget=outcome.over_budget,
        successor="",
        plan=_plan(checkpoint, outcome.state, outcome.reason),
        only_end_left=report.only_end_left and outcome.state is not RunState.FINISHED,
    )


def operations_of(rpc: Rpc, counts: Counts) -> OperationCounts:
    """Operations predicted for what this process handled, and those that its connection counted."""
    predicted = Operations(reads=counts.handled, writes=counts.puts, deletes=counts.deletes)
    return OperationCounts(predicted, rpc.meter.operations())


def dry_report(
    run_info: RunInfo,
    event_log: EventLog,
    counts: Counts,
    outcome: Outcome,
    *,
    started: datetime,
    max_failures: int,
) -> Report:
    """The report of a dry run, which has no checkpoint."""
    return Report(
        run_id=run_info.run_id,
        updater=run_info.updater,
        description=run_info.description,
        target=run_info.target,
        params=run_info.params,
        dry_run=True,
        state=outcome.state,
        reason=outcome.reason,
        exit_code=final_exit(outcome.state, outcome.exit_code, counts.failed),
        counts=counts,
        total=None,
        started=started,
        ended=started,
        elapsed_s=0.0,
        retries=0,
        failures=tuple(event_log.failures),
        failure_groups=event_log.groups.largest_first(),
        other_failures=event_log.groups.others,
        log_lines=tuple(event_log.log_lines),
        log_total=event_log.log_total,
        max_failures=max_failures,
        over_budget=outcome.over_budget,
        selection=run_info.selection,
    )

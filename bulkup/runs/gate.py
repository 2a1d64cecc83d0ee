"""What comes before the first write of a run: its updater's `check_before` and, with
`--gate clean`, a dry pass over every entity.

Both come before the run record is written. So a run that has had a runner has passed them, and
resuming it repeats neither. A gate that stays closed leaves no trace, except for a successor, whose
record already exists: it waits, and the next command tries again.
"""

from __future__ import annotations

from dataclasses import replace

from bulkup.core.errors import Exit, MismatchError
from bulkup.core.events import (
    OF_CODE,
    Event,
    GatePassed,
    GroupEnded,
    Report,
    RunEnded,
    Warned,
    WarningKind,
    WouldChange,
)
from bulkup.core.model import GateResult, RunState
from bulkup.core.records import first_id
from bulkup.datastore.containment import contained
from bulkup.datastore.user_client import ReadOnlyClient
from bulkup.engine.checks import check_before, has_check
from bulkup.runs import plan_check
from bulkup.runs.context import RunContext
from bulkup.runs.execute import execute_dry_run
from bulkup.runs.plan_check import with_plan
from bulkup.runs.prepare import PreparedRun, checked_query, with_parameters
from bulkup.state.display import resume_command
from bulkup.state.record import RunRecord


def open_gate(prepared: PreparedRun, record: RunRecord) -> RunRecord | Report:
    """Do what must come before the first write of the record's run, whether it is new or resumed.

    Returns the record to acquire, or the report of a dry pass that was not clean. Raises
    UpdaterError when `check_before` does not hold, and what `with_plan` and `check_begun` raise.
    """
    context = prepared.context
    if record.lease.generation:
        check_begun(prepared, record)
        return record
    record = with_plan(prepared, record)
    if not (context.gate or record.gate is not None):
        _check_before(prepared)
        return record
    gate = prepared.gate
    if gate is None:
        started = context.clock.monotonic()
        report, gate = _dry_pass(prepared, record)
        if not gate.passed:
            report = replace(report, next_command=_next_command(context, record))
            context.listener(RunEnded(report))
            return report
        options = context.options
        if options.max_time_s is not None:
            left = options.max_time_s - (context.clock.monotonic() - started)
            prepared.context = replace(context, options=replace(options, max_time_s=max(left, 0.0)))
        context.listener(GatePassed(gate))
    _check_before(prepared)  # the pass may have taken hours
    return replace(record, gate=gate)


def check_begun(prepared: PreparedRun, record: RunRecord) -> None:
    """Check that this command may resume a run that has begun. Raises MismatchError when a gate or
    a plan is asked for and the run began without it; ApprovalError."""
    plan_check.check_begun(prepared, record)
    if not prepared.context.gate or record.gate is not None:
        return
    run_info, migration = record.run_info, record.migration
    if migration is not None:
        name = migration.name
        instead = f"apply it from the start (`bulkup mark {name} --pending`)"
    else:
        name, instead = f"run {run_info.run_id}", "start a new run (--new)"
    raise MismatchError(
        f"{name} was started without --gate clean, and may have written already; resume it "
        f"without --gate, or {instead}"
    )


def _next_command(context: RunContext, record: RunRecord) -> str:
    """The command that tries again after a gate stayed closed; empty for a new run, for which the
    same command is repeated."""
    if context.resume_command is not None:
        return context.resume_command()
    if not record.version:
        return ""
    return resume_command(
        first_id(record.run_info.run_id), context.typed_state_dir, context.repeated
    )


def _check_before(prepared: PreparedRun) -> None:
    check_before(prepared.updater, prepared.source.name, prepared.rpc)
    prepared.context.stop.raise_if_asked()


def _dry_pass(prepared: PreparedRun, record: RunRecord) -> tuple[Report, GateResult]:
    """Handle every entity with a second instance of the updater, so that the run's own instance
    stays unused."""
    context, rpc, source = prepared.context, prepared.rpc, prepared.source
    quiet = replace(
        context,
        options=replace(context.options, dry_run=True, gate_pass=True, limit=None, processes=1),
        listener=lambda event: None if is_of_pass_alone(event) else context.listener(event),
    )
    with contained(quiet.containment(prepared.target)):
        updater = with_parameters(source, prepared.params).create()
        updater.client = ReadOnlyClient.over(rpc, prepared.target.client)
        # get_query may set what the handler needs.
        checked_query(updater, source, prepared.target, prepared.selection)
        copy = replace(prepared, updater=updater, context=quiet, warnings=[], own_links=set())
        on_tick, on_retry = rpc.on_tick, rpc.on_retry
        try:
            report = execute_dry_run(copy, record.run_info)
        finally:
            rpc.on_tick, rpc.on_retry = on_tick, on_retry
    return judged(report, checked=has_check(updater, "check_before"))


def is_of_pass_alone(event: Event) -> bool:
    """Whether an event of the dry pass is not passed on, because the run reports it itself or in
    another way."""
    if isinstance(event, Warned):
        return event.kind in (WarningKind.EMPTY_QUERY, WarningKind.SUCCESSOR, *OF_CODE)
    return isinstance(event, (WouldChange, RunEnded, GroupEnded))


def judged(report: Report, *, checked: bool) -> tuple[Report, GateResult]:
    """The report of a dry pass with its gate result, and the gate result alone."""
    counts = report.counts
    passed = report.state is RunState.FINISHED and not counts.failed
    gate = GateResult(passed, counts, report.elapsed_s, checked)
    if passed:
        return replace(report, gate=gate), gate
    state, reason, exit_code = report.state, report.reason, report.exit_code
    if state is RunState.FINISHED:  # with failures within the budget
        one = counts.failed == 1
        reason = f"{counts.failed:,} {'entity' if one else 'entities'} would fail"
        state, exit_code = RunState.FAILED, Exit.FAILED
    elif state is RunState.STOPPED:
        exit_code = Exit.LIMIT
    reason += " (in the dry pass of --gate clean, so nothing was written)"
    report = replace(report, state=state, reason=reason, exit_code=exit_code, gate=gate)
    return report, gate

"""Checks that a run that carries out a plan does what was planned, and that it may begin.

The plan is the file given by `--plan` or, on a target that asks for approval, the approved plan for
this work in the target's ledger. The terms of the plan are stored in the run's record, so whoever
resumes the run is held to them, too.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timezone

from bulkup.authoring.updater import Updater
from bulkup.core.errors import ApprovalError, MismatchError
from bulkup.core.model import TargetInfo
from bulkup.core.plan_terms import WATCHED, PlanTerms
from bulkup.core.selection import Selection
from bulkup.core.visible import assignment
from bulkup.runs.context import RunContext
from bulkup.runs.plan_file import PlanFile
from bulkup.runs.planned_work import planned_work
from bulkup.runs.prepare import PreparedRun
from bulkup.state.approvals import Approval
from bulkup.state.record import RunRecord


def terms_of(file: PlanFile) -> PlanTerms:
    """The terms that a run that carries out this plan is held to."""
    predicted = dict(file.plan.predicted.named())
    ranges = {name: (predicted[name].low, predicted[name].high) for name in WATCHED}
    work = file.plan.work
    return PlanTerms(file.plan_id, work.code, work.identity, ranges)


def asks_for_approval(context: RunContext, updater: Updater, target: TargetInfo) -> str | None:
    """The target's name, such as `target prod`, if a run of this updater there must have an
    approved plan; otherwise None.

    The updaters in this package, such as that of `bulkup undo`, need no approval: they only put
    back what was there, and nobody should have to wait for that.
    """
    if type(updater).__module__.startswith(f"{__package__}."):
        return None
    return context.asks_for_approval(target)


def with_plan(prepared: PreparedRun, record: RunRecord) -> RunRecord:
    """The record of a run that is about to begin, with the plan that it carries out.

    Raises MismatchError when it is not what was planned, ApprovalError when its target asks for an
    approved plan and there is none, StateError, CallError.
    """
    context = prepared.context
    asks = asks_for_approval(context, prepared.updater, prepared.target.info)
    terms = record.plan if record.run_info.is_repeated else None
    if terms is not None and (asks is None or terms.approved_by):
        check_code(prepared, record)  # a further pass of what was planned
        return record
    if asks is not None and prepared.query.digest:
        raise ApprovalError(
            f"{asks} asks for an approved plan, and a run on a list of keys has none; plan the "
            "updater, and run it on its query"
        )
    file = context.plan
    if file is not None and (record.chain.links or record.migration is not None):
        file = None  # it is for the first run of a chain
    if file is not None:
        check_planned(prepared, file)
    if asks is None:
        return record if file is None else replace(record, plan=terms_of(file))
    approval = prepared.ledger.approvals().read(prepared.identity)
    return replace(record, plan=_approved(prepared, approval, file, asks))


def check_begun(prepared: PreparedRun, record: RunRecord) -> None:
    """Check that this process may resume a run that has begun: with the plan that it began with,
    and the same code.

    Raises MismatchError, ApprovalError.
    """
    context, terms, run_id = prepared.context, record.plan, record.run_info.run_id
    file = None if record.chain.links else context.plan
    if file is not None and (terms is None or terms.plan_id != file.plan_id):
        which = "without a plan" if terms is None else f"with another plan ({terms.plan_id})"
        raise MismatchError(
            f"run {run_id} was started {which}; resume it without --plan, or start a new run "
            "(--new)"
        )
    asks = asks_for_approval(context, prepared.updater, prepared.target.info)
    if asks is not None and (terms is None or not terms.approved_by):
        raise ApprovalError(
            f"{asks} asks for an approved plan, and run {run_id} was started without one; give it "
            f"up (bulkup abandon {run_id}), and have a plan approved"
        )
    if record.layout.shards:  # else every entity is done
        check_code(prepared, record)


def check_code(prepared: PreparedRun, record: RunRecord) -> None:
    """Raises MismatchError when the code is not the code of the plan that the run carries out."""
    terms, run_id = record.plan, record.run_info.run_id
    if terms is not None and planned_work(prepared).code != terms.code:
        raise MismatchError(
            f"the code of {prepared.source.name} is not that of the plan {terms.plan_id}, which "
            f"run {run_id} carries out; restore it, or give the run up (bulkup abandon {run_id}) "
            "and make a new plan"
        )


def check_planned(prepared: PreparedRun, file: PlanFile) -> None:
    """Raises MismatchError, which says what differs from the plan."""
    planned, here, shown = file.plan.work, planned_work(prepared), repr(str(file.path))
    plan = _plan_command(prepared, str(file.path))
    if planned.updater != here.updater:
        raise MismatchError(f"{shown} is a plan of {planned.updater}, not of {here.updater}")
    if planned.target != here.target:
        raise MismatchError(
            f"{shown} is a plan for {planned.target}, not for {here.target}; name that target, or "
            f"make a plan for this one: {plan}"
        )
    if planned.params != here.params:
        raise MismatchError(
            f"{shown} is a plan with {_assignments(planned.params)}, not with "
            f"{_assignments(here.params)}; give the same parameters (-p), or plan again: {plan}"
        )
    if planned.selection != here.selection:
        raise MismatchError(
            f"{shown} is a plan of {_selected(planned.selection)}, not of "
            f"{_selected(here.selection)}; select the same, or plan again: {plan}"
        )
    if planned.code != here.code or not here.code:
        raise MismatchError(
            f"the code of {here.updater} has changed since {shown} was made; restore it, or plan "
            f"again: {plan}"
        )
    if planned.fingerprint != here.fingerprint:
        raise MismatchError(
            f"the query of {here.updater} is not the one in {shown}; if it depends on the time, "
            f"pass that as a parameter, otherwise plan again: {plan}"
        )
    if planned.identity != here.identity:
        raise MismatchError(
            f"{shown} is a plan of {planned.spec!r}, not of {here.spec!r}; run that file, or plan "
            f"again: {plan}"
        )


def _selected(selection: Selection) -> str:
    return str(selection) or "the whole query"


def _assignments(params: Mapping[str, str]) -> str:
    return ", ".join(assignment(name, value) for name, value in params.items()) or "no parameters"


def _plan_command(prepared: PreparedRun, path: str) -> str:
    words = ["bulkup", "plan", prepared.source.spec, "--out", path]
    for name, value in prepared.params.items():
        words += ["-p", f"{name}={value}"]
    words += prepared.selection.words()
    if prepared.target.one_of_many:
        words += ["--namespace", prepared.target.info.namespace]
    return f"`{shlex.join(words)}`"


def _approved(
    prepared: PreparedRun, approval: Approval | None, file: PlanFile | None, asks: str
) -> PlanTerms:
    """The terms of the approved plan. Raises ApprovalError."""
    name = prepared.source.name
    path = str(file.path) if file is not None else "plan.jsonl"
    approve = f"`{shlex.join(['bulkup', 'approve', path])}`"
    which = "one" if approval is None else "another"
    again = f"make {which} with {_plan_command(prepared, path)}, then {approve}"
    if approval is None:
        first = approve if file is not None else again
        raise ApprovalError(
            f"{asks} asks for an approved plan, and none of {name} with these parameters and this "
            f"query is approved; {first}"
        )
    terms = approval.terms
    who = f"{terms.approved_by} on {approved_on(terms)}"
    if file is not None and file.plan_id != terms.plan_id:
        raise ApprovalError(
            f"{asks} asks for an approved plan, and the plan of {name} that {who} approved is "
            f"{terms.plan_id}, not {file.plan_id}; {approve}"
        )
    if approval.spent:
        raise ApprovalError(
            f"the plan {terms.plan_id} of {name}, approved by {who}, {approval.spent}; {again}"
        )
    here = planned_work(prepared)
    if approval.fingerprint != here.fingerprint:
        raise ApprovalError(
            f"the plan {terms.plan_id} of {name}, approved by {who}, is for another target or "
            f"query; {again}"
        )
    if terms.code != here.code or not here.code:
        raise ApprovalError(
            f"the code of {name} has changed since its plan {terms.plan_id}, which {who} approved; "
            f"restore it, or {again}"
        )
    return terms


def approved_on(terms: PlanTerms) -> str:
    return f"{datetime.fromtimestamp(terms.approved_at, timezone.utc):%Y-%m-%d %H:%M} UTC"

"""Approve a plan: what `bulkup approve` calls. No user code is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from bulkup.core.errors import MismatchError
from bulkup.core.model import TargetInfo
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.server_time import ServerTime
from bulkup.runs.plan_check import terms_of
from bulkup.runs.plan_file import PlanFile
from bulkup.runs.target import TargetOptions
from bulkup.state.approvals import Approval, Approvals
from bulkup.state.holder import this_process


@dataclass(frozen=True)
class Approved:
    approval: Approval
    is_new: bool
    """False: this plan was approved before, and still is."""


def target_of(file: PlanFile, options: TargetOptions) -> TargetOptions:
    """The target options that the user gave; those that were not given come from the plan."""
    planned = file.plan.work.target
    return TargetOptions(
        project=options.project or planned.project,
        database=planned.database if options.database is None else options.database,
        namespace=planned.namespace if options.namespace is None else options.namespace,
        local=options.local or planned.local or None,
    )


def approve_plan(
    rpc: Rpc,
    target: TargetInfo,
    file: PlanFile,
    *,
    agreed: Callable[[Approval | None], bool],
) -> Approved | None:
    """Record that the user of this process approves a plan.

    `agreed` is called with the approval that the new one replaces, if there is one. Returns None if
    it returned False; then nothing was done. Raises MismatchError for a plan for another target,
    HeldError, StateError, CallError.
    """
    work = file.plan.work
    if work.target != target:
        raise MismatchError(
            f"{str(file.path)!r} is a plan for {work.target}, not for {target}; name that target, "
            "or make a plan for this one"
        )
    approvals = Approvals(rpc, target)
    there = approvals.read(work.identity)
    if there is not None and not there.spent and there.terms.plan_id == file.plan_id:
        return Approved(there, is_new=False)
    if not agreed(there):
        return None
    time: ServerTime = rpc.server_time
    terms = replace(terms_of(file), approved_by=this_process().who, approved_at=int(time.now()))
    approval = Approval(
        work.identity,
        work.updater,
        work.params,
        work.fingerprint,
        terms,
        version=0 if there is None else there.version,
    )
    return Approved(approvals.write(approval), is_new=True)

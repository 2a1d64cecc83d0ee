"""Checks before a group of namespaces starts or resumes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from fnmatch import fnmatchcase

from bulkup.core.errors import MismatchError, StateError
from bulkup.core.events import Warned
from bulkup.core.model import RunState, TargetInfo
from bulkup.runs.context import RunContext
from bulkup.runs.done_before import find_done, warn_or_ask
from bulkup.runs.plan_check import with_plan
from bulkup.runs.prepare import PreparedRun
from bulkup.state.groups import Group
from bulkup.state.record import RunRecord


def check_namespaces(group: Group, pattern: str) -> None:
    """Check that a group's record does not lead the updater to namespaces the user did not name.

    Raises StateError when a group lists a namespace that its pattern does not match.
    """
    for namespace in group.namespaces:
        if not fnmatchcase(namespace, pattern):
            raise StateError(
                f"the record of group {group.group_id} lists the namespace {namespace!r}, which "
                f"{pattern!r} does not match; bulkup has not written it, so start a new group "
                "(--new)"
            )


def with_gate_of(group: Group, context: RunContext) -> RunContext:
    """The context with the gate that the group began with, whichever command resumes it. Raises
    MismatchError."""
    if context.gate and not group.gate and not context.options.dry_run:
        raise MismatchError(
            f"group {group.group_id} was started without --gate clean, and may have written "
            "already; resume it without --gate, or start new runs (--new)"
        )
    return replace(context, gate=group.gate)


def check_approvals(
    group: Group,
    target: TargetInfo,
    context: RunContext,
    prepare: Callable[[str], AbstractContextManager[PreparedRun]],
) -> None:
    """If the target requires approved plans, check each namespace's before the first write.

    Raises ApprovalError.
    """
    if context.asks_for_approval(target) is None:
        return
    for namespace in group.namespaces:
        with prepare(namespace) as prepared:
            run_info = prepared.new_run_info(None, prepared.identity)
            with_plan(prepared, RunRecord(run_info, RunState.RUNNING))


def done_before(prepared: PreparedRun, context: RunContext, *, fresh: bool) -> list[Warned]:
    """Find out from the first namespace whether the same work was done before, and ask the user
    once for all namespaces.

    Raises BulkupError if the user does not want to repeat it.
    """
    if fresh or context.once or prepared.updater.once is True:
        return []
    run_info = prepared.new_run_info(None, prepared.identity)
    finished = prepared.ledger.finished_runs_of(run_info.identity)
    return warn_or_ask(find_done(prepared.ledger, finished, run_info), context)

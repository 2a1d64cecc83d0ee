"""A group that has ended, but whose process was killed before it could report that.

Once the group's record is gone, the same command would start over with the first namespace. So a
file is written to the group's folder when every namespace is done and before the record is removed.
It says that the report on all of them is still owed (see `state.unreported`).
"""

from __future__ import annotations

from dataclasses import replace

from bulkup.core.events import GroupEnded, GroupStarted, Report, Warned, WarningKind
from bulkup.core.model import TargetInfo
from bulkup.namespaces.stored import group_info, stored_group
from bulkup.runs.context import RunContext
from bulkup.runs.ended import AGAIN
from bulkup.state.files import group_folders, make_run_folder
from bulkup.state.unreported import begin_unreported, reported, unreported_runs


def note_all_done(context: RunContext, group_id: str, identity: str) -> None:
    """Record that every namespace is done, before the group's record is removed. Raises
    StateError."""
    begin_unreported(make_run_folder(context.state_dir, group_id), identity)


def note_reported(context: RunContext, report: Report) -> None:
    """Record that the listener got the report, unless the caller saves, mails and records it."""
    if report.success and report.run_id and not context.reports_itself:
        reported(context.state_dir / report.run_id)


def forget_unheard_groups(context: RunContext, identity: str) -> None:
    """Drop the reports still owed for this work, because a new group was asked for."""
    for folder in unreported_runs(context.state_dir, identity):
        reported(folder)


def report_unheard_group(
    context: RunContext, target: TargetInfo, pattern: str, identity: str
) -> Report | None:
    """Deliver the reports of the groups of this work that ended without one; returns the last of
    them, None if there is none. Call this only if Datastore has no record of the group. Raises
    StateError."""
    last = None
    for mark in unreported_runs(context.state_dir, identity):
        folders = group_folders(context.state_dir, mark.name)
        if not folders or replace(group_info(folders).target, namespace="") != target:
            continue
        report = stored_group(mark.name, folders, next_command="")
        message = (
            f"group {mark.name} was finished by a process that was killed before it could report "
            f"that; this is its report, and nothing was handled again{AGAIN}"
        )
        last = replace(report, warnings=(*report.warnings, message))
        names = tuple(space.namespace for space in report.spaces)
        context.listener(
            GroupStarted(mark.name, report.updater, target, pattern, names, resumed=True)
        )
        context.listener(Warned(message, WarningKind.FINISHED_MEANWHILE))
        context.listener(GroupEnded(last))
        note_reported(context, last)
    return last

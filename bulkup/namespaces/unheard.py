"""A group that has ended, and whose process was killed before it could report that.

With the group's record gone, the same command would begin from the first namespace. A file in the
group's folder, written once every namespace is done and before the record is removed, says that
the report on all of them is still owed (see `state.unreported`).
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
    """Every namespace is done; the group's record is about to be removed. Raises StateError."""
    begin_unreported(make_run_folder(context.state_dir, group_id), identity)


def note_reported(context: RunContext, report: Report) -> None:
    """The report has reached the listener. A caller that saves and mails it notes that itself."""
    if report.success and report.run_id and not context.reports_itself:
        reported(context.state_dir / report.run_id)


def forget_unheard_groups(context: RunContext, identity: str) -> None:
    """A new group of this work was asked for."""
    for folder in unreported_runs(context.state_dir, identity):
        reported(folder)


def report_unheard_group(
    context: RunContext, target: TargetInfo, pattern: str, identity: str
) -> Report | None:
    """Deliver the report of the last group of this work that has ended and could not say so; None:
    there is none. Only where Datastore has no record of the group. Raises StateError."""
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

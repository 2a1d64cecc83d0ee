"""A group as the state directory knows it: its report, and what is needed to resume it."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from bulkup.core.errors import Exit, StateError
from bulkup.core.events import Report
from bulkup.core.model import RunState
from bulkup.core.records import RunInfo, first_id
from bulkup.engine.reports import stored_report
from bulkup.namespaces.results import GroupResults
from bulkup.namespaces.totals import Totals
from bulkup.state.checkpoint import Checkpoint


def stored_group(group_id: str, folders: Sequence[Path], *, next_command: str) -> Report:
    """The report of the group whose runs are in these folders. Namespaces that were not started are
    not in it. Raises StateError for a damaged checkpoint."""
    reports: defaultdict[str, list[Report]] = defaultdict(list)
    for folder in sorted(folders):
        report = _report_in(folder)
        reports[report.target.namespace].append(report)
    results, totals = GroupResults([*reports]), Totals()
    for namespace, chain in reports.items():
        chain.sort(key=lambda report: (len(report.run_id), report.run_id))  # `+2` before `+10`
        results.from_reports(namespace, chain)
        for report in chain:
            totals.add(namespace, report)
    every = [report for chain in reports.values() for report in chain]
    is_over = all(report.state.is_over for report in every)
    started, ended = min(r.started for r in every), max(r.ended for r in every)
    return replace(
        every[0],
        run_id=group_id,
        target=replace(every[0].target, namespace=""),
        state=RunState.FINISHED if is_over else RunState.STOPPED,
        reason="" if is_over else "runs are unfinished",
        exit_code=max((r.exit_code for r in every), default=Exit.DONE),
        counts=results.counts(),
        total=None,
        started=started,
        ended=ended,
        elapsed_s=(ended - started).total_seconds(),
        failures=tuple(totals.failures),
        failure_groups=totals.groups.largest_first(),
        other_failures=totals.groups.others,
        log_lines=tuple(totals.log_lines),
        log_total=totals.log_total,
        warnings=("namespaces that were not worked on from this state directory are not listed",),
        state_file="",
        next_command=next_command,
        predecessor="",
        successor="",
        spaces=results.all(),
    )


def group_info(folders: Sequence[Path]) -> RunInfo:
    """What is fixed about one of the group's runs: which updater, parameters and target.

    Raises StateError when every checkpoint is damaged.
    """
    for folder in folders:
        try:
            with closing(Checkpoint.open(folder, check=False)) as checkpoint:
                run_info = checkpoint.run_info
        except (StateError, sqlite3.DatabaseError):
            continue
        if run_info.run_id == first_id(run_info.run_id):  # a successor is another updater
            return run_info
    raise StateError(
        f"no checkpoint of group {folders[0].name.partition('@')[0]} can be read; repeat the "
        "command that started the group, which resumes from what Datastore knows of it"
    )


def _report_in(folder: Path) -> Report:
    try:
        with closing(Checkpoint.open(folder, check=False)) as checkpoint:
            return stored_report(checkpoint)
    except sqlite3.DatabaseError as error:
        raise StateError(
            f"the checkpoint in {str(folder)!r} is damaged ({error}); move the folder away"
        ) from error

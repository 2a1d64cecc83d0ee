"""What `run` and `resume` share: printing while it works, and the report at the end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bulkup.core.errors import BulkupError, Exit

if TYPE_CHECKING:
    from bulkup.core.events import Event, Listener, Report
    from bulkup.datastore.target import Target
    from bulkup.engine.options import Options
    from bulkup.runs.prepare import PreparedRun


def options_of(given: dict[str, Any], *, dry_run: bool = False) -> Options:
    """The engine's options from the parsed ones of `options.working`."""
    from bulkup.engine.options import Options

    return Options(
        batch_size=given["batch_size"],
        in_flight=given["in_flight"],
        shards=given["shards"],
        processes=given["processes"],
        max_rate=given["max_rate"],
        limit=given["limit"],
        max_time_s=given["max_time"],
        retry_for_s=given["retry_for"],
        conflict_retries=given["conflict_retries"],
        max_failures=given["max_failures"],
        dry_run=dry_run,
    )


def work(given: dict[str, Any], begin: Callable[[Listener], Report]) -> int:
    """Print the events of a run, deliver its report; gives the exit code."""
    from bulkup.core.events import GroupEnded, GroupStarted, RunEnded, RunStarted
    from bulkup.report import (
        Summaries,
        github_page,
        mail_settings,
        make_printer,
        save_report,
        send_report,
    )

    begun: list[str] = []
    reports: list[Report] = []
    """Several when an updater names its successor."""
    grouped = False

    summaries = Summaries()
    with (
        github_page(os.environ) as page,
        make_printer(
            json=given["json"],
            quiet=given["quiet"],
            verbose=given["verbose"],
            summaries=summaries,
        ) as printer,
    ):

        def listen(event: Event) -> None:
            if isinstance(event, RunStarted) and not event.dry_run:
                begun.append(event.run_id)
            nonlocal grouped
            if isinstance(event, GroupStarted):
                grouped = True
            if isinstance(event, RunEnded) and not grouped:
                reports.append(event.report)
            if isinstance(event, RunEnded) and event.report.state_file and grouped:
                # The report on all of them is the one that is told and mailed.
                saved = save_report(
                    summaries.of(event.report), Path(event.report.state_file).parent
                )
                if not saved.ok:
                    printer.delivered(saved)
            if isinstance(event, GroupEnded):
                reports.append(event.report)
            printer(event)

        try:
            mail = mail_settings(
                given["email_to"], given["email_from"], given["smtp"], plain=given["smtp_plain"]
            )
            exit_code = begin(listen).exit_code
        except BulkupError as error:
            printer.error(error)
            if page is not None:
                page.error(error)
            exit_code = error.exit_code
        except KeyboardInterrupt:
            # Here, since click would make "Aborted" of it.
            printer.error(_stopped_at_once(begun, given["state_dir"], grouped))
            return Exit.SIGINT
        for report in reports:
            if page is not None:
                page.report(report)
            folder = _folder_of(report, given["state_dir"])
            if folder is not None:
                printer.delivered(save_report(summaries.of(report), folder))
            if mail is not None:
                printer.delivered(send_report(summaries.of(report), mail))
        return exit_code


def _folder_of(report: Report, state_dir: Path) -> Path | None:
    """Where a report is kept; a dry run has no place."""
    if report.spaces and report.run_id:
        return state_dir / report.run_id
    return Path(report.state_file).parent if report.state_file else None


def _stopped_at_once(begun: list[str], state_dir: Path, grouped: bool) -> BulkupError:
    from bulkup.state.display import resume_command

    if not begun:
        return BulkupError("interrupted; nothing was started")
    how = "The same command goes on"
    if not grouped:
        how = f"Continue with: {resume_command(begun[-1], state_dir)}"
    return BulkupError(
        f"stopped at once; nothing is lost, and nothing will be written twice. {how}"
    )


def confirm(prepared: PreparedRun, given: dict[str, Any]) -> None:
    """Ask before real data is changed, where somebody is there to answer."""
    confirm_target(f"Run {prepared.source.name}", prepared.target, given)


def confirm_target(what: str, target: Target, given: dict[str, Any]) -> None:
    """Ask before real data is changed, where somebody is there to answer."""
    if given["yes"] or not target.is_real or not sys.stdin.isatty():
        return
    from bulkup.report.text import clean

    click.confirm(clean(f"{what} on {target.info}?"), abort=True, err=True)

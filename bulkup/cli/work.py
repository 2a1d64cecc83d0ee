"""What `run` and `resume` share: printing while it works, and the report at the end."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bulkup.errors import BulkupError

if TYPE_CHECKING:
    from bulkup.engine.events import Listener, Report
    from bulkup.engine.run import Options
    from bulkup.runner import Job


def options_of(given: dict[str, Any], *, dry_run: bool = False) -> Options:
    """The engine's options from the parsed ones of `options.working`."""
    from bulkup.engine.run import Options

    return Options(
        batch_size=given["batch_size"],
        in_flight=given["in_flight"],
        limit=given["limit"],
        max_time_s=given["max_time"],
        retry_for_s=given["retry_for"],
        conflict_retries=given["conflict_retries"],
        max_failures=given["max_failures"],
        dry_run=dry_run,
    )


def work(given: dict[str, Any], begin: Callable[[Listener], Report]) -> int:
    """Print the events of a run, deliver its report; gives the exit code."""
    from bulkup.report import mail_settings, make_printer, save_report, send_report

    with make_printer(
        json=given["as_json"], quiet=given["quiet"], verbose=given["verbose"]
    ) as printer:
        try:
            mail = mail_settings(
                given["email_to"], given["email_from"], given["smtp"], plain=given["smtp_plain"]
            )
            report = begin(printer)
        except BulkupError as error:
            printer.error(error)
            return error.exit_code
        if report.state_file:
            printer.delivered(save_report(report, Path(report.state_file).parent))
        if mail is not None:
            printer.delivered(send_report(report, mail))
        return report.exit_code


def confirm(job: Job, given: dict[str, Any]) -> None:
    """Ask before real data is changed, where somebody is there to answer."""
    if given["yes"] or not job.target.is_real or not sys.stdin.isatty():
        return
    from bulkup.report.text import clean

    click.confirm(
        f"Run {clean(job.source.name)} on {clean(str(job.target.info))}?", abort=True, err=True
    )

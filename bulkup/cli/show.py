"""bulkup show"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bulkup.cli import options
from bulkup.core.events import EntityFailed, Logged, RunEnded

if TYPE_CHECKING:
    from bulkup.core.events import Report
    from bulkup.state.checkpoint import Checkpoint


@click.command("show")
@click.argument("run")
@options.state_dir
@options.json_lines
def command(run: str, state_dir: Path, **given: Any) -> None:
    """Show RUN (its id, or an unambiguous beginning of it): report, all failures, log."""
    from bulkup.engine.reports import stored_report
    from bulkup.report import make_printer
    from bulkup.report.summary_model import MOST_FAILURES
    from bulkup.state.checkpoint import Checkpoint
    from bulkup.state.display import resume_command
    from bulkup.state.files import find_run

    checkpoint = Checkpoint.open(find_run(state_dir, run))
    try:
        next_command = resume_command(checkpoint.run_info.run_id, state_dir)
        report = stored_report(checkpoint, next_command=next_command, shown=MOST_FAILURES)
        if given["json"]:
            with make_printer(json=True) as printer:
                max_failures = checkpoint.status().max_failures
                for position, failure in enumerate(checkpoint.failures(), 1):
                    printer(EntityFailed(failure, position, max_failures))
                for line in checkpoint.log_lines():
                    printer(Logged(line))
                printer(RunEnded(report))
        else:
            _print(report, checkpoint)
    finally:
        checkpoint.close()


def _print(report: Report, checkpoint: Checkpoint) -> None:
    """The report, and behind it whatever it has no room for."""
    from rich.console import Console

    from bulkup.report.summary_model import summarize, what_failed
    from bulkup.report.summary_terminal import print_summary
    from bulkup.report.text import clean

    summary = summarize(report)
    shown = len(summary.failures)
    summary = replace(
        summary, failures_left_out=0, log_lines=(), log_lines_left_out=0, next_command=None
    )
    print_summary(Console(highlight=False), summary)
    for failure in checkpoint.failures(skip=shown):
        click.echo(f"  {clean(failure.key)}: {what_failed(failure)}")
    if report.log_total:
        click.echo("\nLog")
        for line in checkpoint.log_lines():
            click.echo(f"  {clean(line)}")
    if report.next_command:
        click.echo(f"\nContinue with: {report.next_command}")

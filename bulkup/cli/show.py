"""bulkup show"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import click

from bulkup.cli.args import verb
from bulkup.cli.options import Json, StateDir

if TYPE_CHECKING:
    from bulkup.core.events import Report
    from bulkup.state.checkpoint import Checkpoint


@dataclass(frozen=True)
class ShowArgs:
    run: Annotated[str, click.Argument(["run"])]
    state_dir: StateDir
    json: Json


@verb("show", ShowArgs)
def command(args: ShowArgs) -> None:
    """Show one run: its report, all failures, and its log.

    RUN is a run id, or an unambiguous prefix of one.
    """
    from bulkup.engine.reports import stored_report
    from bulkup.report.summary_model import MOST_FAILURES
    from bulkup.state.checkpoint import Checkpoint
    from bulkup.state.display import resume_command
    from bulkup.state.files import find_run

    checkpoint = Checkpoint.open(find_run(args.state_dir, args.run))
    try:
        next_command = resume_command(checkpoint.run_info.run_id, args.state_dir)
        report = stored_report(checkpoint, next_command=next_command, shown=MOST_FAILURES)
        if args.json:
            _print_json(report, checkpoint)
        else:
            _print(report, checkpoint)
    finally:
        checkpoint.close()


def _print_json(report: Report, checkpoint: Checkpoint) -> None:
    from bulkup.report.json_fields import failure_fields, summary_fields
    from bulkup.report.json_lines import stdout_lines

    lines = stdout_lines()
    lines.run_id = report.run_id
    max_failures = checkpoint.status().max_failures
    for position, failure in enumerate(checkpoint.failures(), 1):
        limits = {"failed": position, "max_failures": max_failures}
        lines.write("failure", {**failure_fields(failure), **limits})
    for line in checkpoint.log_lines():
        lines.write("log", {"line": line})
    lines.write("summary", summary_fields(report), at=report.ended)


def _print(report: Report, checkpoint: Checkpoint) -> None:
    """Print the summary, and below it the failures and log lines it has no room for."""
    from rich.console import Console

    from bulkup.report.summary_model import summarize, what_failed
    from bulkup.report.summary_terminal import print_summary
    from bulkup.report.text import clean, plural

    summary = summarize(report)
    shown = len(summary.failures)
    summary = replace(summary, failures_rest=None, log_lines=(), log_rest=None, next_command=None)
    print_summary(Console(highlight=False), summary)
    for failure in checkpoint.failures(skip=shown):
        click.echo(f"  {clean(failure.key)}: {what_failed(failure)}")
    if unnamed := checkpoint.unnamed():
        click.echo(f"  {plural(unnamed, 'more failure')}: not named here, nor in Datastore")
    if report.log_total:
        click.echo("\nLog")
        for line in checkpoint.log_lines():
            click.echo(f"  {clean(line)}")
    if report.next_command:
        click.echo(f"\nContinue with: {clean(report.next_command)}")

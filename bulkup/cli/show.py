"""bulkup show"""

from __future__ import annotations

from pathlib import Path

import click

from bulkup.cli import options


@click.command("show")
@click.argument("run")
@click.option("--all", "everything", is_flag=True, help="All failures and log lines.")
@options.state_dir
@options.json_lines
def command(run: str, everything: bool, state_dir: Path, as_json: bool) -> None:
    """Show RUN (its id, or an unambiguous beginning of it): report, failures and log."""
    from bulkup.engine.events import RunEnded
    from bulkup.engine.reports import stored_report
    from bulkup.report import make_printer
    from bulkup.runner import resume_command
    from bulkup.state.checkpoint import Checkpoint
    from bulkup.state.files import find_run

    checkpoint = Checkpoint.open(find_run(state_dir, run))
    try:
        next_command = resume_command(checkpoint.record.run_id, state_dir)
        shown = -1 if everything else 20
        report = stored_report(checkpoint, next_command=next_command, failures=shown)
    finally:
        checkpoint.close()
    with make_printer(json=as_json, verbose=1) as printer:
        printer(RunEnded(report))

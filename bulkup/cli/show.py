"""bulkup show"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from bulkup.cli import options


@click.command("show")
@click.argument("run")
@options.state_dir
@options.json_lines
def command(run: str, state_dir: Path, **given: Any) -> None:
    """Show RUN (its id, or an unambiguous beginning of it): report, failures and log."""
    from bulkup.engine.events import RunEnded
    from bulkup.engine.reports import stored_report
    from bulkup.report import make_printer
    from bulkup.state.checkpoint import Checkpoint
    from bulkup.state.files import find_run
    from bulkup.state.words import resume_command

    checkpoint = Checkpoint.open(find_run(state_dir, run))
    try:
        next_command = resume_command(checkpoint.record.run_id, state_dir)
        report = stored_report(checkpoint, next_command=next_command, failures=-1)
    finally:
        checkpoint.close()
    with make_printer(json=given["json"], verbose=1) as printer:
        printer(RunEnded(report))

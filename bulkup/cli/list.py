"""bulkup list"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from bulkup.cli import options
from bulkup.core.errors import StateError

WIDE = 110
"""Columns of a terminal that shows targets too; `bulkup show` and --json always do."""


@click.command("list")
@options.state_dir
@options.json_lines
def command(state_dir: Path, **given: Any) -> None:
    """List the runs in the state directory, the latest first."""
    from bulkup.state.files import run_folders

    rows = [_row(folder) for folder in reversed(run_folders(state_dir))]
    if given["json"]:
        for row in rows:
            click.echo(json.dumps({"type": "run", **row}))
    elif rows:
        _print(rows)
    else:
        click.echo(f"No runs in {str(state_dir)!r}.", err=True)


def _row(folder: Path) -> dict[str, Any]:
    from bulkup.core.records import predecessor_of
    from bulkup.state.checkpoint import Checkpoint
    from bulkup.state.display import state_text

    try:
        checkpoint = Checkpoint.open(folder, check=False)
    except StateError as error:
        return {"run_id": folder.name, "state": "damaged", "error": error.message}
    try:
        counts, run_info = checkpoint.counts(), checkpoint.run_info
        return {
            "run_id": run_info.run_id,
            "updater": run_info.updater,
            "state": state_text(checkpoint),
            "handled": counts.handled,
            "written": counts.writes,
            "failed": counts.failed,
            "started": run_info.created,
            "target": str(run_info.target),
            "params": run_info.params,
            "predecessor": predecessor_of(run_info.run_id),
            "successor": checkpoint.status().successor or "",
        }
    finally:
        checkpoint.close()


def _print(rows: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from bulkup.report.text import clean

    console = Console(highlight=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    columns = {
        "run_id": "Run", "updater": "Updater", "state": "State", "handled": "Handled",
        "failed": "Failed",
    }  # fmt: skip
    if console.width >= WIDE:
        columns["target"] = "Target"
    if any(row.get("successor") for row in rows):
        columns["successor"] = "Then"
    for name, title in columns.items():
        justify: Any = "right" if name in ("handled", "failed") else "left"
        table.add_column(title, justify=justify, no_wrap=name == "run_id", overflow="fold")
    for row in rows:
        cells = (row.get(name, "") for name in columns)
        table.add_row(*(Text(f"{c:,}" if isinstance(c, int) else clean(str(c))) for c in cells))
    console.print(table)

"""bulkup list"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bulkup.cli.args import verb
from bulkup.cli.options import Json, StateDir
from bulkup.core.errors import StateError

if TYPE_CHECKING:
    from bulkup.core.model import Counts
    from bulkup.core.records import RunInfo

WIDE = 110
"""Columns of a terminal that has room for targets; `bulkup show` and --json always show them."""


@dataclass(frozen=True)
class ListArgs:
    state_dir: StateDir
    json: Json


@dataclass(frozen=True)
class ReadableRun:
    run_info: RunInfo
    state: str
    counts: Counts
    successor: str | None


@dataclass(frozen=True)
class DamagedRun:
    run_id: str
    error: str


@verb("list", ListArgs)
def command(args: ListArgs) -> None:
    """List the runs in the state directory, the latest first."""
    from bulkup.state.files import run_folders

    runs = [_read(folder) for folder in reversed(run_folders(args.state_dir))]
    if args.json:
        for run in runs:
            click.echo(json.dumps({"type": "run", **_to_json(run)}))
    elif runs:
        _print(runs)
    else:
        click.echo(f"No runs in {str(args.state_dir)!r}.", err=True)


def _read(folder: Path) -> ReadableRun | DamagedRun:
    import sqlite3

    from bulkup.state.checkpoint import Checkpoint
    from bulkup.state.display import state_text

    try:
        checkpoint = Checkpoint.open(folder, check=False)
    except StateError as error:
        return DamagedRun(folder.name, error.message)
    try:
        return ReadableRun(
            checkpoint.run_info,
            state_text(checkpoint),
            checkpoint.counts(),
            checkpoint.status().successor,
        )
    except sqlite3.DatabaseError as error:
        return DamagedRun(folder.name, f"the checkpoint in {str(folder)!r} is damaged ({error})")
    finally:
        checkpoint.close()


def _to_json(run: ReadableRun | DamagedRun) -> dict[str, Any]:
    from bulkup.core.records import predecessor_of

    if isinstance(run, DamagedRun):
        return {"run_id": run.run_id, "state": "damaged", "error": run.error}
    info = run.run_info
    return {
        "run_id": info.run_id,
        "updater": info.updater,
        "state": run.state,
        **run.counts.named(),
        "started": info.created,
        "target": str(info.target),
        "params": info.params,
        "predecessor": predecessor_of(info.run_id),
        "successor": run.successor or "",
    }


def _print(runs: list[ReadableRun | DamagedRun]) -> None:
    from bulkup.cli.tables import console, print_table

    out = console()
    titles = ["Run", "Updater", "State", "Handled", "Failed"]
    if out.width >= WIDE:
        titles.append("Target")
    if any(isinstance(run, ReadableRun) and run.successor for run in runs):
        titles.append("Then")
    rows = []
    for run in runs:
        cells = _cells(run)
        rows.append([cells.get(title, "") for title in titles])
    print_table(out, titles, rows, numbers=("Handled", "Failed"), wraps=titles[1:])


def _cells(run: ReadableRun | DamagedRun) -> dict[str, str]:
    """The cells of a row, by column title."""
    if isinstance(run, DamagedRun):
        return {"Run": run.run_id, "State": "damaged"}
    info, counts = run.run_info, run.counts
    return {
        "Run": info.run_id,
        "Updater": info.updater,
        "State": run.state,
        "Handled": f"{counts.handled:,}",
        "Failed": f"{counts.failed:,}",
        "Target": str(info.target),
        "Then": run.successor or "",
    }

"""bulkup mark"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import click

from bulkup.cli.args import verb
from bulkup.cli.options import TargetArgs
from bulkup.cli.values import completed


@dataclass(frozen=True)
class MarkArgs:
    name: Annotated[str, click.Argument(["name"], shell_complete=completed)]
    applied: Annotated[
        bool | None,
        click.Option(
            ["--applied/--pending"], default=None, help="Mark it as applied, or as pending."
        ),
    ]
    folder: Annotated[
        Path,
        click.Option(
            ["--folder", "--in"],
            type=click.Path(path_type=Path),
            default=Path("updaters"),
            show_default=True,
            metavar="DIR",
            help="Folder of the migrations.",
        ),
    ]
    target: TargetArgs


@verb(
    "mark",
    MarkArgs,
    examples=(
        ("bulkup mark 0001_add_name --applied", "it was done before, or by hand"),
        ("bulkup mark 0001_add_name --pending", "apply it again, to every entity"),
    ),
)
def command(args: MarkArgs) -> None:
    """Mark migration NAME as applied, or as pending, without running it.

    Use it for migrations applied before the project used bulkup, or by hand. The next `bulkup
    migrate` applies a migration marked as pending again, to every entity.
    """
    from bulkup.core.clock import Clock
    from bulkup.migrations.connect import open_ledger
    from bulkup.migrations.folder import read_folder
    from bulkup.migrations.manual import mark
    from bulkup.migrations.origin import origin_of
    from bulkup.migrations.status import FolderStatus
    from bulkup.report.text import clean

    if args.applied is None:
        raise click.UsageError("choose one: --applied or --pending")
    folder = read_folder(args.folder)
    with open_ledger(args.target.options()) as (ledger, target):
        clock = Clock(unix=ledger.server_time.now)
        status = FolderStatus(folder, ledger.migrations(), target, clock.unix())
        entry = status.entry(args.name)
        changed = mark(
            ledger,
            entry,
            applied=args.applied,
            target=target,
            origin=origin_of(os.environ),
            clock=clock,
        )
    wanted = "applied" if args.applied else "pending"
    where = clean(f"{entry.name} {'is now' if changed else 'is already'} {wanted} on {target}")
    click.echo(f"{where}." if changed else f"{where}; nothing to change.")

"""bulkup mark"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Annotated

import click

from bulkup.cli.args import verb
from bulkup.cli.options import FolderArgs, TargetArgs
from bulkup.cli.values import completed


@dataclass(frozen=True)
class MarkArgs:
    name: Annotated[str, click.Argument(["name"], shell_complete=completed)]
    folder: FolderArgs
    applied: Annotated[
        bool | None,
        click.Option(
            ["--applied/--pending"], default=None, help="Mark it as applied, or as pending."
        ),
    ]
    renamed_to: Annotated[
        str | None,
        click.Option(
            ["--renamed-to"], metavar="NEW", help="Rename it: its file in DIR is NEW.py now."
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
    """Mark migration NAME as applied, as pending or as renamed, without running it.

    DIR is the folder of the migrations, by default updaters.

    Use it for migrations applied before the project used bulkup, or by hand. The next `bulkup
    migrate` applies a migration marked as pending again, to every entity. --renamed-to keeps the
    status of a migration whose file was renamed. A migration whose file is gone is forgotten when
    it is marked as pending.
    """
    from bulkup.core.clock import Clock
    from bulkup.core.origin import origin_of
    from bulkup.migrations.connect import open_ledger
    from bulkup.migrations.folder import read_folder
    from bulkup.migrations.manual import mark, rename
    from bulkup.migrations.status import FolderStatus
    from bulkup.report.text import clean

    if (args.applied is None) == (args.renamed_to is None):
        raise click.UsageError("choose one: --applied, --pending or --renamed-to")
    folder = read_folder(args.folder.path, "bulkup mark NAME --in DIR")
    with open_ledger(args.target.options()) as (ledger, target):
        clock = Clock(unix=ledger.server_time.now)
        status = FolderStatus(folder, ledger.migrations(), target, clock.unix())
        entry = status.entry(args.name)
        if args.renamed_to is not None:
            new_name = rename(ledger, status, entry, args.renamed_to)
            click.echo(clean(f"{entry.name} is now {new_name} on {target}."))
            return
        applied = bool(args.applied)
        origin = origin_of(os.environ)
        changed = mark(ledger, status, entry, applied=applied, origin=origin, clock=clock)
    if changed and not applied and entry.file is None:
        click.echo(clean(f"{entry.name} is forgotten: it has no file here (on {target})."))
        return
    wanted = "applied" if applied else "pending"
    where = clean(f"{entry.name} {'is now' if changed else 'is already'} {wanted} on {target}")
    click.echo(f"{where}." if changed else f"{where}; nothing to change.")

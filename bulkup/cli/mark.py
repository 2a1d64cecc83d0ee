"""bulkup mark"""

from __future__ import annotations

import os
from typing import Any

import click

from bulkup.cli import options


@click.command("mark")
@click.argument("name")
@click.option("--applied/--pending", default=None, help="What it shall count as.")
@click.option(
    "--folder", "--in", type=click.Path(), default="updaters", show_default=True,
    metavar="DIR", help="The folder of migrations.",
)  # fmt: skip
@options.target
@options.local
def command(**given: Any) -> None:
    """Let migration NAME count as applied or as pending, without running it.

    For a project that comes with a history, and for what was mended by hand. A migration marked
    as pending is applied from its beginning, to every entity, by the next `bulkup migrate`.
    """
    from pathlib import Path

    from bulkup.core.clock import Clock
    from bulkup.migrations.connect import open_ledger
    from bulkup.migrations.folder import read_folder
    from bulkup.migrations.manual import mark
    from bulkup.migrations.origin import origin_of
    from bulkup.migrations.status import FolderStatus
    from bulkup.runs.target import TargetOptions

    if given["applied"] is None:
        raise click.UsageError("say what it shall count as: --applied or --pending")
    folder, clock = read_folder(Path(given["folder"])), Clock()
    where = TargetOptions(given["project"], given["database"], given["namespace"], given["local"])
    with open_ledger(where) as (ledger, target):
        status = FolderStatus(folder, ledger.migrations(), target, clock.unix())
        entry = status.entry(given["name"])
        changed = mark(
            ledger,
            entry,
            applied=given["applied"],
            target=target,
            origin=origin_of(os.environ),
            clock=clock,
        )
    wanted = "applied" if given["applied"] else "pending"
    click.echo(
        f"{entry.name} counts as {wanted} on {target}."
        if changed
        else f"{entry.name} is {wanted} on {target}; nothing to change."
    )

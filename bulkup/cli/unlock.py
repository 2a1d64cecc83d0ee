"""bulkup unlock"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import click

from bulkup.cli.args import verb
from bulkup.cli.options import FolderArgs, TargetArgs, Yes
from bulkup.cli.values import completed
from bulkup.core.errors import Exit, UsageError

if TYPE_CHECKING:
    from bulkup.state.record import RunRecord
    from bulkup.state.run_records import Ledger


@dataclass(frozen=True)
class UnlockArgs:
    run: Annotated[str, click.Argument(["run"], shell_complete=completed)]
    folder: FolderArgs
    target: TargetArgs
    yes: Yes


@verb(
    "unlock",
    UnlockArgs,
    examples=(
        ("bulkup unlock RUN", "asks whether its process is dead"),
        ("bulkup unlock 0001_add_name --yes", "of a migration; in scripts"),
    ),
)
def command(args: UnlockArgs) -> int:
    """Release a dead process's lock on RUN (a run id, or a migration's name, or its file in DIR).

    The lock of a dead process expires after a minute even without this command. If the process
    is alive after all, its next write is refused; nothing is written twice.
    """
    from bulkup.migrations.connect import open_ledger
    from bulkup.migrations.folder import names_in
    from bulkup.migrations.manual import find_held, unlock
    from bulkup.report.text import clean

    there = names_in(args.folder.path)
    with open_ledger(args.target.options()) as (ledger, _):
        held = find_held(ledger, args.run, there)
        if not unlock(ledger, held, confirm=lambda record: _is_dead(record, ledger, args)):
            click.echo("Nothing was changed.", err=True)
            return Exit.FAILED
    click.echo(f"{clean(held[0].run_info.run_id)} is unlocked.")
    return Exit.DONE


def _is_dead(record: RunRecord, ledger: Ledger, args: UnlockArgs) -> bool:
    """Ask whether the holder of a run is dead. Raises UsageError where nobody can answer."""
    from bulkup.migrations.manual import holder_has_died
    from bulkup.report.text import clean, duration

    holder = record.lease.holder
    assert holder is not None
    ago = duration(record.lease.heard_ago_s(ledger.server_time.now()))
    click.echo(
        clean(
            f"{record.run_info.run_id} is held by {holder.who}, process {holder.pid}; its last "
            f"sign of life was {ago} ago."
        )
        + (" That process ran on this machine and has ended." if holder_has_died(record) else ""),
        err=True,
    )
    if args.yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError("not a terminal; confirm with --yes that the process is dead")
    return click.confirm("Are you sure that the process is dead?", err=True)

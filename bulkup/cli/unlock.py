"""bulkup unlock"""

from __future__ import annotations

import os
import sys
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from bulkup.cli.args import verb
from bulkup.cli.options import STATE_DIR, FolderArgs, RunName, TargetArgs, Yes
from bulkup.core.errors import Exit, StateError, UsageError

if TYPE_CHECKING:
    from bulkup.runs.target import TargetOptions
    from bulkup.state.record import RunRecord
    from bulkup.state.run_records import Ledger


@dataclass(frozen=True)
class UnlockArgs:
    run: RunName
    folder: FolderArgs
    target: TargetArgs
    yes: Yes


@verb(
    "unlock",
    UnlockArgs,
    examples=(
        ("bulkup unlock RUN", "asks whether its process is dead"),
        ("bulkup unlock 0001_add_name --yes", "the lock on a migration, in scripts"),
    ),
)
def command(args: UnlockArgs) -> int:
    """Release a dead process's lock on RUN (a run id, or a migration's name, or its file in DIR).

    The lock of a dead process expires after a minute even without this command. If the process
    is alive after all, its next write is refused; nothing is written twice.
    """
    from bulkup.authoring.source_files import printable
    from bulkup.migrations.connect import no_target_is, open_ledger
    from bulkup.migrations.folder import names_in
    from bulkup.migrations.manual import find_held, unlock
    from bulkup.report.text import clean
    from bulkup.runs.which_run import UNLOCK

    if args.run is None:
        raise UNLOCK.missing(STATE_DIR)
    there = names_in(args.folder.path)
    options = _options(args)
    not_here = f"there is no run or migration {printable(args.run)} in {str(STATE_DIR)!r}"
    with no_target_is(not_here, options), open_ledger(options) as (ledger, _):
        held = find_held(ledger, args.run, there)
        if not unlock(ledger, held, confirm=lambda record: _is_dead(record, ledger, args)):
            click.echo("Nothing was changed.", err=True)
            return Exit.FAILED
    click.echo(f"{clean(held[0].run_info.run_id)} is unlocked.")
    return Exit.DONE


def _options(args: UnlockArgs) -> TargetOptions:
    """The target that the user gave; or else the run's own target, if it was started here."""
    from bulkup.datastore.target import EMULATOR_VARIABLE
    from bulkup.runs.target import TargetOptions, options_for
    from bulkup.state.checkpoint import Checkpoint
    from bulkup.state.files import run_folders

    options = args.target.options()
    folder = next((f for f in run_folders(STATE_DIR) if f.name == args.run), None)
    if options != TargetOptions() or os.environ.get(EMULATOR_VARIABLE) or folder is None:
        return options
    try:
        with closing(Checkpoint.open(folder, check=False)) as checkpoint:
            run_info = checkpoint.run_info
    except StateError:
        return options  # not needed: the lock is in Datastore
    return options_for(run_info, options)


def _is_dead(record: RunRecord, ledger: Ledger, args: UnlockArgs) -> bool:
    """Ask whether the holder of a run is dead. Raises UsageError if there is no terminal to ask
    on."""
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

"""bulkup prune"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import click

from bulkup.cli.args import verb
from bulkup.cli.options import StateDir, Yes
from bulkup.cli.values import Duration
from bulkup.core.errors import Exit, UsageError

if TYPE_CHECKING:
    from bulkup.state.pruning import Prunable

LONGEST_S = 100 * 365 * 86400.0
"""A hundred years: dates can still express that age."""


@dataclass(frozen=True)
class PruneArgs:
    older_than: Annotated[
        float,
        click.Option(
            ["--older-than"],
            type=Duration("30d, 12h or 1d12h"),
            default="30d",
            show_default=True,
            metavar="DURATION",
            help="Delete runs that ended more than DURATION ago (a number alone is seconds).",
        ),
    ]
    state_dir: StateDir
    yes: Yes


@verb(
    "prune",
    PruneArgs,
    examples=(
        ("bulkup prune --older-than 30d", "shows their sizes, and asks"),
        ("bulkup prune --older-than 30d --yes", "in scripts"),
    ),
)
def command(args: PruneArgs) -> int:
    """Delete the folders of old runs that are finished or abandoned, after asking.

    Their reports, failures, logs and before-images are gone then, so they can no longer be undone.
    Folders of unfinished runs are kept, however old
    they are. Nothing changes in Datastore, which still knows what is done.
    """
    from bulkup.report.text import clean, size, utc_now
    from bulkup.state.pruning import delete, find_old

    age = timedelta(seconds=min(args.older_than, LONGEST_S))
    found = find_old(args.state_dir, utc_now() - age)
    _print(found)
    if not found.old:
        click.echo(f"Nothing to delete in {clean(repr(str(args.state_dir)))}.", err=True)
        return Exit.DONE
    total = size(sum(run.size for run in found.old))
    question = f"Delete {len(found.old):,} of these folders, {total}?"
    if not args.yes:
        if not sys.stdin.isatty():
            raise UsageError("not a terminal; nothing was deleted; --yes deletes these folders")
        if not click.confirm(question, err=True):
            click.echo("Nothing was deleted.", err=True)
            return Exit.FAILED
    for run in found.old:
        delete(run)
    click.echo(f"Deleted {len(found.old):,}, {total}.", err=True)
    return Exit.DONE


def _print(found: Prunable) -> None:
    from bulkup.cli.tables import console, print_table
    from bulkup.report.text import clean, plural, size

    if found.old:
        rows = [
            (run.folder.name, run.updater, run.state, f"{run.ended:%Y-%m-%d %H:%M}", size(run.size))
            for run in found.old
        ]
        titles = ("Run", "Updater", "State", "Ended (UTC)", "Size")
        print_table(console(), titles, rows, numbers=("Size",), wraps=("Updater",))
    kept = [
        f"{plural(found.unfinished, 'unfinished run')}" if found.unfinished else "",
        f"{plural(found.younger, 'younger one')}" if found.younger else "",
        f"{plural(len(found.damaged), 'damaged one')} ({', '.join(found.damaged[:5])})"
        if found.damaged
        else "",
    ]
    if any(kept):
        click.echo(clean(f"Kept: {', '.join(filter(None, kept))}."), err=True)

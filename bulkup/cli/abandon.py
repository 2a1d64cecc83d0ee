"""bulkup abandon"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import click

from bulkup.cli.args import verb
from bulkup.cli.options import RunName, StateDir, TargetArgs, Yes
from bulkup.core.errors import Exit, NotFoundError, UsageError

if TYPE_CHECKING:
    from bulkup.core.model import Counts
    from bulkup.core.records import RunInfo
    from bulkup.runs.target import TargetOptions
    from bulkup.state.checkpoint import Checkpoint


@dataclass(frozen=True)
class AbandonArgs:
    run: RunName
    target: TargetArgs
    state_dir: StateDir
    yes: Yes


@verb(
    "abandon",
    AbandonArgs,
    examples=(
        ("bulkup abandon RUN", "asks first"),
        ("bulkup abandon RUN --yes", "in scripts"),
    ),
)
def command(args: AbandonArgs) -> int:
    """Give up RUN, an unfinished run: it can no longer be resumed. What it wrote stays.

    The next `bulkup run` of the same work is then a new run, and handles all entities, including
    those that RUN has handled. RUN is the id of a run or of a group of runs; an id in the state
    directory may be shortened.
    """
    from bulkup.namespaces.stored import group_info
    from bulkup.report.text import clean
    from bulkup.runs.abandon import open_to_abandon
    from bulkup.runs.target import options_for
    from bulkup.runs.which_run import ABANDON
    from bulkup.state.files import group_folders

    if args.run is None:
        raise ABANDON.missing(args.state_dir)
    options = args.target.options()
    if folders := group_folders(args.state_dir, args.run):
        options = replace(options_for(group_info(folders), options), namespace="")
        name, done = args.run, _abandon_group(args, options, args.run)
    else:
        with open_to_abandon(args.run, args.state_dir) as checkpoint:
            name = args.run if checkpoint is None else checkpoint.run_info.run_id
            done = _abandon_run(args, options, name, checkpoint)
    if not done:
        click.echo("Nothing was changed.", err=True)
        return Exit.FAILED
    click.echo(f"{clean(name)} is abandoned.")
    return Exit.DONE


def _abandon_run(
    args: AbandonArgs, options: TargetOptions, run_id: str, checkpoint: Checkpoint | None
) -> bool:
    from bulkup.migrations.connect import no_target_is, open_connection
    from bulkup.runs.abandon import abandon_by_hand
    from bulkup.runs.target import check_same_target, options_for
    from bulkup.state.run_records import Ledger

    if checkpoint is not None:
        options = options_for(checkpoint.run_info, options)
    not_here = f"there is no run {run_id!r} in {str(args.state_dir)!r}"
    with no_target_is(not_here, options), open_connection(options) as (rpc, target):
        if checkpoint is not None:
            check_same_target(checkpoint.run_info, target)
        ledger = Ledger(rpc, target)
        return abandon_by_hand(
            ledger, run_id, checkpoint, confirm=lambda run, counts: _agreed(args, run, counts)
        )


def _abandon_group(args: AbandonArgs, options: TargetOptions, group_id: str) -> bool:
    from bulkup.migrations.connect import open_connection
    from bulkup.runs.abandon import abandon_group
    from bulkup.state.groups import find_group

    with open_connection(options) as (rpc, target):
        found = find_group(rpc, target, group_id)
        if found is None:
            raise NotFoundError(f"group {group_id} is finished, so there is nothing to abandon")
        groups, group = found
        what = f"group {group.group_id} of {group.updater} on {target}"
        if not _ask(args, f"Abandon {what}? The next run of the same work handles all again."):
            return False
        abandon_group(rpc, target, group, args.state_dir)
        groups.end(group)
    return True


def _agreed(args: AbandonArgs, run_info: RunInfo, counts: Counts) -> bool:
    from bulkup.report.text import plural

    return _ask(
        args,
        f"Abandon {run_info.run_id} of {run_info.updater} on {run_info.target}? The next run of "
        f"the same work handles again the {plural(counts.handled, 'entity', 'entities')} that it "
        "has handled.",
    )


def _ask(args: AbandonArgs, question: str) -> bool:
    """Ask for confirmation. Raises UsageError if there is no terminal to ask on."""
    from bulkup.report.text import clean

    if args.yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError(f"not a terminal; confirm with --yes: {clean(question)}")
    return click.confirm(clean(question), err=True)

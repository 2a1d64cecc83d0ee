"""bulkup undo"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import click

from bulkup.cli.args import verb
from bulkup.cli.confirm import confirm
from bulkup.cli.engine_args import EngineArgs
from bulkup.cli.options import (
    KeysFrom,
    MailArgs,
    OutputArgs,
    RunName,
    StateDir,
    TargetArgs,
    Trace,
    Wait,
    Yes,
)
from bulkup.cli.session import RunSession
from bulkup.core.errors import UsageError
from bulkup.core.events import Warned

if TYPE_CHECKING:
    from bulkup.core.records import RunInfo
    from bulkup.datastore.target import Target
    from bulkup.runs.context import RunContext


@dataclass(frozen=True)
class UndoArgs:
    run: RunName
    dry_run: Annotated[
        bool,
        click.Option(
            ["-n", "--dry-run"], is_flag=True, help="Show what would change; write nothing."
        ),
    ]
    keys_from: KeysFrom
    force: Annotated[
        bool,
        click.Option(
            ["--force"],
            is_flag=True,
            help="Also put back what somebody has changed since; says first how many.",
        ),
    ]
    target: TargetArgs
    engine: EngineArgs
    wait: Wait
    trace: Trace
    mail: MailArgs
    state_dir: StateDir
    yes: Yes
    output: OutputArgs


@verb(
    "undo",
    UndoArgs,
    examples=(
        ("bulkup undo RUN --dry-run", "preview: shows what would be put back"),
        ("bulkup undo RUN", "put it back"),
    ),
)
def command(args: UndoArgs) -> int:
    """Put back what RUN has changed, from the before-images in its folder.

    RUN is a run id, an unambiguous prefix of one, or the id of a group of runs, one in each
    namespace. Entities that it changed get their old values back, those that it deleted are created
    again, and those that it created are deleted. Successors and retries of RUN are undone first,
    newest first. If RUN is unfinished, it is ended, and can no longer be resumed.

    A run in ranges is undone if all of it was worked on with this state directory. Otherwise an
    error says which ranges are missing.

    An entity that somebody has changed since is left as it is, and named in the report; the command
    then exits with 3. With --force it is put back, too.

    An undo is itself a run: it can be resumed, shown, and undone.

    If the folder is lost, the entities of the run's kinds are rewound to its beginning instead (see
    `bulkup rewind`), as far as the past can be read; a warning says how that differs.
    """
    with RunSession(args.output, args.mail, args.state_dir, trace=args.trace) as session:
        from bulkup.runs.lost_undo import find_lost, undo_lost
        from bulkup.runs.undo import UndoWishes, undo
        from bulkup.runs.which_run import UNDO

        if args.run is None:
            raise UNDO.missing(args.state_dir)
        context = session.context(args.engine.options(dry_run=args.dry_run), args.wait)
        wishes = UndoWishes(
            args.force,
            args.keys_from,
            confirm=lambda runs, target, changed: _confirm(args, context, runs, target, changed),
        )
        options = args.target.options()
        lost = find_lost(args.run, options, context)
        if lost is None:
            return undo(args.run, options, context, wishes).exit_code
        if args.force or args.keys_from is not None:
            raise UsageError(
                f"the folder of run {args.run} is not here, so --force and --keys-from have no "
                "before-images to work with; leave them out"
            )
        return undo_lost(
            lost, options, context, lambda run, target: _confirm(args, context, [run], target, None)
        ).exit_code


def _confirm(
    args: UndoArgs,
    context: RunContext,
    runs: Sequence[RunInfo],
    target: Target,
    changed: int | None,
) -> None:
    """Raises click.Abort, UsageError."""
    from bulkup.report.text import clean, plural

    what = " and ".join(f"{run.run_id} of {run.updater}" for run in runs)
    if not changed:
        confirm(f"Undo {what}", target, yes=args.yes)
        return
    many = plural(changed, "entity", "entities")
    if not args.yes and not sys.stdin.isatty():
        raise UsageError(
            f"not a terminal; nothing was written; to overwrite {many} that somebody has changed "
            "since, add --yes"
        )
    context.listener(Warned(f"somebody has changed {many} since; --force overwrites that"))
    if args.yes:
        confirm(f"Undo {what}", target, yes=True)
    else:
        click.confirm(
            clean(f"Undo {what} on {target.info}, and overwrite {many}?"), abort=True, err=True
        )

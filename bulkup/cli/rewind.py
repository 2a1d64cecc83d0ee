"""bulkup rewind"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import click

from bulkup.cli.args import verb
from bulkup.cli.confirm import confirm
from bulkup.cli.engine_args import EngineArgs
from bulkup.cli.local_file import progress_bar
from bulkup.cli.options import MailArgs, OutputArgs, StateDir, TargetArgs, Trace, Wait, Yes
from bulkup.cli.session import RunSession
from bulkup.cli.sides import ScopeArgs
from bulkup.cli.values import Time, WholeNumber
from bulkup.core.errors import Exit, UsageError
from bulkup.core.moment import Moment

if TYPE_CHECKING:
    from bulkup.runs.rewind import FoundSteps, RewindOptions


@dataclass(frozen=True)
class RewindArgs:
    to: Annotated[
        Moment,
        click.Option(
            ["--to"],
            type=Time(),
            required=True,
            metavar="TIME",
            help="Put back what was there at TIME: 2026-11-28T09:00Z, or 20m (20 minutes ago).",
        ),
    ]
    scope: ScopeArgs
    properties: Annotated[
        tuple[str, ...],
        click.Option(
            ["--property", "properties"],
            multiple=True,
            metavar="NAME",
            help="Put back only this property; may be repeated.  [default: whole entities]",
        ),
    ]
    keep_after: Annotated[
        Moment | None,
        click.Option(
            ["--keep-after"],
            type=Time(),
            metavar="TIME",
            help="Leave alone what was written or deleted after TIME, when the damage was done.",
        ),
    ]
    delete_new: Annotated[
        bool,
        click.Option(
            ["--delete-new"],
            is_flag=True,
            help="Delete what was created since.  [default: leave it alone]",
        ),
    ]
    apply: Annotated[
        bool, click.Option(["--apply"], is_flag=True, help="Write. Without it, only show.")
    ]
    sample: Annotated[
        int,
        click.Option(
            ["--sample"],
            type=WholeNumber(0, 10_000),
            default=5,
            show_default=True,
            metavar="N",
            help="Show the first N entities of each kind of change.",
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
    "rewind",
    RewindArgs,
    examples=(
        ("bulkup rewind --kind Person --to 20m", "what would be put back; writes nothing"),
        ("bulkup rewind --kind Person --to 20m --apply", "put it back"),
    ),
)
def command(args: RewindArgs) -> int:
    """Put entities back as they were at a given time, whoever changed them.

    Reads each entity of the kinds as it was then and as it is now, and shows what differs. With
    --apply it puts that back, in a run like any other: paced, resumable, and it can be undone. What
    somebody changes in between is left alone, and listed.

    Changed entities are put back, deleted ones are created again, and new ones are left alone
    unless --delete-new is given. It cannot tell damage from other people's work: give the time when
    the damage was done with --keep-after, or choose --property.
    """
    from bulkup.runs.rewind import RewindOptions

    if not args.scope.kinds:
        raise UsageError("rewind needs --kind; name each kind that is to be put back")
    if args.delete_new and args.properties:
        raise UsageError(
            "--delete-new and --property cannot be used together: --property changes only entities "
            "that were there"
        )
    options = RewindOptions(
        args.to, args.scope.scope(), args.properties, args.keep_after, args.delete_new
    )
    with RunSession(args.output, args.mail, args.state_dir, trace=args.trace) as session:
        return _rewind(args, options, session)


def _rewind(args: RewindArgs, options: RewindOptions, session: RunSession) -> int:
    from bulkup.runs.rewind import compare_times, prepare_rewind
    from bulkup.runs.start import start
    from bulkup.runs.target import open_target
    from bulkup.state.restore_list import Restores

    show = _print_json if args.output.json else _print
    context = session.context(args.engine.options(), args.wait)
    target_options = args.target.options()
    with closing(Restores()) as restores:
        with (
            progress_bar("Comparing", None, shown=args.output.shows_progress) as advance,
            open_target(target_options, only_reads=True) as target,
        ):
            found = compare_times(
                target,
                options,
                restores=restores if args.apply else None,
                sample=0 if args.output.quiet else args.sample,
                on_progress=lambda compared: advance(compared, compared),
            )
        show(found, args, session)
        if not args.apply or not found.report.writes:
            return Exit.DONE
        with prepare_rewind(options, found.report, restores, target_options, context) as prepared:
            confirm(f"Rewind {', '.join(args.scope.kinds)}", prepared.target, yes=args.yes)
            return start(prepared).exit_code


def _print_json(found: FoundSteps, args: RewindArgs, session: RunSession) -> None:
    from bulkup.core.changes import change_fields
    from bulkup.core.rewinding import KeptEntity
    from bulkup.report.rewind_lines import kept_fields, rewind_fields

    for one in found.sample:
        if isinstance(one, KeptEntity):
            session.json_line("kept", kept_fields(one))
        else:
            session.json_line("change", change_fields(one))
    session.json_line("rewind", rewind_fields(found.report, dry_run=not args.apply))


def _print(found: FoundSteps, args: RewindArgs, session: RunSession) -> None:
    from bulkup.cli.tables import console
    from bulkup.core.rewinding import KeptEntity
    from bulkup.report.change_lines import change_lines
    from bulkup.report.rewind_lines import kept_line, rewind_lines
    from bulkup.report.text import clean

    out = console()
    for one in found.sample:
        if isinstance(one, KeptEntity):
            lines = [kept_line(one, found.report)]
        else:
            lines = change_lines(one)
        for line in lines:
            out.print(line, soft_wrap=True)
    if found.sample:
        click.echo()
    for text in rewind_lines(found.report):
        click.echo(text)
    differing = {one.name for kind in found.report.kinds for one in kind.properties}
    for name in args.properties:
        if name not in differing:
            click.echo(clean(f"No entity to put back differs in {name!r}; check --property."))
    if found.report.writes and not args.apply:
        click.echo("Nothing was written. The same command with --apply writes it.")

"""bulkup rehearse"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from bulkup.cli.args import verb
from bulkup.cli.config_keys import MIGRATIONS
from bulkup.cli.engine_args import CopyEngineArgs
from bulkup.cli.migration_params import params_of_migrations
from bulkup.cli.options import MIGRATIONS_DIR, AllowEmpty, OutputArgs, Params, TargetArgs
from bulkup.cli.prices import configured_prices
from bulkup.cli.rehearsal_progress import showing_steps
from bulkup.cli.selecting import SelectionArgs
from bulkup.cli.session import Session
from bulkup.cli.settings import current_settings
from bulkup.cli.values import Sample, WholeNumber, completed
from bulkup.core.errors import BulkupError, Exit, NotFoundError, StopAskedError
from bulkup.core.visible import visible
from bulkup.report.text import clean

if TYPE_CHECKING:
    from bulkup.core.rehearsal import Rehearsal
    from bulkup.rehearsal.request import Migrations, Request, Updater
    from bulkup.report.rehearsal_summary import RehearsalSummary

MAX_CRASHES = 100


def _file(name: str, text: str) -> click.Option:
    kind = click.Path(dir_okay=False, path_type=Path)
    return click.Option([name], type=kind, metavar="FILE", help=text)


@dataclass(frozen=True)
class RehearseArgs:
    updater: Annotated[
        str | None, click.Argument(["updater"], shell_complete=completed, required=False)
    ]
    migrations: Annotated[
        bool,
        click.Option(
            ["--migrations"],
            is_flag=True,
            help="Rehearse the pending migrations of a folder, which UPDATER then names.  "
            "[default: updaters]",
        ),
    ]
    from_export: Annotated[
        str | None,
        click.Option(
            ["--from-export"],
            metavar="PATH",
            help="Copy a managed export instead of a --local file: its folder, its "
            ".overall_export_metadata file, or a gs:// address of either.",
        ),
    ]
    sample: Annotated[
        float | None,
        click.Option(
            ["--sample"],
            type=Sample(),
            metavar="PERCENT",
            help="Copy a sample of the export, such as 1%: always the same whole entity groups.",
        ),
    ]
    crashes: Annotated[
        int,
        click.Option(
            ["--crashes"],
            type=WholeNumber(0, MAX_CRASHES),
            default=5,
            show_default=True,
            metavar="N",
            help="Kill the run N times in the crash pass; 0: leave that pass out.",
        ),
    ]
    no_second_run: Annotated[
        bool,
        click.Option(["--no-second-run"], is_flag=True, help="Leave the second run out."),
    ]
    html: Annotated[
        Path | None, _file("--html", "Write the report as one HTML page, to attach or to publish.")
    ]
    markdown: Annotated[
        Path | None,
        _file("--markdown", "Write the report as Markdown, for a comment on a pull request."),
    ]
    selection: SelectionArgs
    param: Params
    target: TargetArgs
    engine: CopyEngineArgs
    allow_empty: AllowEmpty
    output: OutputArgs


class _RehearseSession(Session):
    def _interrupted(self) -> BulkupError:
        return StopAskedError(
            "stopped at once; nothing but copies was written, and they are removed", Exit.SIGINT
        )


@verb(
    "rehearse",
    RehearseArgs,
    examples=(
        ("bulkup rehearse full_name.py --from-export gs://shop/nightly", "on last night's data"),
        ("bulkup rehearse --migrations --local shop.db --markdown pr.md", "for a pull request"),
    ),
)
def command(args: RehearseArgs) -> int:
    """Run all of UPDATER on a throwaway copy of real data, and report everything it does.

    Shows how the run ends, what changes, which entities fail, and what it costs and how long it
    takes on a real project. A second run shows whether it is safe to run twice. A crash pass kills
    and resumes the run several times, and shows whether a crash does any harm. The data itself is
    not changed.

    The handler is called as in a run, in several passes. Any side effects outside Datastore
    (sending mail, say) happen here too.

    Exits as `bulkup run` does, and with 4 if a crash changes the outcome, if the updater says
    idempotent = True and a second run changes something, or, without --allow-empty, if no entity
    was there to handle.
    """
    from bulkup.core.output_file import check_replaceable
    from bulkup.rehearsal.rehearse import rehearse
    from bulkup.report.rehearsal_html import is_rehearsal_page
    from bulkup.report.rehearsal_markdown import is_rehearsal_comment
    from bulkup.report.rehearsal_summary import summarize_rehearsal

    html, markdown = (path and path.absolute() for path in (args.html, args.markdown))
    if html is not None:
        check_replaceable(html, is_rehearsal_page, "the page of a rehearsal")
    if markdown is not None:
        check_replaceable(markdown, is_rehearsal_comment, "the Markdown of a rehearsal")
    with _RehearseSession(args.output) as session:
        request = _request(args)
        output = args.output
        with showing_steps(
            shown=output.shows_progress, draws=output.progress in ("auto", "tty")
        ) as on_step:
            rehearsal = rehearse(request, on_step)
        summary = summarize_rehearsal(rehearsal)
        _show(rehearsal, summary, args, session)
    # Files come last, so that the result is on the screen even if a disk is full.
    _write_pages(summary, html, markdown)
    written = [clean(str(path)) for path in (args.html, args.markdown) if path is not None]
    if written and args.output.shows_progress:
        click.echo(f"The report is in {' and '.join(written)}.", err=True)
    return rehearsal.exit_code


def _request(args: RehearseArgs) -> Request:
    """Raises UsageError, click.UsageError."""
    from bulkup.rehearsal.from_export import fill_from_export
    from bulkup.rehearsal.request import OPTIONS, Request

    target = args.target.options()
    source = args.from_export or target.local
    if source is None:
        raise click.UsageError(
            "say which data to copy: --local FILE, or --from-export PATH of a managed export"
        )
    if args.sample is not None and args.from_export is None:
        raise click.UsageError("--sample is for exports only; leave it out, or use --from-export")
    target = replace(target, local=None)
    return Request(
        _what(args),
        source,
        target,
        fill=None if args.from_export is None else fill_from_export(source, target, args.sample),
        sample="" if args.sample is None else f"{args.sample * 100:g}%",
        options=replace(
            OPTIONS,
            batch_size=args.engine.batch_size,
            processes=args.engine.processes,
            max_failures=args.engine.max_failures,
        ),
        allow_empty=args.allow_empty,
        prices=configured_prices(),
        second=not args.no_second_run,
        kills=args.crashes,
    )


def _what(args: RehearseArgs) -> Updater | Migrations:
    from bulkup.authoring.parameters import parse_assignments
    from bulkup.migrations.folder import read_folder
    from bulkup.rehearsal.request import Migrations, Updater

    selection = args.selection.selection()
    if not args.migrations:
        if args.updater is None:
            raise click.UsageError(
                "name an updater, or rehearse a folder of migrations with --migrations"
            )
        return Updater(args.updater, parse_assignments(args.param), selection)
    if selection:
        raise click.UsageError(
            "--migrations cannot be used with --kind, --ancestor or --where: a migration is "
            "applied to all entities of its query"
        )
    configured = os.environ.get("BULKUP_MIGRATIONS") or current_settings().values.get(MIGRATIONS)
    folder = Path(args.updater or configured or MIGRATIONS_DIR)
    if not folder.is_dir():
        raise NotFoundError(
            f"there is no folder {visible(str(folder))}; name the folder of the migrations after "
            "--migrations"
        )
    names = read_folder(folder).names
    params = params_of_migrations(args.param, names, is_default=args.updater is None)
    return Migrations(str(folder), params)


def _write_pages(summary: RehearsalSummary, html: Path | None, markdown: Path | None) -> None:
    from bulkup.core.output_file import replace_file
    from bulkup.report.rehearsal_html import rehearsal_html
    from bulkup.report.rehearsal_markdown import rehearsal_markdown

    if html is not None:
        replace_file(html, rehearsal_html(summary))
    if markdown is not None:
        replace_file(markdown, rehearsal_markdown(summary))


def _show(
    rehearsal: Rehearsal, summary: RehearsalSummary, args: RehearseArgs, session: Session
) -> None:
    from bulkup.cli.tables import console
    from bulkup.core.rehearsal_json import rehearsal_fields
    from bulkup.report.rehearsal_markdown import rehearsal_markdown
    from bulkup.report.rehearsal_terminal import rehearsal_lines

    if args.output.json:
        session.json_line("rehearsal", rehearsal_fields(rehearsal))
    session.printer.close()  # until now, standard output was the printer's
    if not args.output.json:
        out = console()
        for line in rehearsal_lines(summary):
            out.print(line, soft_wrap=True)
    if session.page is not None:
        headline = summary.headline or summary.works[0].headline
        session.page.rehearsal(summary.title, summary.tone, headline, rehearsal_markdown(summary))

"""bulkup diff"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from bulkup.cli.args import verb
from bulkup.cli.local_file import progress_bar
from bulkup.cli.options import Json, TargetArgs
from bulkup.cli.sides import ScopeArgs, With, other_options
from bulkup.cli.values import Time, WordOrNumber
from bulkup.core.errors import Exit, StateError, StopAskedError, UsageError
from bulkup.core.moment import Moment

if TYPE_CHECKING:
    from bulkup.core.difference import DiffReport, EntityDifference

MOST_SHOWN = 10_000


@dataclass(frozen=True)
class DiffArgs:
    since: Annotated[
        Moment,
        click.Option(
            ["--from", "since"],
            type=Time(),
            envvar="BULKUP_DIFF_FROM",
            default="now",
            show_default=True,
            metavar="TIME",
            help="Read side A as of TIME: 2026-11-28T09:00Z, 20m (20 minutes ago), or now.",
        ),
    ]
    until: Annotated[
        Moment,
        click.Option(
            ["--to", "until"],
            type=Time(),
            envvar="BULKUP_DIFF_TO",
            default="now",
            show_default=True,
            metavar="TIME",
            help="Read side B as of TIME.",
        ),
    ]
    other: With
    scope: ScopeArgs
    sample: Annotated[
        int | None,
        click.Option(
            ["--sample"],
            type=WordOrNumber("all", 0, MOST_SHOWN),
            default="5",
            show_default=True,
            metavar="N|all",
            help="Show the first N differences of each kind of change; all: every difference, as "
            "it is found.",
        ),
    ]
    html: Annotated[
        Path | None,
        click.Option(
            ["--html"],
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Also write the result to FILE, as one HTML page.",
        ),
    ]
    target: TargetArgs
    json: Json


@verb(
    "diff",
    DiffArgs,
    examples=(
        ("bulkup diff --from 20m --kind Person", "what changed in the last 20 minutes"),
        ("bulkup diff --project shop --with local=shop.db", "a project and a file"),
    ),
)
def command(args: DiffArgs) -> int:
    """Show what differs between two times, projects, databases, namespaces, or files.

    Side A is the target, as of --from. Side B is the place that --with names, as of --to. Compares
    every property exactly, with index flags and meanings. Keys, also those in values, are compared
    relative to the project, database and namespace of their own side. bulkup's own entities are
    left out. Exits with 0 if the sides are equal, with 4 if they differ. Writes nothing.

    The past can be read for an hour; where point-in-time recovery is on, for seven days at whole
    minutes.
    """
    from bulkup.core.output_file import check_replaceable
    from bulkup.report.diff_lines import is_diff_page
    from bulkup.runs.diff import diff
    from bulkup.runs.sides import SideOptions

    if args.html is not None and args.sample is None:
        raise UsageError("--sample all and --html cannot be used together; give a number")
    if args.html is not None and args.html.exists():
        check_replaceable(args.html, is_diff_page, "the page of a comparison")
    first = args.target.options()
    printer = _Json() if args.json else _Terminal()
    shown: list[EntityDifference] = []

    # A sample is printed once the progress bar is gone.
    on_difference = printer.difference if args.sample is None else shown.append
    try:
        with progress_bar("Comparing", None, shown=args.sample is not None) as advance:
            report = diff(
                SideOptions(first, args.since),
                SideOptions(other_options(args.other, first), args.until),
                args.scope.scope(),
                sample=args.sample,
                on_difference=on_difference,
                on_progress=lambda compared: advance(compared, compared),
            )
    except KeyboardInterrupt:
        raise StopAskedError("Interrupted; the result is not complete.", Exit.SIGINT) from None
    for difference in shown:
        printer.difference(difference)
    printer.end(report)
    if args.html is not None:
        _write_html(args.html, report, shown)
    return report.exit_code


class _Json:
    def __init__(self) -> None:
        from bulkup.report.json_lines import stdout_lines

        self._lines = stdout_lines()

    def difference(self, difference: EntityDifference) -> None:
        from bulkup.report.diff_json import difference_fields

        self._lines.write("difference", difference_fields(difference))

    def end(self, report: DiffReport) -> None:
        from bulkup.report.diff_json import diff_fields

        self._lines.write("diff", diff_fields(report))


class _Terminal:
    def __init__(self) -> None:
        from bulkup.cli.tables import console

        self._console = console()
        self._shown = 0

    def difference(self, difference: EntityDifference) -> None:
        from bulkup.report.diff_lines import difference_lines

        self._shown += 1
        for line in difference_lines(difference):
            self._console.print(line, soft_wrap=True)

    def end(self, report: DiffReport) -> None:
        from bulkup.report.diff_lines import report_lines, shown_of

        if self._shown:
            if rest := shown_of(report, self._shown):
                click.echo(rest)
            click.echo()
        for line in report_lines(report):
            click.echo(line)


def _write_html(path: Path, report: DiffReport, shown: list[EntityDifference]) -> None:
    from bulkup.report.diff_lines import diff_html
    from bulkup.report.save import replace_file

    try:
        replace_file(path, diff_html(report, shown))
    except OSError as error:
        raise StateError(
            f"cannot write {str(path)!r} ({error.strerror}); name another file with --html"
        ) from error

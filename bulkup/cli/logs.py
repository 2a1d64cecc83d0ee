"""bulkup logs"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click

from bulkup.cli.args import verb
from bulkup.cli.bundles import run_or_bundle
from bulkup.cli.options import Json, StateDir
from bulkup.cli.tables import console
from bulkup.cli.values import WholeNumber, completed
from bulkup.core.errors import Exit
from bulkup.core.records import group_of

if TYPE_CHECKING:
    from bulkup.core.log_entry import LogEntry

Print = Callable[[str, "LogEntry"], None]
"""Prints an event of the run with this id."""


class Pattern(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.4
    """A regular expression."""

    name = "pattern"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, re.Pattern):
            return value
        try:
            return re.compile(value)
        except re.error as error:
            self.fail(f"{value!r} is not a regular expression ({error})", param, ctx)


@dataclass(frozen=True)
class LogsArgs:
    run: Annotated[str | None, click.Argument(["run"], shell_complete=completed, required=False)]
    follow: Annotated[
        bool,
        click.Option(
            ["-f", "--follow"], is_flag=True, help="Print what follows, until the process ends."
        ),
    ]
    lines: Annotated[
        int | None,
        click.Option(
            ["--lines"], type=WholeNumber(min=0), metavar="N", help="Print only the last N lines."
        ),
    ]
    failures: Annotated[
        bool, click.Option(["--failures"], is_flag=True, help="Print only entities that failed.")
    ]
    warnings: Annotated[
        bool,
        click.Option(
            ["--warnings"],
            is_flag=True,
            help="Print only warnings; with --failures, both.",
        ),
    ]
    grep: Annotated[
        re.Pattern[str] | None,
        click.Option(
            ["--grep"],
            type=Pattern(),
            metavar="PATTERN",
            help="Print only lines that match a regular expression.",
        ),
    ]
    state_dir: StateDir
    json: Json

    @property
    def kinds(self) -> frozenset[str]:
        """The kinds of events to print; empty: all."""
        asked = {"failure": self.failures, "warning": self.warnings}
        return frozenset(kind for kind, is_asked in asked.items() if is_asked)


@verb(
    "logs",
    LogsArgs,
    examples=(
        ("bulkup logs -f", "what happens in the run that was worked on last"),
        ("bulkup logs RUN --failures --grep Timeout", "some of the entities that failed"),
    ),
)
def command(args: LogsArgs) -> int:
    """Print what happened in a run, in order: starts and ends, warnings, retries, failures, and the
    lines of self.log.

    RUN is a run id, an unambiguous prefix of one, the id of a group of runs, one in each namespace,
    or a file of `bulkup bundle`. Without RUN: the run that was worked on last. Times are in UTC.

    With --follow, the command ends when the process that works on the run does. Of a run that logs
    very much, the oldest lines are deleted; `bulkup show` has all failures and all log lines.
    """
    with run_or_bundle(args) as given:
        return _print_logs(given)


def _print_logs(args: LogsArgs) -> int:
    from bulkup.state.files import find_latest, find_run, group_folders

    latest = find_latest(args.state_dir) if args.run is None else None
    group_id = group_of(latest.name) if latest is not None else args.run
    of_group = group_folders(args.state_dir, group_id) if group_id else []
    if of_group and args.follow and latest is None:
        raise click.UsageError(
            f"{args.run} is a group of runs, and one of them at a time is worked on; leave it out "
            "to follow that one, or name it"
        )
    try:
        if of_group and not args.follow:
            _print_last(args, _merged(of_group), _printer(args, names=True))
        else:
            _print_run(args, latest or find_run(args.state_dir, args.run or ""))
    except KeyboardInterrupt:
        return Exit.SIGINT
    return Exit.DONE


def _print_run(args: LogsArgs, folder: Path) -> None:
    from bulkup.state.following import follow_log
    from bulkup.state.run_log import EVENTS_NAME
    from bulkup.state.run_log_reader import read_log

    run_id, write = folder.name, _printer(args)
    if not (args.follow or (folder / EVENTS_NAME).exists()):
        _say_there_is_none(run_id)
    if not args.follow:
        _print_last(args, ((run_id, entry) for entry in read_log(folder)), write)
        return
    entries = follow_log(folder)
    _print_last(args, ((run_id, entry) for entry in iter(lambda: next(entries, None), None)), write)
    for entry in entries:
        if entry is not None and _is_asked(args, entry):
            write(run_id, entry)


def _say_there_is_none(run_id: str) -> None:
    from bulkup.report.text import clean

    click.echo(
        f"Run {clean(run_id)} has no log; `bulkup show` has its failures and log lines.", err=True
    )


def _print_last(args: LogsArgs, entries: Iterable[tuple[str, LogEntry]], write: Print) -> None:
    asked = (one for one in entries if _is_asked(args, one[1]))
    last = asked if args.lines is None else deque(asked, maxlen=args.lines)
    for run_id, entry in last:
        write(run_id, entry)


def _is_asked(args: LogsArgs, entry: LogEntry) -> bool:
    from bulkup.report.log_text import log_text

    if args.kinds and entry.kind not in args.kinds:
        return False
    return args.grep is None or args.grep.search(log_text(entry)) is not None


def _merged(folders: Sequence[Path]) -> Iterator[tuple[str, LogEntry]]:
    """The events of several runs, by time."""
    from heapq import merge

    from bulkup.state.run_log_reader import read_log

    def of(folder: Path) -> Iterator[tuple[str, LogEntry]]:
        return ((folder.name, entry) for entry in read_log(folder))

    return merge(*map(of, folders), key=lambda one: one[1].at)


def _printer(args: LogsArgs, *, names: bool = False) -> Print:
    """`names`: begin each line with the id of its run."""
    if args.json:
        return _json_printer()
    from rich.text import Text

    from bulkup.report.log_text import STYLES, log_text

    out = console()

    def write(run_id: str, entry: LogEntry) -> None:
        line = f"{run_id} {log_text(entry)}" if names else log_text(entry)
        if out.is_terminal:
            out.print(Text(line, STYLES.get(entry.kind, "")), soft_wrap=True)
        else:
            click.echo(line)

    return write


def _json_printer() -> Print:
    from bulkup.report.json_lines import stdout_lines
    from bulkup.report.log_text import log_fields, time_of

    lines = stdout_lines()

    def write(run_id: str, entry: LogEntry) -> None:
        if found := log_fields(entry):
            lines.run_id = run_id
            lines.write(*found, at=time_of(entry))

    return write

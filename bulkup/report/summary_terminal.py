"""A run's summary on a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bulkup.report.namespace_grid import grid_lines
from bulkup.report.summary_model import FailureLines, Summary, Tone

STYLES = {Tone.GOOD: "bold green", Tone.MIXED: "bold yellow", Tone.BAD: "bold red"}


def print_summary(console: Console, summary: Summary) -> None:
    """Print the summary on a terminal.

    Only `Text` objects reach rich: in a plain string, it would interpret markup that comes from an
    entity. Lines that may hold a command are not wrapped here: pasted with a line break, half of
    the command would run.
    """
    console.print(Text(summary.headline, STYLES[summary.tone]), soft_wrap=True)
    for sentence in summary.sentences:
        console.print(Text(sentence))
    console.print()
    console.print(_table(summary.rows))
    if summary.grid is not None:
        console.print()
        _print_lines(console, (Text(line) for line in grid_lines(summary.grid)))
    if summary.failures or summary.failures_rest:
        console.print(Text(f"\n{summary.failures_title}", "bold"))
        for failure in summary.failures:
            _print_lines(console, _failure_lines(failure))
        _print_rest(console, summary.failures_rest)
    if summary.warnings:
        console.print(Text("\nWarnings", "bold"))
        for warning, *details in summary.warnings:
            lines = (Text(f"      {line}", "dim") for line in details)
            _print_lines(console, (Text(f"  {warning}", "yellow"), *lines))
    if summary.log_lines or summary.log_rest:
        console.print(Text("\nLog", "bold"))
        _print_lines(console, (Text(f"  {line}") for line in summary.log_lines))
        _print_rest(console, summary.log_rest)
    if summary.next_command:
        line = Text.assemble(f"\n{summary.next_label}: ", (summary.next_command, "bold"))
        console.print(line, soft_wrap=True)


def _table(rows: Iterable[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(Text(f"  {name}"), Text(value))
    return table


def _failure_lines(failure: FailureLines) -> list[Text]:
    head = Text.assemble("  ", (failure.key, "bold red"), ": ", failure.what)
    keys = [Text(f"      {failure.keys}")] if failure.keys else []
    return [head, *keys, *(Text(f"      {line}", "dim") for line in failure.traceback)]


def _print_lines(console: Console, lines: Iterable[Text]) -> None:
    for line in lines:
        console.print(line, soft_wrap=True)


def _print_rest(console: Console, rest: str | None) -> None:
    if rest:
        console.print(Text(f"  {rest}"), soft_wrap=True)

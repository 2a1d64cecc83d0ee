"""The end of a run on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bulkup.report.spaces import grid_lines
from bulkup.report.summary_model import Story, Tone

STYLES = {Tone.GOOD: "bold green", Tone.MIXED: "bold yellow", Tone.BAD: "bold red"}


def print_summary(console: Console, story: Story) -> None:
    """Print the story on a terminal.

    Only `Text` objects reach rich: a string could hold markup, and entities' texts are strings.
    Commands are never wrapped by us: a pasted line break would run half of one.
    """
    console.print(Text(story.headline, STYLES[story.tone]), soft_wrap=True)
    for sentence in story.sentences:
        console.print(Text(sentence))
    console.print()
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True, style="dim")
    table.add_column(overflow="fold")
    for name, value in story.rows:
        table.add_row(Text(f"  {name}"), Text(value))
    console.print(table)
    if story.grid is not None:
        console.print()
        for line_ in grid_lines(story.grid):
            console.print(Text(line_), soft_wrap=True)
    if story.failures or story.failures_rest:
        console.print(Text("\nFailures", "bold"))
        for failure in story.failures:
            line = Text.assemble("  ", (failure.key, "bold red"), ": ", failure.what)
            console.print(line, soft_wrap=True)
            for code in failure.traceback:
                console.print(Text(f"      {code}", "dim"), soft_wrap=True)
        _rest(console, story.failures_rest)
    if story.warnings:
        console.print(Text("\nWarnings", "bold"))
        for warning in story.warnings:
            console.print(Text(f"  {warning}", "yellow"), soft_wrap=True)
    if story.log_lines or story.log_rest:
        console.print(Text("\nLog", "bold"))
        for logged in story.log_lines:
            console.print(Text(f"  {logged}"), soft_wrap=True)
        _rest(console, story.log_rest)
    if story.next_command:
        line = Text.assemble(f"\n{story.next_label}: ", (story.next_command, "bold"))
        console.print(line, soft_wrap=True)


def _rest(console: Console, text: str) -> None:
    if text:
        console.print(Text(f"  {text}"), soft_wrap=True)

"""What a rehearsal is doing, on standard error: a bar on a terminal, a line for each step
elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from bulkup.rehearsal.request import Step

_DRAW_EVERY_S = 0.1


@contextmanager
def showing_steps(*, shown: bool, draws: bool) -> Iterator[Callable[[Step], None]]:
    """`draws`: draw a bar if standard error is a terminal; otherwise, lines are printed."""
    if not shown:
        yield lambda step: None
    elif draws and sys.stderr.isatty():
        with _bar() as show:
            yield show
    else:
        yield _lines()


def _lines() -> Callable[[Step], None]:
    from bulkup.report.text import clean

    last = ""

    def show(step: Step) -> None:
        nonlocal last
        if step.title != last:
            last = step.title
            click.echo(f"{clean(step.title)} ...", err=True)

    return show


@contextmanager
def _bar() -> Iterator[Callable[[Step], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from bulkup.report.text import clean

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:,.0f}"),
        TimeRemainingColumn(),
    )
    # Drawn by this thread whenever something is done: a separate thread would receive signals.
    with Progress(
        *columns, console=Console(stderr=True), transient=True, auto_refresh=False
    ) as progress:
        task, title, drawn = progress.add_task(""), "", 0.0

        def show(step: Step) -> None:
            nonlocal task, title, drawn
            if step.title != title:
                title = step.title
                progress.remove_task(task)
                task = progress.add_task(clean(title), total=None)
                drawn = 0.0
            progress.update(task, completed=step.done, total=step.total)
            if monotonic() - drawn >= _DRAW_EVERY_S:
                drawn = monotonic()
                progress.refresh()

        yield show

"""Looks at something every few seconds, and shows it when it has changed."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stdout
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bulkup.cli.tables import console, drawn_for
from bulkup.core.errors import Exit, TargetError

if TYPE_CHECKING:
    from rich.console import Console

L = TypeVar("L")
Lines = Callable[[L], list[tuple[str, dict[str, Any]]]]

EVERY_S = 2.0
VOLATILE = ("lease_until",)
"""Fields that change while nothing happens."""


def watch(look: Callable[[], L], lines: Lines[L], show: Callable[[L], None], *, json: bool) -> int:
    """Look and show until Ctrl-C, which ends this with exit code 0.

    If Datastore does not answer, that is shown instead, and it is asked again; if the first look
    fails, the command ends. `lines`: for --json. `show` prints for people.
    """
    try:
        first = look()
        if json:
            _print_changed(_looks(look, first), lines)
        else:
            _redraw(_looks(look, first), show)
    except KeyboardInterrupt:
        pass
    return Exit.DONE


def _looks(look: Callable[[], L], first: L) -> Iterator[L | TargetError]:
    found: L | TargetError = first
    while True:
        yield found
        time.sleep(EVERY_S)
        try:
            found = look()
        except TargetError as error:
            found = error


def _print_changed(looks: Iterator[L | TargetError], lines: Lines[L]) -> None:
    from bulkup.report.json_lines import stdout_lines
    from bulkup.report.text import clean

    out = stdout_lines()
    known: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for found in looks:
        if isinstance(found, TargetError):
            click.echo(clean(f"{found.message}; it is asked again"), err=True)
            continue
        for kind, fields in lines(found):
            place = kind, fields.get("namespace"), fields.get("name")
            steady = {name: value for name, value in fields.items() if name not in VOLATILE}
            if known.get(place) != steady:
                known[place] = steady
                out.write(kind, fields)


def _redraw(looks: Iterator[L | TargetError], show: Callable[[L], None]) -> None:
    from rich.text import Text

    out = console()
    with _drawing(out) as draw:
        before = None
        for found in looks:
            with drawn_for(out) if out.is_terminal else nullcontext():
                text = _text(found, show)
            if text != before:
                draw(Text(text))
                before = text


def _text(found: L | TargetError, show: Callable[[L], None]) -> str:
    from bulkup.report.text import clean

    if isinstance(found, TargetError):
        return clean(f"{found.message}; it is asked again")
    printed = io.StringIO()
    with redirect_stdout(printed):
        show(found)
    return printed.getvalue().rstrip("\n")


@contextmanager
def _drawing(out: Console) -> Iterator[Callable[[Any], None]]:
    """Yields a function that shows a text: on a terminal in place of the one before, elsewhere
    below it."""
    if not out.is_terminal:
        yield lambda text: click.echo(f"{text}\n")
        return
    from rich.live import Live

    # Not on the alternate screen: the last table stays, to be read and copied.
    with Live(console=out, auto_refresh=False, vertical_overflow="visible") as live:
        yield lambda text: live.update(text, refresh=True)

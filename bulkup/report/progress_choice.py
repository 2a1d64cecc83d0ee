"""How to show progress, depending on what stderr is and what the user has asked for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import IO, cast

from rich.console import Console

from bulkup.report.keyboard import Keyboard
from bulkup.report.printer import ProgressStyle
from bulkup.report.progress_views import Drawn, PlainLines, ProgressView
from bulkup.report.stream import Stream


def progress_view(
    style: ProgressStyle,
    console: Console,
    stream: Stream,
    clock: Callable[[], float],
    now: Callable[[], datetime],
    *,
    captures_stdout: Callable[[], bool],
    on_key: Callable[[str], None],
) -> ProgressView:
    """Draw on a terminal that can do it, unless the user wants plain lines. `console` writes to
    `stream`."""
    draws = console.is_terminal and not console.is_dumb_terminal
    if style is ProgressStyle.PLAIN or not draws:
        return PlainLines(stream, clock, now)
    keyboard = Keyboard(on_key) if stream.isatty() else None
    return Drawn(console, clock, captures_stdout=captures_stdout, keyboard=keyboard)


def console_of(stream: Stream, *, forced: bool = False) -> Console:
    """A console without markup, emoji codes or highlighting: strings are shown as they are.
    `forced`: treat the stream as a terminal."""
    return Console(
        file=cast(IO[str], stream),
        # Only the stream decides: FORCE_COLOR in the environment must not put escapes into a file.
        force_terminal=forced or stream.isatty(),
        markup=False,
        emoji=False,
        highlight=False,
    )

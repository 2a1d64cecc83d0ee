"""A few lines that stay below whatever is printed, on the main screen of a terminal.

What is printed meanwhile appears above them and scrolls up as usual, so it can be read and copied
later. A frame is one write, which terminals that can do so show at once. No thread draws, so the
output is never torn apart.
"""

from __future__ import annotations

import sys
import threading
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from typing import IO, cast

from rich.console import (
    Console,
    ConsoleOptions,
    ConsoleRenderable,
    RenderableType,
    RenderHook,
    RenderResult,
)
from rich.control import Control
from rich.file_proxy import FileProxy
from rich.segment import ControlType, Segment

from bulkup.core import stop

_BEGIN = "\x1b[?2026h\x1b[?25l"
_END = "\x1b[?25h\x1b[?2026l"
"""With these codes a frame is shown as a whole (terminals ignore modes they do not know). The
cursor is hidden only meanwhile: a second Ctrl-C ends the process at once, and must not leave the
terminal without a cursor."""


class Drawing(RenderHook):
    """`captures_stdout`: `sys.stdout` is the same terminal, so what is printed to it must appear
    above the frame. What is printed to `sys.stderr` always does."""

    def __init__(self, console: Console, *, captures_stdout: bool) -> None:
        self._console = console
        self._frame: RenderableType = ""
        self._widths: list[int] = []
        """Widths of the lines that are on the screen now."""
        self._times_heard = stop.times_heard
        self._lock = threading.RLock()
        self._open = ExitStack()
        console.push_render_hook(self)
        self._open.callback(console.pop_render_hook)
        if captures_stdout:
            self._open.enter_context(redirect_stdout(self._above(sys.stdout)))
        self._open.enter_context(redirect_stderr(self._above(sys.stderr)))

    def _above(self, file: IO[str]) -> IO[str]:
        return cast(IO[str], FileProxy(self._console, file))

    def draw(self, frame: RenderableType) -> None:
        """Replace the frame."""
        with self._lock:
            self._frame = frame
            self._console.print(Control())

    def moved(self) -> None:
        """Note that something else has written to the terminal: the next frame is drawn at the
        cursor and erases nothing. Does so little that a signal handler may call it."""
        self._widths = []

    def erase(self) -> None:
        """Remove the lines from the screen and draw no more. May be called twice."""
        with self._lock:
            self._frame = ""
            for file in (sys.stdout, sys.stderr):
                file.flush()  # print what has no newline yet
            self._open.close()
            self._console.print(_raw(_BEGIN), *self._erased(), _raw(_END), end="")
            self._widths = []

    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        with self._lock:
            return [_raw(_BEGIN), *self._erased(), *renderables, _Lines(self), _raw(_END)]

    def _erased(self) -> list[ConsoleRenderable]:
        """Control codes that erase the lines and move to the start of the first one. A line that
        was drawn on a wider terminal may take several rows now.

        What the signal handler printed below the lines is erased with them and printed again in
        their place: otherwise the old lines would stay on the screen above it.
        """
        rows = sum(map(self._rows, self._widths))
        if not rows:
            self._times_heard = stop.times_heard
            return []
        again: list[ConsoleRenderable] = []
        if self._times_heard != stop.times_heard:
            rows += (stop.times_heard - self._times_heard) * (1 + self._rows(len(stop.HEARD)))
            self._times_heard = stop.times_heard
            again = [_raw(f"{stop.HEARD}\r\n")]
        erase: tuple[ControlType, int] = (ControlType.ERASE_IN_LINE, 2)
        up: tuple[ControlType, int] = (ControlType.CURSOR_UP, 1)
        control = Control(ControlType.CARRIAGE_RETURN, erase, *((up, erase) * (rows - 1)))
        return [control, *again]

    def _rows(self, width: int) -> int:
        """How many rows of the terminal a line of this width takes."""
        return max(1, -(-width // max(1, self._console.width)))

    def rendered(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """The lines of the frame, without a newline after the last."""
        lines = console.render_lines(self._frame, options, pad=False)[: max(1, options.size.height)]
        self._widths = [Segment.get_line_length(line) for line in lines]
        for number, line in enumerate(lines):
            if number:
                yield Segment.line()
            yield from line


class _Lines:
    def __init__(self, drawing: Drawing) -> None:
        self._drawing = drawing

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from self._drawing.rendered(console, options)


class _Raw:
    def __init__(self, codes: str) -> None:
        self._codes = codes

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        # With any control code, rich takes the segment to have no width and writes it unchanged.
        yield Segment(self._codes, None, [(ControlType.SHOW_CURSOR,)])


def _raw(codes: str) -> ConsoleRenderable:
    return _Raw(codes)

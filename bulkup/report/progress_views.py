"""How progress is shown while a run works: drawn on a terminal, or as a line now and then."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from rich.console import Console

from bulkup.core.events import Failure, Progress
from bulkup.report.drawing import Drawing
from bulkup.report.keyboard import Keyboard
from bulkup.report.live_view import LiveView
from bulkup.report.progress_text import progress_line
from bulkup.report.status import Work
from bulkup.report.stream import Stream
from bulkup.report.text import timed

LINE_EVERY_S = 10.0
"""Between plain progress lines, so that the log of a night stays readable."""
DRAW_EVERY_S = 0.1
"""Between frames: more would not look smoother, and over ssh every frame costs."""


class ProgressView(Protocol):
    def begin(self, work: Work, handled: int) -> None:
        """A run begins. `handled`: entities that earlier runners have handled."""

    def show(self, progress: Progress) -> None: ...

    def failed(self, failure: Failure) -> None:
        """An entity has failed."""

    def hide(self) -> None:
        """Clear the progress to make room for other output; the next `show` shows it again."""

    def end(self) -> None:
        """The run has ended. May be called twice."""


class NoProgress:
    """Shows nothing."""

    def begin(self, work: Work, handled: int) -> None: ...

    def show(self, progress: Progress) -> None: ...

    def failed(self, failure: Failure) -> None: ...

    def hide(self) -> None: ...

    def end(self) -> None: ...


class PlainLines(NoProgress):
    """A line every LINE_EVERY_S."""

    def __init__(
        self, stream: Stream, clock: Callable[[], float], now: Callable[[], datetime]
    ) -> None:
        self._stream = stream
        self._clock, self._now = clock, now
        self._work = Work("")
        self._shown_at = clock()

    def begin(self, work: Work, handled: int) -> None:
        self._work = work
        self._shown_at = self._clock()

    def show(self, progress: Progress) -> None:
        now = self._clock()
        if now - self._shown_at >= LINE_EVERY_S:
            self._shown_at = now
            work = self._work
            line = progress_line(progress, dry_run=work.dry_run, verifies=work.verifies)
            self._stream.line(timed(line, self._now()))


class Drawn(NoProgress):
    """Draws below what is printed to the console. `captures_stdout`: see `Drawing`. `keyboard`:
    opened during a run; None: no keys are read."""

    def __init__(
        self,
        console: Console,
        clock: Callable[[], float],
        *,
        captures_stdout: Callable[[], bool],
        keyboard: Keyboard | None = None,
    ) -> None:
        self._console = console
        self._clock = clock
        self._captures_stdout = captures_stdout
        self._keyboard = keyboard
        self._view = LiveView(Work(""))
        self._drawing: Drawing | None = None
        self._drawn_at = 0.0
        if keyboard is not None:
            keyboard.on_continue = self._moved

    def begin(self, work: Work, handled: int) -> None:
        self._view = LiveView(work, handled)
        if self._keyboard is not None:
            self._keyboard.open()

    def show(self, progress: Progress) -> None:
        now = self._clock()
        frame = self._view.saw(progress)
        if self._drawing is None:
            self._drawing = Drawing(self._console, captures_stdout=self._captures_stdout())
        elif now - self._drawn_at < DRAW_EVERY_S:
            return
        self._drawn_at = now
        self._drawing.draw(frame)

    def failed(self, failure: Failure) -> None:
        self._view.failed(failure)

    def hide(self) -> None:
        if self._drawing is not None:
            self._drawing.erase()
            self._drawing = None

    def end(self) -> None:
        if self._keyboard is not None:
            self._keyboard.close()
        self.hide()

    def _moved(self) -> None:
        if self._drawing is not None:
            self._drawing.moved()

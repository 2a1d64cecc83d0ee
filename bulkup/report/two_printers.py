"""Printers to combine with another: for progress on stderr, whatever stdout shows."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import datetime
from typing import Any, TextIO

from bulkup.core.errors import BulkupError
from bulkup.core.events import EntityFailed, Event, Progress, RunEnded, RunStarted
from bulkup.report.json_fields import progress_fields
from bulkup.report.jsonl import JsonPrinter
from bulkup.report.printer import Delivery, Printer, ProgressStyle
from bulkup.report.progress_choice import console_of, progress_view
from bulkup.report.status import Status, Work
from bulkup.report.stream import Stream
from bulkup.report.terminal import STATUS_KEY
from bulkup.report.text import clean


class Nowhere(io.StringIO):
    """Drops what is written to it."""

    def write(self, text: str) -> int:
        return len(text)


class Beside(Printer):
    """Passes everything to both printers, except that only `progress`, which shows the progress,
    answers `status`."""

    def __init__(self, results: Printer, progress: Printer) -> None:
        self._results = results
        self._progress = progress

    def __call__(self, event: Event) -> None:
        self._progress(event)  # first, so that what it has drawn is gone before a summary
        self._results(event)

    def delivered(self, delivery: Delivery) -> None:
        self._progress.delivered(delivery)
        self._results.delivered(delivery)

    def error(self, error: BulkupError) -> None:
        self._progress.error(error)
        self._results.error(error)

    def status(self) -> None:
        self._progress.status()

    def line(self, kind: str, fields: Mapping[str, Any]) -> None:
        self._progress.line(kind, fields)
        self._results.line(kind, fields)

    def close(self) -> None:
        with ExitStack() as both:
            both.callback(self._results.close)
            both.callback(self._progress.close)


class LinesBeside(JsonPrinter):
    """The lines of `--json`, on stderr (`err`)."""

    def __init__(
        self,
        err: TextIO,
        *,
        quiet: bool,
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        super().__init__(err, Nowhere(), quiet=quiet, clock=clock, now=now)
        self._latest: Progress | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progress):
            self._latest = event
        super().__call__(event)

    def status(self) -> None:
        """Write a line of progress, even if there was one within the last second."""
        if self._latest is not None:
            self.lines.write("progress", progress_fields(self._latest))


class ProgressBeside(Printer):
    """Draws the progress on stderr, or prints a line now and then, and prints nothing else."""

    def __init__(
        self,
        style: ProgressStyle,
        err: TextIO,
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._stream = Stream(err)
        self._console = console_of(self._stream, forced=style is ProgressStyle.TTY)
        self._status = Status(clock, now)
        self._view = progress_view(
            style, self._console, self._stream, clock, now,
            captures_stdout=lambda: True,  # with --json, an updater's print goes to stderr
            on_key=self._key,
        )  # fmt: skip

    def __call__(self, event: Event) -> None:
        self._status.see(event)
        if isinstance(event, Progress):
            self._view.show(event)
        elif isinstance(event, RunStarted):
            work = Work(clean(event.updater), event.dry_run, event.verifies)
            self._view.begin(work, event.already.handled)
        elif isinstance(event, EntityFailed):
            self._view.failed(event.failure)
        elif isinstance(event, RunEnded):
            self._view.end()

    def delivered(self, delivery: Delivery) -> None: ...

    def error(self, error: BulkupError) -> None:
        self._view.end()

    def status(self) -> None:
        line = self._status.line()
        if self._console.is_terminal:
            self._console.print(line, soft_wrap=True)
        else:
            self._stream.line(line)

    def close(self) -> None:
        self._view.end()
        self._stream.flush()

    def _key(self, key: str) -> None:
        if key == STATUS_KEY:
            self.status()

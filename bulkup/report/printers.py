"""The choice of a printer."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import TextIO

from bulkup.report.printer import Printer, ProgressStyle
from bulkup.report.summary_model import Summaries
from bulkup.report.text import utc_now


def make_printer(  # noqa: PLR0913  # options of the command line, and what tests replace
    *,
    json: bool = False,
    quiet: bool = False,
    verbose: int = 0,
    progress: ProgressStyle = ProgressStyle.AUTO,
    out: TextIO | None = None,
    err: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], datetime] = utc_now,
    summaries: Summaries | None = None,
) -> Printer:
    """The printer for these options. Results go to `out`, everything else to `err`.

    `quiet` keeps only the summary, failures and errors. `clock` (seconds) and `now` (aware) are for
    tests.
    """
    out = sys.stdout if out is None else out
    err = sys.stderr if err is None else err
    summaries = summaries or Summaries()
    as_lines = progress is ProgressStyle.JSON
    if json:
        from bulkup.report.jsonl import JsonPrinter

        printer = JsonPrinter(out, err, quiet=quiet, clock=clock, now=now)
        if quiet or progress is ProgressStyle.AUTO:
            return printer
        from bulkup.report.two_printers import Beside, LinesBeside, ProgressBeside

        if as_lines:
            return Beside(printer, LinesBeside(err, quiet=quiet, clock=clock, now=now))
        return Beside(printer, ProgressBeside(progress, err, clock, now))
    # Imported only here: rich is slow to import, and JSON does not need it.
    from bulkup.report.terminal import Detail, TerminalPrinter

    detail = Detail(quiet, verbose, progress)
    if as_lines:
        from bulkup.report.two_printers import Beside, LinesBeside, Nowhere

        results = TerminalPrinter(out, Nowhere(), detail, clock, now, summaries)
        return Beside(results, LinesBeside(err, quiet=quiet, clock=clock, now=now))
    return TerminalPrinter(out, err, detail, clock, now, summaries)

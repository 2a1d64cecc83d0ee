"""The choice among the printers."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import datetime
from typing import TextIO

from bulkup.report.printer import Printer
from bulkup.report.summary_model import Summaries
from bulkup.report.text import utc_now


def make_printer(
    *,
    json: bool = False,
    quiet: bool = False,
    verbose: int = 0,
    out: TextIO | None = None,
    err: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], datetime] = utc_now,
    summaries: Summaries | None = None,
) -> Printer:
    """The printer for these options. Results go to `out`, everything else to `err`.

    `quiet` leaves the summary, failures and errors. `clock` (seconds) and `now` (aware) are for
    tests.
    """
    out = sys.stdout if out is None else out
    err = sys.stderr if err is None else err
    if json:
        from bulkup.report.jsonl import JsonPrinter

        return JsonPrinter(out, err, quiet=quiet, clock=clock, now=now)
    # Imported only here: rich is slow to import, and JSON does not need it.
    from bulkup.report.terminal import Detail, TerminalPrinter

    return TerminalPrinter(out, err, Detail(quiet, verbose), clock, now, summaries or Summaries())

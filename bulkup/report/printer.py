"""What every printer of events has, and the choice among them."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import TextIO

from bulkup.core.errors import BulkupError
from bulkup.core.events import Event
from bulkup.report.text import utc_now


@dataclass(frozen=True)
class Delivery:
    """What became of a report after the run: saved or mailed, or why not.

    A failed delivery is told to the user and changes nothing about the run or its exit code.
    """

    channel: str
    """`file` or `mail`."""
    ok: bool
    message: str
    """One clean sentence."""


class Printer(ABC):
    """A listener of the engine's events; called from one thread.

    Close it in any case (`with make_printer(...) as printer:`): it may have drawn a bar, or have
    put itself in front of `sys.stdout`. Nothing it does raises because an output is gone.
    """

    @abstractmethod
    def __call__(self, event: Event) -> None:
        """Print `event`, or not."""

    @abstractmethod
    def delivered(self, delivery: Delivery) -> None:
        """Say what `save_report` or `send_report` did."""

    @abstractmethod
    def error(self, error: BulkupError) -> None:
        """Say that `error` ended the command, and its details."""

    @abstractmethod
    def close(self) -> None:
        """Put the terminal and `sys.stdout` back as they were. May be called twice."""

    def __enter__(self) -> Printer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def make_printer(
    *,
    json: bool = False,
    quiet: bool = False,
    verbose: int = 0,
    out: TextIO | None = None,
    err: TextIO | None = None,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], datetime] = utc_now,
) -> Printer:
    """The printer for these options; results go to `out`, all else to `err`.

    `quiet` leaves the summary and errors. `clock` (seconds) and `now` (aware) are for tests.
    """
    out = sys.stdout if out is None else out
    err = sys.stderr if err is None else err
    if json:
        from bulkup.report.jsonl import JsonPrinter

        return JsonPrinter(out, err, quiet=quiet, clock=clock, now=now)
    # rich takes a while to import, and a program that reads JSON does not need it.
    from bulkup.report.terminal import TerminalPrinter

    return TerminalPrinter(out, err, quiet=quiet, verbose=verbose, clock=clock, now=now)

"""Stop requests: the first signal stops after in-flight commits, the second at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from bulkup.core.errors import Exit, StopAskedError
from bulkup.core.model import RunState

_HEARD = b"\r\nStopping after in-flight commits; press Ctrl-C again to stop at once.\r\n"


class Stopped(Exception):
    """The run was asked to stop or reached a limit; it can be resumed."""

    def __init__(self, state: RunState, reason: str, exit_code: Exit) -> None:
        super().__init__(reason)
        self.state = state
        self.reason = reason
        self.exit_code = exit_code


class StopRequest:
    """Set by a signal, and checked by everything that may take long."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.asked_at = 0.0
        """A value of time.monotonic()."""
        self.on_signal: Callable[[], None] = lambda: None
        """Called by the signal handler, so it must do next to nothing."""

    def seconds(self) -> float:
        """Seconds since the request; negative when there is none."""
        return time.monotonic() - self.asked_at if self.signal is not None else -1.0

    def raise_if_asked(self) -> None:
        """For waits before the run starts. Raises StopAskedError."""
        if self.signal is not None:
            code = Exit.SIGTERM if self.signal is signal.Signals.SIGTERM else Exit.SIGINT
            raise StopAskedError(f"interrupted by {self.signal.name} before the run started", code)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catch SIGINT and SIGTERM; the second signal raises KeyboardInterrupt.

        Python delivers signals to the main thread, so a run in another thread cannot catch them.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def heard(number: int, frame: FrameType | None) -> None:
            if self.signal is not None:
                raise KeyboardInterrupt
            self.asked_at = time.monotonic()
            self.signal = signal.Signals(number)
            self.on_signal()
            if number == signal.SIGINT and sys.stderr.isatty():
                # Not through print, which the signal may have interrupted half-way.
                os.write(sys.stderr.fileno(), _HEARD)

        before = {s: signal.signal(s, heard) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

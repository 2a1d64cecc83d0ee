"""Stop requests: the first signal stops after in-flight commits, the second at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from bulkup.core import grpc_forks
from bulkup.core.errors import Exit, StopAskedError
from bulkup.core.model import RunState

HEARD = "Stopping after in-flight commits; press Ctrl-C again to stop at once."
"""What the signal handler prints to the terminal, on a line of its own."""

times_heard = 0
"""How often the handler has printed HEARD. Code that draws on the terminal must know that the
cursor has moved."""


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
        self.cancelled = ""
        """`cancelled by ann@host`: another process has cancelled what this one works on."""
        self.on_signal: Callable[[], None] = lambda: None
        """Called by the signal handler, so it must do next to nothing."""

    @property
    def is_asked(self) -> bool:
        return self.signal is not None or bool(self.cancelled)

    def seconds(self) -> float:
        """Seconds since the request; negative when there is none."""
        return time.monotonic() - self.asked_at if self.is_asked else -1.0

    def cancel(self, reason: str) -> None:
        """Note that another process asks to stop. `reason` is the beginning of a sentence."""
        if not self.is_asked:
            self.asked_at = time.monotonic()
        self.cancelled = reason
        self.on_signal()

    def raise_if_asked(self) -> None:
        """For waits before the run starts. Raises StopAskedError."""
        error = self.error("before the run started")
        if error is not None:
            raise error

    def error(self, when: str) -> StopAskedError | None:
        """The error that ends a command that was asked to stop; None if it was not. `when`
        completes the sentence."""
        if self.signal is not None:
            code = Exit.SIGTERM if self.signal is signal.Signals.SIGTERM else Exit.SIGINT
            return StopAskedError(f"interrupted by {self.signal.name} {when}", code)
        if self.cancelled:
            return StopAskedError(f"{self.cancelled} {when}", Exit.CANCELLED)
        return None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catch SIGINT and SIGTERM; the second signal raises KeyboardInterrupt.

        Python delivers signals to the main thread, so a run in another thread cannot catch them.
        """
        if threading.current_thread() is not threading.main_thread():
            with default_in_forks({}, self):
                yield
            return

        def heard(number: int, frame: FrameType | None) -> None:
            global times_heard
            if self.signal is not None:
                raise KeyboardInterrupt
            self.asked_at = time.monotonic()
            self.signal = signal.Signals(number)
            self.on_signal()
            if number == signal.SIGINT and sys.stderr.isatty():
                # Not through print, which the signal may have interrupted half-way.
                os.write(sys.stderr.fileno(), f"\r\n{HEARD}\r\n".encode())
                times_heard += 1

        before = {s: signal.signal(s, heard) for s in _SIGNALS}
        try:
            with default_in_forks(before, self):
                yield
        finally:
            # If the updater has set a handler of its own, it stays.
            _restore({s: h for s, h in before.items() if signal.getsignal(s) is heard})


def _restore(handlers: Mapping[signal.Signals, Any]) -> None:
    for number, handler in handlers.items():
        # None: the handler was not installed from Python, so Python cannot restore it.
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


# --- processes that the updater forks ---

_listening: list[tuple[Mapping[signal.Signals, Any], StopRequest | None, int]] = []
"""The signals' previous handlers, the stop request, and the thread that set our handlers; outermost
first."""

is_fork = False
"""The updater has forked this process. It looks like the run, but it is not the run. Code that runs
for every call or batch checks this before it calls one of the functions below."""


@contextmanager
def default_in_forks(
    handlers: Mapping[signal.Signals, Any], request: StopRequest | None = None
) -> Iterator[None]:
    """Within this block, a process that is forked from this one gets these signal handlers.

    Otherwise it would inherit ours, which do not end it: `multiprocessing.Pool`, which ends its
    processes with SIGTERM, would wait for them forever.
    """
    entry = handlers, request, threading.get_ident()
    _listening.append(entry)
    try:
        yield
    finally:
        _listening.remove(entry)


def end_if_fork() -> None:
    """End this process if the updater has forked it, and it has returned from the handler.
    Otherwise it would continue as a second run, with the run's connections and its state file."""
    if not is_fork:
        return
    message = (
        f"bulkup: ended process {os.getpid()}, which the updater has forked and which has returned "
        "from its handler; end such a process with os._exit, or use multiprocessing\n"
    )
    os.write(2, message.encode())
    os._exit(0)


class ForkedError(RuntimeError):
    """The updater has forked this process, which calls Datastore through the run's connection."""


def refuse_in_fork() -> None:
    """Raises ForkedError in a process that the updater has forked."""
    if is_fork:
        raise ForkedError(
            "a process that the updater has forked cannot use the run's connection to Datastore "
            "(gRPC does not survive a fork); read and put in the handler, and give such a process "
            "only values"
        )


_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_forking = threading.local()


def _before_fork() -> None:
    """Block signals: one that reaches the new process before its handlers are set would be lost."""
    if _listening:
        grpc_forks.warn_if_unsafe()
        _forking.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)


def _after_fork() -> None:
    mask = _forking.__dict__.pop("mask", None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _forked() -> None:
    global is_fork
    for handlers, request, thread in reversed(_listening):
        # If a program calls `bulkup.run` in one thread, its other threads may fork freely.
        is_fork = is_fork or thread == threading.get_ident()
        _restore(handlers)
        if request is not None:
            request.on_signal()  # so that the handler's return is noticed at once
    _listening.clear()
    _after_fork()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_forked)

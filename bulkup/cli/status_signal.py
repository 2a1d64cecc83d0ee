"""SIGUSR1 makes a process print how its run is doing, even where there is no terminal."""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def answering_status_signals(status: Callable[[], None]) -> Iterator[None]:
    """Inside the context, SIGUSR1 calls `status` on a separate thread.

    Not in the signal handler: that interrupts the main thread anywhere, even while it prints. And
    not later on the main thread: the updater may keep it busy for minutes.
    """

    def heard(number: int, frame: object) -> None:
        # Not threading.Thread, whose locks the interrupted code may hold.
        _thread.start_new_thread(status, ())

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGUSR1) is not signal.SIG_DFL:
        yield  # only the main thread can catch it, or other code already does
        return
    signal.signal(signal.SIGUSR1, heard)
    try:
        yield
    finally:
        # If the updater has set its own handler, that stays. Otherwise ignore the signal: by
        # default it would end this process in its last moments, with another exit code than the
        # run's.
        if signal.getsignal(signal.SIGUSR1) is heard:
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)

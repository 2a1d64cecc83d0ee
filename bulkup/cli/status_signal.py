"""SIGUSR1: whoever sends it gets to see how the run is doing, also where there is no terminal."""

from __future__ import annotations

import _thread
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def answering_status_signals(status: Callable[[], None]) -> Iterator[None]:
    """Meanwhile, SIGUSR1 calls `status` on a thread of its own.

    Not in the signal handler: that interrupts the main thread anywhere, also while it prints. And a
    handler of the updater's may keep the main thread busy for minutes.
    """

    def heard(number: int, frame: object) -> None:
        # Not threading.Thread, whose locks the interrupted code may hold.
        _thread.start_new_thread(status, ())

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGUSR1) is not signal.SIG_DFL:
        yield  # another thread cannot catch it, or somebody else does
        return
    signal.signal(signal.SIGUSR1, heard)
    try:
        yield
    finally:
        # If the updater has set a handler of its own, it stays. Otherwise the signal would end this
        # process in its last moment, with another exit code than the run's.
        if signal.getsignal(signal.SIGUSR1) is heard:
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)

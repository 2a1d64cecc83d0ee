"""Follows the log of a run as long as a process of this machine works on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bulkup.core.log_entry import LogEntry
from bulkup.state.files import RunLock
from bulkup.state.run_log_reader import LogReader

LOOK_EVERY_S = 0.2


def follow_log(
    folder: Path, *, pause: Callable[[float], None] = time.sleep
) -> Iterator[LogEntry | None]:
    """The events of a run, then new ones until its process ends. None: nothing new right now.

    Raises StateError.
    """
    lock = RunLock(folder)
    with LogReader(folder) as reader:
        while True:
            # Check the lock before reading, so that what a process writes before it ends is read.
            is_held = lock.is_held()
            yield from reader.read()
            if not is_held:
                return
            yield None
            pause(LOOK_EVERY_S)

"""Time behind one name, so that tests can replace it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial

# Includes time in which the machine was suspended, if the system has such a clock.
_elapsed = partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True)
class Clock:
    monotonic: Callable[[], float] = time.monotonic
    """Seconds, for durations."""
    unix: Callable[[], float] = time.time
    """Unix time, for anything that another process reads. Where a server is connected, this is the
    server's time: the clocks of two machines may be hours apart."""
    sleep: Callable[[float], None] = time.sleep
    elapsed: Callable[[], float] = _elapsed
    """Seconds on a clock that nobody sets, the same for all processes of this machine. Unlike
    `monotonic` it also counts while the machine is suspended."""

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.unix(), timezone.utc)


def timestamp() -> float:
    """This machine's Unix time in whole milliseconds, the precision of what is shown."""
    return int(time.time() * 1000) / 1000


def rough_age(seconds: float) -> str:
    """How long ago, in its largest unit: `3 days`, `1 hour`, `12 seconds`."""
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        count = int(seconds // size)
        if count > 0:
            return f"{count} {unit}{'s' if count > 1 else ''}"
    count = max(int(seconds), 0)
    return f"{count} second{'' if count == 1 else 's'}"

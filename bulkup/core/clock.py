"""Time behind one name, so that tests can replace it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone


def _suspended() -> float:
    """Seconds that this machine was suspended, since it booted."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()


@dataclass(frozen=True)
class Clock:
    monotonic: Callable[[], float] = time.monotonic
    """Seconds, for durations."""
    unix: Callable[[], float] = time.time
    """Unix time, for anything that another process reads. Where a server is connected, this is the
    server's time: the clocks of two machines may be hours apart."""
    sleep: Callable[[float], None] = time.sleep
    suspended: Callable[[], float] = _suspended
    """Seconds that `monotonic` leaves out, because the machine was suspended."""

    def elapsed(self) -> float:
        """Seconds on a clock that is never set, the same for all processes of this machine."""
        return self.monotonic() + self.suspended()

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.unix(), timezone.utc)

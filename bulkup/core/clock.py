"""Time behind one name, so that tests can replace it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone

_BOOT_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Counts the time in which the machine was suspended, if the system has such a clock."""


@dataclass(frozen=True)
class Clock:
    monotonic: Callable[[], float] = time.monotonic
    """Seconds, for durations."""
    unix: Callable[[], float] = time.time
    """Unix time, for anything that another process reads. Where a server is connected, this is the
    server's time: the clocks of two machines may be hours apart."""
    sleep: Callable[[float], None] = time.sleep

    def elapsed(self) -> float:
        """Seconds on a clock that is never set, the same for all processes of this machine.

        Unlike `monotonic` it also counts while the machine is suspended.
        """
        suspended_s = time.clock_gettime(_BOOT_CLOCK) - time.monotonic()
        return self.monotonic() + suspended_s

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.unix(), timezone.utc)

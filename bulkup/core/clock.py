"""Time behind one name, so that tests can replace it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone


@dataclass(frozen=True)
class Clock:
    monotonic: Callable[[], float] = time.monotonic
    """Seconds, for durations."""
    unix: Callable[[], float] = time.time
    """Unix time, for anything that another process reads."""
    sleep: Callable[[float], None] = time.sleep

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.unix(), timezone.utc)

"""What the thread of a run spends its time on."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from bulkup.core.vitals import Waits


class Doing(IntEnum):
    """What the thread does, or waits for. All but NOTHING are in `Waits`."""

    READING = 0
    HANDLING = 1
    COMMITTING = 2
    PACED = 3
    HELD = 4
    NOTHING = 5
    """Before the work on shards, and after it."""


class Stopwatch:
    """Used from the thread of the run. Switched a few times per batch, and never per entity."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._seconds = [0.0] * len(Doing)
        self._doing = Doing.NOTHING
        self._since = self._began = monotonic()
        self.on_end: Callable[[Doing, float, float], None] | None = None
        """Called with what the thread has done, and from when to when."""

    def switch(self, doing: Doing) -> Doing:
        """Note what the thread does from now on. Returns what it did before, to switch back to."""
        now = self._monotonic()
        before = self._doing
        self._seconds[before] += now - self._since
        self._since, self._doing = now, doing
        if doing is not before:
            if self.on_end is not None:
                self.on_end(before, self._began, now)
            self._began = now
        return before

    def read(self) -> Waits:
        """The seconds up to now."""
        self.switch(self._doing)
        return Waits(*self._seconds[: Doing.NOTHING])

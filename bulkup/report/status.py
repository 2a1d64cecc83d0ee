"""How the current run is doing, in one line, on request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from bulkup.core.events import Event, Progress, RunEnded, RunStarted
from bulkup.report.progress_text import status_line
from bulkup.report.text import clean, duration, timed

OLD_S = 3.0
"""Older progress is shown with its age. It comes every second, unless a handler takes longer."""


@dataclass(frozen=True)
class Work:
    """The run that a progress event is about."""

    title: str
    """Clean."""
    dry_run: bool = False
    verifies: bool = False


class Status:
    """`line` may be called from another thread."""

    def __init__(self, clock: Callable[[], float], now: Callable[[], datetime]) -> None:
        self._clock, self._now = clock, now
        self._work: Work | None = None
        self._latest: tuple[float, Progress] | None = None
        self._began_at = clock()

    def see(self, event: Event) -> None:
        kind = type(event)
        if kind is Progress:
            assert isinstance(event, Progress)
            self._latest = self._clock(), event
        elif kind is RunStarted:
            assert isinstance(event, RunStarted)
            self._work = Work(clean(event.updater), event.dry_run, event.verifies)
            self._latest, self._began_at = None, self._clock()
        elif kind is RunEnded:
            self._work = None

    def line(self) -> str:
        """What the run has done, how it is doing, and the age of this information if it is old."""
        return timed(self._said(), self._now())

    def _said(self) -> str:
        work, latest = self._work, self._latest
        if work is None:
            return "no run is working now"
        if latest is None:
            return f"{work.title}: began {duration(self._clock() - self._began_at)} ago"
        at, progress = latest
        line = status_line(progress, dry_run=work.dry_run, verifies=work.verifies)
        age_s = self._clock() - at
        old = f"; as of {duration(age_s)} ago" if age_s >= OLD_S else ""
        return f"{work.title}: {line}{old}"

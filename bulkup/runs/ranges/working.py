"""A range in progress, as other threads see it and make requests of it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import NamedTuple

SPLIT_WITHIN_S = 5.0
"""How long `try_split` waits for the thread that works on the range. The caller may hold a lock."""


@dataclass(frozen=True)
class RangeProgress:
    """The progress within a range."""

    handled: int = 0
    share: float | None = None
    """How much of the range is handled, 0 to 1; None: not known."""


class SplitRequest(NamedTuple):
    fraction: float
    number: int


class WorkingRange:
    """A range that `RangeWorker.work_on` is working on, for other threads. The caller makes one for
    each call. Every method may be called at any time, also before and after the work."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._is_at_work = False
        self._number = 0
        self._answered = 0
        self._answer: str | None = None
        self.request: SplitRequest | None = None
        """The request to the thread that works on the range; None: there is none."""
        self.why_stop = ""
        """Why the work is to stop; empty if it is not."""
        self._progress = RangeProgress()

    def try_split(self, fraction: float, *, within_s: float = SPLIT_WITHIN_S) -> str | None:
        """End the range early, and give the rest to a new range. Returns the id of the new range,
        which is recorded by then; None if the range was not split and stays whole.

        `fraction`: the share of the remaining entities that stays in this range, 0 to 1. With 0,
        the range ends after the last entity that was given to a handler. Waits at most `within_s`
        for the thread that works on the range. If that thread is recording the split by then, waits
        until it is done.
        """
        with self._changed:
            if not self._is_at_work:
                return None
            self._number += 1
            number = self._number
            self.request = SplitRequest(fraction, number)
            self._changed.wait_for(
                lambda: self._answered >= number or not self._is_at_work, within_s
            )
            if self._answered >= number:
                return self._answer
            if self.request is not None and self.request.number == number:
                self.request = None  # not begun, so it never will be
                return None
            # The split is being recorded. The caller must not believe that the range is whole.
            self._changed.wait_for(lambda: self._answered >= number or not self._is_at_work)
            return self._answer if self._answered >= number else None

    def progress(self) -> RangeProgress:
        """How far the work is. Never waits."""
        return self._progress

    def stop(self, why: str) -> None:
        """Ask for a stop: `work_on` finishes the commits in flight and returns STOPPED. Does not
        wait for that."""
        self.why_stop = why or "asked to stop"

    # --- for the thread that works on the range ---

    def begin(self) -> None:
        with self._changed:
            self._is_at_work = True

    def end(self) -> None:
        with self._changed:
            self._is_at_work = False
            self.request = None
            self._changed.notify_all()

    def take_request(self) -> SplitRequest | None:
        """Take the request, which must then be answered whatever happens; None if there is none."""
        if self.request is None:
            return None
        with self._changed:
            request, self.request = self.request, None
            return request

    def answer(self, request: SplitRequest, new_range: str | None) -> None:
        with self._changed:
            self._answered, self._answer = request.number, new_range
            self._changed.notify_all()

    def is_at(self, progress: RangeProgress) -> None:
        self._progress = progress

"""How far a run is: counts, rate, what it waits for. Emits Progress at least every second."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from bulkup.core.clock import Clock
from bulkup.core.events import Listener, Progress, Retrying
from bulkup.core.model import Counts
from bulkup.datastore.call import Call
from bulkup.datastore.call_error import CallError
from bulkup.datastore.rpc import count_of

RATE_OVER_S = 15.0
"""The rate shown is that of so many last seconds: steady, and still of now."""

EVERY_S = 1.0


class ProgressTracker:
    def __init__(
        self,
        listener: Listener,
        clock: Clock,
        already: Counts,
        pace_text: Callable[[], str] = str,
    ) -> None:
        self._listener = listener
        self._clock = clock
        self._pace_text = pace_text
        self.counts = already
        self.total: int | None = None
        self.retries = 0
        self._count_call: Call[object] | None = None
        self._waiting = ""
        self._started = clock.monotonic()
        self._told = self._started
        self._marks: deque[tuple[float, int]] = deque([(self._started, already.handled)])

    @property
    def elapsed_s(self) -> float:
        return self._clock.monotonic() - self._started

    def ask_total(self, call: Call[object]) -> None:
        """Use the answer of a COUNT once it is there; the run does not wait for it."""
        self._count_call = call

    def add(self, counts: Counts) -> None:
        self.counts = self.counts + counts
        self._waiting = ""

    def retrying(self, error: CallError, attempt: int, wait_s: float, left_s: float) -> None:
        self.retries += 1
        reason = f"{error.call}: {error.code_name}"
        self._waiting = f"{reason}, try {attempt} failed, next in {wait_s:.0f} s"
        self._listener(Retrying(error.call, reason, attempt, wait_s, left_s))
        self.tick(force=True)

    def tick(self, *, force: bool = False) -> None:
        now = self._clock.monotonic()
        if not force and now - self._told < EVERY_S:
            return
        self._told = now
        self._see_total()
        self._marks.append((now, self.counts.handled))
        while len(self._marks) > 2 and now - self._marks[1][0] > RATE_OVER_S:
            self._marks.popleft()
        since, handled = self._marks[0]
        rate = (self.counts.handled - handled) / (now - since) if now > since else 0.0
        self._listener(
            Progress(
                self.counts, self.total, now - self._started, rate, self.retries, self._waiting,
                self._pace_text(),
            )
        )  # fmt: skip

    def _see_total(self) -> None:
        call = self._count_call
        if call is None or not call.done():
            return
        self._count_call = None
        try:
            self.total = count_of(call.first_answer())
        except CallError:
            self.total = None  # some servers cannot count; the bar is indeterminate then

    def close(self) -> None:
        if self._count_call is not None:
            self._count_call.cancel()

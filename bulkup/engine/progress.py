"""Tracks counts, rate and waits of a run, and emits Progress about every second."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable

from bulkup.core.clock import Clock
from bulkup.core.events import Listener, Progress, Retrying
from bulkup.core.model import Counts
from bulkup.datastore.call import Call
from bulkup.datastore.call_error import CallError
from bulkup.datastore.rpc import count_of
from bulkup.engine.vitals import VitalsGauge

RATE_OVER_S = 15.0
"""The displayed rate is an average over this time: long enough to be steady, short enough to be
current."""

EVERY_S = 1.0

UNANSWERED_S = 5.0
"""A server that has not answered for this long is named in the progress."""


class ProgressTracker:
    """`already`: the counts of earlier runners. `rate_limit`: says what limits the rate now.
    `on_total` is called once the number of entities is known. `handled`: how many this runner has
    handled. `unanswered`: the address of the server, and for how long it has not answered."""

    def __init__(
        self,
        listener: Listener,
        clock: Clock,
        already: Counts,
        rate_limit: Callable[[], str | None] = lambda: None,
        on_total: Callable[[int], None] = lambda _: None,
        *,
        handled: Callable[[], int] = lambda: 0,
        unanswered: Callable[[], tuple[str, float]] = lambda: ("", 0.0),
    ) -> None:
        self._listener = listener
        self._clock = clock
        self._rate_limit = rate_limit
        self._on_total = on_total
        self._handled = handled
        self._unanswered = unanswered
        self.counts = self._before = already
        self.total: int | None = None
        self.retries = 0
        self.retries_by: Counter[str] = Counter()
        """By call and error: `Commit: UNAVAILABLE`."""
        self.gauge: VitalsGauge | None = None
        """Reads the vitals of a run or of a dry run; None if this is neither."""
        self._count_call: Call[object] | None = None
        self._waiting: str | None = None
        self._started = clock.monotonic()
        self._emitted_at = self._started
        self._samples: deque[tuple[float, int]] = deque([(self._started, already.handled)])

    @property
    def elapsed_s(self) -> float:
        return self._clock.monotonic() - self._started

    def began_at(self, began: float) -> None:
        """The work began earlier, at this time of the monotonic clock."""
        self._started = began

    @property
    def counts_here(self) -> Counts:
        """The counts of this runner alone."""
        return self.counts - self._before

    def ask_total(self, call: Call[object]) -> None:
        """Show the answer of a COUNT call once it arrives; the run does not wait for it."""
        self._count_call = call

    def await_total(self, seconds: float, nap: Callable[[float], None]) -> None:
        """Wait at most `seconds` for the answer of the COUNT call, if there is one."""
        end = self._clock.monotonic() + seconds
        while (call := self._count_call) is not None and self._clock.monotonic() < end:
            if call.done():
                self._see_total()
            else:
                nap(min(0.02, seconds))

    def total_is(self, total: int) -> None:
        """Note the total, which is known without a COUNT call."""
        self.total = total
        self._on_total(total)

    def begin_with(self, counts: Counts) -> None:
        """Begin with what earlier runners have done, once that is known for certain."""
        self.counts = self._before = counts

    def add(self, counts: Counts) -> None:
        self.counts = self.counts + counts
        self._waiting = None

    def retrying(self, error: CallError, attempt: int, wait_s: float, left_s: float) -> None:
        self.retries += 1
        reason = f"{error.call}: {error.code_name}"
        self.retries_by[reason] += 1
        self._waiting = f"{reason}, try {attempt} failed, next in {wait_s:.0f} s"
        self._listener(Retrying(error.call, reason, attempt, wait_s, left_s))
        self.tick(force=True)

    def tick(self, *, force: bool = False) -> None:
        now = self._clock.monotonic()
        if not force and now - self._emitted_at < EVERY_S:
            return
        self._emitted_at = now
        self._see_total()
        handled_now = max(self.counts.handled, self._before.handled + self._handled())
        self._samples.append((now, handled_now))
        while len(self._samples) > 2 and now - self._samples[1][0] > RATE_OVER_S:
            self._samples.popleft()
        since, handled = self._samples[0]
        rate = (handled_now - handled) / (now - since) if now > since else 0.0
        waiting, vitals = self._waiting or self._waiting_for(), None
        if self.gauge is not None:
            vitals = self.gauge.read(waiting, self.counts_here.conflicts, self.retries_by)
            waiting = vitals.why or None
        self._listener(
            Progress(
                self.counts, self.total, now - self._started, rate, self.retries,
                waiting, self._rate_limit(), handled_now, vitals,
            )
        )  # fmt: skip

    def _waiting_for(self) -> str | None:
        address, seconds = self._unanswered()
        return f"waiting for {address}, {seconds:.0f} s" if seconds >= UNANSWERED_S else None

    def _see_total(self) -> None:
        call = self._count_call
        if call is None or not call.done():
            return
        self._count_call = None
        try:
            self.total = count_of(call.first_answer())
        except CallError:
            self.total = None  # some servers cannot count; the progress bar has no end then
        else:
            self._on_total(self.total)

    def close(self) -> None:
        if self._count_call is not None:
            self._count_call.cancel()

"""The rate limit of a run: the ramp, the user's limit, and the backoff, whichever is lowest.

Pure: it says when something may be sent; others wait and send. There is one object per run,
whatever the number of shards and processes, and it is used from one thread. The allowed rate is a
curve over time, and what may be sent is the area below it, so no batch is sent before the curve has
room for all of it. Unused room is lost, except for the last half second: a run does not catch up
after a pause.
"""

from __future__ import annotations

import math

from bulkup.core.clock import Clock
from bulkup.engine.throttle.backoff import Backoff
from bulkup.engine.throttle.batch_size import BatchSize
from bulkup.engine.throttle.max_rate import MaxRate
from bulkup.engine.throttle.ramp import RAMP_EVERY_S, WINDOW_S, Ramp, Warm

SLACK_S = 0.5
"""Seconds of unused rate that are kept: a sender that always has work may be this late without
losing any."""

BATCH_S = 1.0
"""A batch is no larger than what may be sent in this time. Otherwise a slow rate would be sent in
bursts."""

CLOSE_ENOUGH = 1e-3
"""Operations. A sender that has waited as long as told must not be told to wait a nanosecond."""


class RateLimiter:
    """Call `wait_s`, wait, call it again until it returns 0, then `spend` and send.

    `ramps`: the target is a real project. Emulators and the embedded Datastore need no ramp, so
    there `auto` means no limit. A number is an upper limit of the ramp, and the only limit where
    there is no ramp. Without any limit there is no backoff either: `off` turns everything off.

    Senders are served in the order in which they spend. A sender that needs many operations could
    wait for long while others keep taking a few, so senders should queue.
    """

    def __init__(
        self, rate: MaxRate, *, ramps: bool, clock: Clock, warm: Warm | None = None
    ) -> None:
        self._clock = clock
        self._own_ramp = Ramp(warm, clock.unix()) if ramps else None
        """Kept even while the limit is off."""
        self._ramp: Ramp | None
        self._is_limited: bool
        """Without a limit the rate stays infinite: there is nothing that backoff could lower."""
        self._set(rate)
        self._backoff = Backoff()
        self._size = BatchSize()
        self._batch = 0
        """Entities in the batches that are being made; 0 if nobody has asked yet."""
        self._at = self._window_from = clock.monotonic()
        self._room = 0.0
        """Operations that may be sent now. Negative after some were sent without asking."""
        self._used = 0.0
        """Operations that this window had room for, without the room that was lost unused."""
        self._asked = 0
        """The largest number of operations that a sender is waiting to send at once."""

    def _set(self, rate: MaxRate) -> None:
        self.max_rate = rate
        self._max_rate = math.inf if rate.per_s is None else rate.per_s
        self._ramp = None if rate.is_off else self._own_ramp
        self._is_limited = self._max_rate < math.inf or self._ramp is not None

    def tune(self, rate: MaxRate) -> None:
        """Use this as the user's limit from now on."""
        if rate == self.max_rate:
            return
        now = self._advance()
        if not self._is_limited:
            self._at = self._window_from = now
            self._room = self._used = 0.0
        self._set(rate)
        if not self._is_limited:
            self._backoff = Backoff()

    # --- when to send ---

    @property
    def rate(self) -> float:
        """Operations per second that are allowed now; infinite: no limit."""
        self._advance()
        return self._rate

    @property
    def _rate(self) -> float:
        return min(self._ceiling, self._backoff.rate) if self._is_limited else math.inf

    @property
    def _ceiling(self) -> float:
        """The rate without backoff."""
        return min(self._max_rate, self._ramp.rate if self._ramp else math.inf)

    def wait_s(self, operations: int) -> float:
        """Seconds until this many operations may be sent at once; 0.0: now.

        An estimate from the current rate: call it again after waiting, or at any time before.
        """
        if not self._is_limited:
            return 0.0
        self._advance()
        self._asked = max(self._asked, operations)
        missing = operations - self._room
        return missing / self._rate if missing > CLOSE_ENOUGH else 0.0

    def spend(self, operations: int) -> None:
        """Note that this many operations are sent now.

        Operations that are sent without asking (a commit sent again, say) are a debt, which the
        next ones wait for.
        """
        if self._is_limited:
            self._advance()
            self._room -= operations
            self._asked = operations

    # --- what the server says ---

    def refused(self, code: str) -> None:
        """Note that an attempt has failed with this status. Only RESOURCE_EXHAUSTED and ABORTED
        slow the run.

        Do not call it for requests that are refused because of their own size.
        """
        if self._is_limited and self._backoff.refused(code, self._advance(), self._rate):
            self._restart_step()

    def answered(self, operations: int, latency_s: float) -> None:
        """Note that a commit of this many operations was applied, this long after it was (last)
        sent."""
        now = self._advance()
        if self._batch:
            self._size.answered(operations, latency_s, now, self._batch)
        if self._is_limited and self._backoff.answered(latency_s, now, self._rate, self._ceiling):
            self._restart_step()

    def _restart_step(self) -> None:
        if self._ramp:
            self._ramp.earned_s = 0.0

    # --- batch size ---

    def batch_size(self, most: int) -> int:
        """How many entities to put into the next batch: at least 1, at most `most`."""
        self._batch = max(1, int(min(most, self._size.entities, self._rate * BATCH_S)))
        return self._batch

    # --- what to show and to store ---

    def text(self) -> str | None:
        """For the progress line: the rate limit in force and why; None: no limit."""
        if not self._is_limited:
            return None
        now, rate = self._advance(), self._rate
        if rate < self._ceiling:
            next_try = _minutes(self._backoff.next_try_s(now))
            return f"slowed to {_number(rate)}/s: {self._backoff.reason}, next try in {next_try}"
        if self._ramp is None or self._max_rate <= self._ramp.rate:
            return f"at most {_number(rate)}/s (--max-rate)"
        if not self._ramp.is_used:
            return f"ramp-up {_number(rate)}/s, not all used"
        left = RAMP_EVERY_S - self._ramp.earned_s - (now - self._window_from)
        return f"ramp-up {_number(rate)}/s, next step in {_minutes(left)}"

    def why(self) -> str:
        """What sets the rate limit in force, in words that stay the same while it does; empty if
        there is no limit."""
        if not self._is_limited:
            return ""
        self._advance()
        if self._rate < self._ceiling:
            return f"slowed: {self._backoff.reason}"
        return (
            "--max-rate" if self._ramp is None or self._max_rate <= self._ramp.rate else "ramp-up"
        )

    def warm(self) -> Warm | None:
        """What the ramp has reached, for the next runner of this run; None without a ramp."""
        ramp = self._ramp
        if ramp is None:
            return None
        self._advance()
        return Warm(ramp.rate, ramp.used_at, ramp.earned_s)

    # --- the curve ---

    def _advance(self) -> float:
        """Account for the time until now, and return it. The rate is constant within a window and
        between two calls."""
        now = self._clock.monotonic()
        if not self._is_limited:
            return now
        unix = self._clock.unix()
        while (end := self._window_from + WINDOW_S) <= now:
            self._gain(end)
            if self._ramp:
                slowed = self._backoff.rate < math.inf
                self._ramp.judge(self._used, unix - (now - end), slowed=slowed)
                self._ramp.cool(unix - (now - end))
            self._window_from, self._used = end, 0.0
        self._gain(now)
        if self._ramp:
            self._ramp.cool(unix)
        return now

    def _gain(self, until: float) -> None:
        gain = self._rate * (until - self._at)
        full = self._asked + self._rate * SLACK_S
        kept = max(0.0, min(gain, full - self._room))
        self._at = until
        self._room += kept
        self._used += kept


def _number(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def _minutes(seconds: float) -> str:
    whole = math.ceil(max(0.0, seconds))
    return f"{whole // 60}:{whole % 60:02}"

"""Backoff: slows down when the server refuses commits or gets slow, then recovers step by step."""

from __future__ import annotations

import math
from collections import deque
from statistics import median

REFUSALS = frozenset({"RESOURCE_EXHAUSTED", "ABORTED"})
"""Codes by which Datastore asks for less traffic: a quota or a key range's capacity is exceeded
(RESOURCE_EXHAUSTED), or transactions contend (ABORTED)."""

SLOWS_TO = 0.7
SLOWS_EVERY_S = 10.0
"""At most this often: commits in flight when the rate changed say nothing about the new rate."""

SLOWEST = 25.0
"""Operations per second. The rate never goes below this."""

RECOVERS_AFTER_S = 30.0
"""Seconds without trouble before the first step up, and before each further one."""
RECOVERS_BY = 1.25

ABORTS_BORNE = 1 / 20
"""Share of commits. ABORTED as rare as this is contention on a few entities, which slowing down
cannot fix."""

LATENCY_RISES = 3.0
"""A latency this many times the normal one is high, if it is also above HIGH_LATENCY_S, which is
well above what the batch size aims at."""
HIGH_LATENCY_S = 2.0

NORMAL_OVER_S = 600.0
"""The normal latency is the best one in this time: if slowing down has not improved the latency in
all that time, it is the new normal."""

SMOOTHED_OVER = 9
"""Commits whose median latency is used, so that a single slow commit changes nothing."""
JUDGED_BY = 5


class Backoff:
    """`rate`: operations per second that are allowed for now; infinite when there is no trouble."""

    def __init__(self) -> None:
        self.rate = math.inf
        self.reason = ""
        self._slowed_at = -math.inf
        self._troubled_at = -math.inf
        self._aborts_borne = 0.0
        self._latencies: deque[float] = deque(maxlen=SMOOTHED_OVER)
        self._lows: deque[tuple[float, float]] = deque()
        """Times and latencies. Latencies increase from first to last, so the first is the lowest.
        """
        self._high_since: float | None = None

    def refused(self, code: str, now: float, allowed: float) -> bool:
        """Note a refused commit. Returns whether the rate was lowered. `allowed`: the rate at which
        the refused commits were sent."""
        if code not in REFUSALS:
            return False
        if code == "ABORTED" and self._aborts_borne >= 1:
            self._aborts_borne -= 1
            return False
        return self._slow(code, now, allowed)

    def answered(self, latency_s: float, now: float, allowed: float, ceiling: float) -> bool:
        """Note an answered commit. Returns whether the rate was lowered. `ceiling`: the rate that
        would be allowed without trouble."""
        self._aborts_borne = min(1.0, self._aborts_borne + ABORTS_BORNE)
        self._latencies.append(latency_s)
        if len(self._latencies) >= JUDGED_BY and self._is_high(now):
            assert self._high_since is not None
            if now - self._high_since >= SLOWS_EVERY_S:
                self._high_since = now
                return self._slow(f"commits take {median(self._latencies):.1f} s", now, allowed)
            return False
        if self.rate < math.inf and self.next_try_s(now) <= 0:
            self.rate *= RECOVERS_BY
            self._troubled_at = now
            if self.rate >= ceiling:
                self.rate, self.reason = math.inf, ""
        return False

    def next_try_s(self, now: float) -> float:
        return max(0.0, self._troubled_at + RECOVERS_AFTER_S - now)

    def _slow(self, reason: str, now: float, allowed: float) -> bool:
        self._troubled_at = now
        if now - self._slowed_at < SLOWS_EVERY_S:
            return False
        self._slowed_at = now
        self.reason = reason
        self.rate = max(SLOWEST, allowed * SLOWS_TO)
        return True

    def _is_high(self, now: float) -> bool:
        latency = median(self._latencies)
        while self._lows and self._lows[-1][1] >= latency:
            self._lows.pop()
        self._lows.append((now, latency))
        while now - self._lows[0][0] > NORMAL_OVER_S:
            self._lows.popleft()
        if latency <= max(HIGH_LATENCY_S, LATENCY_RISES * self._lows[0][1]):
            self._high_since = None
            return False
        if self._high_since is None:
            self._high_since = now
        return True

"""How fast a run may go: Datastore's ramp, the user's limit, and what the server bears just now.

Pure: it says when something may go, others wait and send. One object for a whole run, whatever
the number of its shards and processes, used from one thread. The allowed rate is a curve over
time, and what may go is the area below it, so that no batch goes before the curve has room for
all of it. Room that nobody uses is lost, but for half a second of it: after a pause nothing is
made up for.

The ramp is Datastore's 500/50/5 rule (https://cloud.google.com/datastore/docs/best-practices,
"Ramping up traffic"): begin with at most 500 operations a second, then half as much again every
5 minutes, so that it has time to split the key ranges that the traffic goes to. It does that for
traffic it sees, so here only such time counts:

    10 seconds in which this much of the      what follows
    ramp's rate was really used
    at least 90 %                             they count towards the 5 minutes of the next step
    at least 60 %                             nothing: the step is neither earned nor lost
    less, for 5 minutes                       one step down, but not below 500
    a refusal, or slow commits                the 5 minutes begin again

A pause between two runners of a run is time in which nothing was used: every 5 minutes of it cost
one step. So does a suspended machine, since that is counted by the clock on the wall.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from bulkup.core.clock import Clock
from bulkup.core.errors import UsageError
from bulkup.engine.throttle.backoff import Backoff
from bulkup.engine.throttle.batch_size import BatchSize

RAMP_FROM = 500.0
"""Operations per second; see the module's source for all three."""
RAMP_BY = 1.5
RAMP_EVERY_S = 300.0

EARNS = 0.9
KEEPS = 0.6
"""Below 1/1.5, or traffic that earned a step and gets no faster would lose it again."""

WINDOW_S = 10.0
"""Use is judged over so long."""

SLACK_S = 0.5
"""Of the rate: so late may a sender be that had something to send, without losing room."""

BATCH_S = 1.0
"""A batch is no larger than what may go in so long, or slow rates would go in jerks."""

CLOSE_ENOUGH = 1e-3
"""Of an operation: whoever has waited as long as told must not be told to wait a nanosecond."""


@dataclass(frozen=True)
class MaxRate:
    """What the user wants: `auto`, `off`, or a number of entities a second."""

    per_s: float | None = None
    """None: auto. Infinite: off."""

    @classmethod
    def parse(cls, text: str) -> MaxRate:
        """Raises UsageError."""
        word = text.strip().lower()
        if word == "auto":
            return cls()
        if word == "off":
            return cls(math.inf)
        try:
            per_s = float(word)
        except ValueError:
            per_s = math.nan
        if not 0 < per_s < math.inf:
            raise UsageError(
                f"{text!r} is not a rate; say auto, off, or how many entities a second, like 200"
            )
        return cls(per_s)

    @property
    def is_auto(self) -> bool:
        return self.per_s is None

    @property
    def is_off(self) -> bool:
        return self.per_s == math.inf

    def __str__(self) -> str:
        if self.per_s is None:
            return "auto"
        return "off" if self.is_off else f"{self.per_s:g}"


@dataclass(frozen=True)
class Warm:
    """What traffic Datastore is ready for, and since when. Goes to where JSON goes."""

    rate: float
    """Operations per second that the ramp has reached."""
    used_at: float
    """Unix time at which that was last really used."""
    earned_s: float
    """Of the 5 minutes until the next step."""


class Ramp:
    """See the module's table. `rate` changes only at the end of a window and in `cool`."""

    def __init__(self, warm: Warm | None, unix: float) -> None:
        self.rate = RAMP_FROM
        self.earned_s = 0.0
        self.used_at = unix
        self.is_used = True
        """In the last window, as far as it could be."""
        if warm is not None and math.isfinite(warm.rate) and math.isfinite(warm.used_at):
            self.rate = max(RAMP_FROM, warm.rate)
            self.used_at = warm.used_at
            self.earned_s = min(max(0.0, warm.earned_s), RAMP_EVERY_S)
            self.cool(unix)

    def judge(self, operations: float, unix: float, *, slowed: bool) -> None:
        """A window is over."""
        share = operations / (self.rate * WINDOW_S)
        self.is_used = slowed or share >= EARNS
        if share >= KEEPS:
            self.used_at = unix
        if slowed or not self.is_used:
            return
        self.earned_s += WINDOW_S
        if self.earned_s >= RAMP_EVERY_S:
            self.rate *= RAMP_BY
            self.earned_s = 0.0

    def cool(self, unix: float) -> None:
        """Steps that were not used for so long are lost."""
        self.used_at = min(self.used_at, unix)  # a clock that was set back, or another machine's
        steps = int((unix - self.used_at) // RAMP_EVERY_S)
        if steps:
            self.used_at += steps * RAMP_EVERY_S
            self.earned_s = 0.0
            self.rate = max(RAMP_FROM, self.rate / RAMP_BY ** min(steps, 100))


class RateLimiter:
    """Ask `wait_s`, wait, ask again until it says 0, then `spend` and send.

    `ramps`: against a real project. Emulators and the embedded Datastore need no ramp; there
    `auto` is no limit at all. A number limits the ramp, and is the only limit where there is none.
    Where there is no limit nothing slows down either: `off` means it.

    Several senders are served in the order in which they spend; who asks for much while others
    keep taking little may wait for long, so let them wait in line.
    """

    def __init__(
        self, rate: MaxRate, *, ramps: bool, clock: Clock, warm: Warm | None = None
    ) -> None:
        self._most = math.inf if rate.per_s is None else rate.per_s
        self._clock = clock
        self._ramp = Ramp(warm, clock.unix()) if ramps and not rate.is_off else None
        self._backoff = Backoff()
        self._size = BatchSize()
        self._batch = 0
        """Entities of the batches that are made now; 0: nobody has asked yet."""
        self._at = self._window_from = clock.monotonic()
        self._room = 0.0
        """Operations that may go now. Negative after something went without asking."""
        self._used = 0.0
        """Operations of this window that were not lost for want of use."""
        self._asked = 0

    # --- when ---

    @property
    def rate(self) -> float:
        """Operations a second that are allowed now; infinite: as many as can be."""
        self._advance()
        return self._rate

    @property
    def _rate(self) -> float:
        return min(self._ceiling, self._backoff.rate)

    @property
    def _ceiling(self) -> float:
        return min(self._most, self._ramp.rate if self._ramp else math.inf)

    def wait_s(self, operations: int) -> float:
        """Seconds until so many operations may go all at once; 0.0: now.

        An estimate by the rate of now: ask again after waiting, or any time before.
        """
        self._advance()
        if self._rate == math.inf:
            return 0.0
        self._asked = max(self._asked, operations)
        missing = operations - self._room
        return missing / self._rate if missing > CLOSE_ENOUGH else 0.0

    def spend(self, operations: int) -> None:
        """So many operations go now.

        What goes without having asked (a commit that has to be sent again, say) is owed, and the
        next ones wait for it.
        """
        self._advance()
        if self._rate < math.inf:
            self._room -= operations
            self._asked = operations

    # --- what the server says ---

    def refused(self, code: str) -> None:
        """An attempt ended with this status (`RESOURCE_EXHAUSTED`, ...); others are ignored.

        Not for requests that are refused for their own size.
        """
        now = self._advance()
        if self._rate < math.inf and self._backoff.refused(code, now, self._rate):
            self._start_over()

    def answered(self, operations: int, latency_s: float) -> None:
        """A commit of so many operations was applied, so long after it was (last) sent."""
        now = self._advance()
        if self._batch:
            self._size.answered(operations, latency_s, now, self._batch)
        if self._rate < math.inf and self._backoff.answered(
            latency_s, now, self._rate, self._ceiling
        ):
            self._start_over()

    def _start_over(self) -> None:
        if self._ramp:
            self._ramp.earned_s = 0.0

    # --- how much at once ---

    def batch_size(self, most: int) -> int:
        """Entities for the next batch, at least 1 and at most `most`."""
        self._batch = max(1, int(min(most, self._size.entities, self._rate * BATCH_S)))
        return self._batch

    # --- what to say and to keep ---

    def text(self) -> str | None:
        """For the progress line: the rate limit in force and why; None: no limit."""
        now, rate = self._advance(), self._rate
        if rate == math.inf:
            return None
        if rate < self._ceiling:
            next_try = _minutes(self._backoff.next_try_s(now))
            return f"slowed to {_number(rate)}/s: {self._backoff.reason}, next try in {next_try}"
        if self._ramp is None or self._most <= self._ramp.rate:
            return f"at most {_number(rate)}/s (--max-rate)"
        if not self._ramp.is_used:
            return f"ramp-up {_number(rate)}/s, not all used"
        left = RAMP_EVERY_S - self._ramp.earned_s - (now - self._window_from)
        return f"ramp-up {_number(rate)}/s, next step in {_minutes(left)}"

    def warm(self) -> Warm | None:
        """For the next runner of this run; None where there is no ramp."""
        self._advance()
        ramp = self._ramp
        return Warm(ramp.rate, ramp.used_at, ramp.earned_s) if ramp else None

    # --- the curve ---

    def _advance(self) -> float:
        """Let the time pass until now. The rate is constant between two windows and two calls."""
        now, unix = self._clock.monotonic(), self._clock.unix()
        if self._rate == math.inf:
            return now
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

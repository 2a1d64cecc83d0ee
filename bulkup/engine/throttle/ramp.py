"""Datastore's rule for ramping up traffic.

The 500/50/5 rule (https://cloud.google.com/datastore/docs/best-practices, "Ramping up traffic"):
start with at most 500 operations per second, then add 50 % every 5 minutes, so that Datastore has
time to split the key ranges that get the traffic. Datastore splits because of traffic it sees, so
only time with traffic counts here:

    used in 10 seconds, as a share            effect
    of the ramp's rate
    at least 90 %                             the seconds count towards the next step (5 minutes)
    at least 60 %                             none: the step is neither earned nor lost
    less, for 5 minutes                       one step down, but not below 500
    a refusal, or slow commits                the 5 minutes start again

A pause between two runners of a run is time without traffic: every 5 minutes of it cost one step.
So does the time in which the machine is suspended, because Unix time is used for this.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

RAMP_FROM = 500.0
"""Operations per second; see the module's source for all three."""
RAMP_BY = 1.5
RAMP_EVERY_S = 300.0

EARNS = 0.9
KEEPS = 0.6
"""Below 1/1.5: otherwise traffic that earned a step and gets no faster would lose it again."""

WINDOW_S = 10.0
"""Use of the rate is judged over this time."""


@dataclass(frozen=True)
class Warm:
    """The traffic that Datastore is ready for, and since when. Stored as JSON."""

    rate: float
    """Operations per second that the ramp has reached."""
    used_at: float
    """Unix time at which that rate was last really used."""
    earned_s: float
    """Seconds earned of the 5 minutes until the next step."""


class Ramp:
    """See the module's table. `rate` changes only at the end of a window and in `cool`."""

    def __init__(self, warm: Warm | None, unix: float) -> None:
        self.rate = RAMP_FROM
        self.earned_s = 0.0
        self.used_at = unix
        self.is_used = True
        """The rate was used in the last window, as far as it could be."""
        if warm is not None and math.isfinite(warm.rate) and math.isfinite(warm.used_at):
            self.rate = max(RAMP_FROM, warm.rate)
            self.used_at = warm.used_at
            self.earned_s = min(max(0.0, warm.earned_s), RAMP_EVERY_S)
            self.cool(unix)

    def judge(
        self, operations: float, unix: float, *, slowed: bool, window_s: float = WINDOW_S
    ) -> None:
        """Judge how far the rate was used in a window that has ended."""
        share = operations / (self.rate * window_s)
        self.is_used = slowed or share >= EARNS
        if share >= KEEPS:
            self.used_at = unix
        if slowed or not self.is_used:
            return
        self.earned_s += window_s
        if self.earned_s >= RAMP_EVERY_S:
            self.rate *= RAMP_BY
            self.earned_s = 0.0

    def cool(self, unix: float) -> None:
        """Go down one step for every 5 minutes in which the rate was not used."""
        self.used_at = min(self.used_at, unix)  # a clock was set back, or is another machine's
        steps = int((unix - self.used_at) // RAMP_EVERY_S)
        if steps:
            self.used_at += steps * RAMP_EVERY_S
            self.earned_s = 0.0
            self.rate = max(RAMP_FROM, self.rate / RAMP_BY ** min(steps, 100))


def ramp_seconds(operations: int, fastest: float) -> float:
    """How long this many operations take at least, from a cold start, for a sender that could send
    `fastest` a second; infinite: no limit."""
    seconds, rate = 0.0, RAMP_FROM
    left = float(operations)
    while rate < fastest and left > rate * RAMP_EVERY_S:
        left -= rate * RAMP_EVERY_S
        seconds += RAMP_EVERY_S
        rate *= RAMP_BY
    return seconds + left / min(rate, fastest)

"""What the conductor of a run writes into the run's record. The conductor is one of the workers on
the run's ranges. It adds up what all have done, and says how fast each may be and whether to stop.

Nothing here reads the clock or calls Datastore, so a test can conduct a hundred workers for hours.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import astuple, replace

from bulkup.core.errors import Exit
from bulkup.core.max_failures import MaxFailures
from bulkup.core.model import Counts, RunState
from bulkup.engine.throttle.max_rate import MaxRate
from bulkup.engine.throttle.ramp import Ramp, Warm
from bulkup.state.ranges import is_finished, total_of, worker_of
from bulkup.state.record import LEASE_S, LOOK_EVERY_S, RangePlan, RunRecord, StopOrder

GRACE_S = LOOK_EVERY_S + 2.0
"""How long a worker waits after it was given a share of the rate. Until then, others may not know
that their own share has become smaller."""

OVER_S = 45.0
"""The time over which the use of the rate is judged. What a range has done is known only when its
lease is renewed, every 15 s, and not at the same moment for all ranges."""


def conducted(
    parent: RunRecord, ranges: Sequence[RunRecord], pace: Pace, now: float, *, me: str = ""
) -> RunRecord:
    """The run's record as it is to be written at `now`, by the server's time. `me`: the worker that
    conducts; empty if it has no range."""
    plan = parent.ranges
    assert plan is not None
    counts = total_of(plan, ranges)
    rate, warm = pace.rate(parent, counts, now)
    return replace(
        parent,
        # A worker that takes over a range with an empty checkpoint reports too little until it has
        # recovered.
        counts=max(parent.counts, counts, key=lambda one: one.handled),
        warm=astuple(warm) if warm is not None else parent.warm,
        ranges=replace(
            plan,
            rate=rate,
            workers=workers_of(ranges, now, me=me),
            at=int(now),
            finished=sum(map(is_finished, ranges)),
            total=len(ranges),
            stop=plan.stop or _over_budget(plan, counts, parent.total),
        ),
    )


def workers_of(ranges: Sequence[RunRecord], now: float, *, me: str = "") -> tuple[str, ...]:
    """The workers that share the rate: those that hold a range, and those that held one recently
    and may be about to take the next."""
    found = {me} if me else set()
    for record in ranges:
        holder = record.lease.holder
        if holder is not None and (record.lease.is_held(now) or now - record.ended < LEASE_S):
            found.add(worker_of(holder))
    return tuple(sorted(found))


def _over_budget(plan: RangePlan, counts: Counts, total: int | None) -> StopOrder | None:
    allowed = MaxFailures.of(plan.max_failures).allowed(counts.handled, total)
    if not 0 <= allowed < counts.failed:
        return None
    reason = f"{counts.failed:,} entities failed, more than {allowed:,} (--max-failures)"
    return StopOrder(RunState.FAILED, reason, int(Exit.FAILED))


def share_of(plan: RangePlan, worker: str) -> MaxRate:
    """How fast a worker may be. A worker that the conductor does not know yet gets the share that
    it would have if it were known."""
    if not plan.rate:
        return MaxRate(math.inf)
    return MaxRate(plan.rate / max(1, len({*plan.workers, worker})))


class Pace:
    """How fast all workers together may be. `is_real`: the target is a real project, so its rate
    ramps up."""

    def __init__(self, *, is_real: bool) -> None:
        self._is_real = is_real
        self._seen: deque[tuple[float, int]] = deque()
        """Times within the last OVER_S, and how many entities were handled by each."""

    def rate(self, parent: RunRecord, counts: Counts, now: float) -> tuple[float, Warm | None]:
        """Entities per second (0: no limit), and the state of the ramp with which the next
        conductor begins."""
        assert parent.ranges is not None
        limit = MaxRate.parse(parent.steering.tuning.max_rate or parent.ranges.max_rate)
        warm = self._ramped(parent, counts.handled, now) if self._is_real else None
        if limit.is_off:
            return 0.0, warm
        most = math.inf if limit.per_s is None else limit.per_s
        if warm is not None:
            most = min(most, warm.rate)
        return (0.0 if math.isinf(most) else most), warm

    def _ramped(self, parent: RunRecord, handled: int, now: float) -> Warm:
        ramp = Ramp(Warm(*parent.warm) if parent.warm else None, now)
        last = self._seen[-1][0] if self._seen else now
        self._seen.append((now, handled))
        while len(self._seen) > 2 and now - self._seen[1][0] >= OVER_S:
            self._seen.popleft()
        since, before = self._seen[0]
        if now > last and now - since >= OVER_S:
            done = max(0, handled - before) / (now - since) * (now - last)
            ramp.judge(done, now, slowed=False, window_s=now - last)
        ramp.cool(now)
        return Warm(ramp.rate, ramp.used_at, ramp.earned_s)

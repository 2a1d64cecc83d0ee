"""Reads how a runner is doing, about once a second, for its progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from bulkup.core.vitals import Phase, Vitals
from bulkup.engine.latencies import Latencies
from bulkup.engine.stopwatch import Stopwatch
from bulkup.engine.throttle.rate import RateLimiter
from bulkup.engine.throttling import Throttle

if TYPE_CHECKING:
    from bulkup.engine.scheduler import Scheduler

Held = tuple[Phase, str]
"""PAUSED or HELD, and why."""


class VitalsGauge:
    """`held`: whether the runner is paused or held now, and why."""

    def __init__(
        self,
        rate: RateLimiter,
        monotonic: Callable[[], float],
        held: Callable[[], Held | None] = lambda: None,
    ) -> None:
        self.stopwatch = Stopwatch(monotonic)
        self.latencies = Latencies(monotonic)
        self._rate = rate
        self._held = held
        self._scheduler: Scheduler | None = None
        self._throttle: Throttle | None = None

    def watch(self, scheduler: Scheduler, throttle: Throttle) -> None:
        """From now on there are commits and shards to look at. A dry run has none."""
        self._scheduler, self._throttle = scheduler, throttle

    def read(self, waiting: str | None, conflicts: int, retries_by: Mapping[str, int]) -> Vitals:
        """`waiting`: the call or the server that the runner waits for. The other arguments are
        counts of this runner."""
        scheduler, throttle = self._scheduler, self._throttle
        shards = scheduler.shards() if scheduler is not None else ()
        working = (Phase.WAITING, waiting) if waiting else (Phase.WORKING, "")
        phase, why = self._held() or working
        median_s, p99_s = self.latencies.read()
        limit = self._rate.rate
        in_flight = limit_in_flight = batch_size = 0
        if scheduler is not None and throttle is not None:
            in_flight = scheduler.in_flight
            limit_in_flight = throttle.concurrency.value * max(1, len(shards))
            batch_size = throttle.limits.entities
        return Vitals(
            phase=phase,
            why=why,
            in_flight=in_flight,
            in_flight_limit=limit_in_flight,
            batch_size=batch_size,
            latency_median_s=median_s,
            latency_p99_s=p99_s,
            limit_per_s=limit if limit < float("inf") else None,
            limit_why=self._rate.why(),
            conflicts=conflicts,
            retries_by=dict(retries_by),
            waits=self.stopwatch.read(),
            shards=shards,
            shards_waiting=scheduler.shards_waiting if scheduler is not None else 0,
            shards_done=scheduler.shards_done if scheduler is not None else 0,
        )

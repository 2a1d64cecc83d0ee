"""How fast a run goes: the rate at which entities are admitted, batch size, commits in flight."""

from __future__ import annotations

import math

from bulkup.engine.batches import BatchLimits
from bulkup.engine.throttle.concurrency import Concurrency
from bulkup.engine.throttle.max_rate import MaxRate
from bulkup.engine.throttle.rate import RateLimiter


class Throttle:
    """Shared by all shards of a run. `batch_size`: the maximum that the user set."""

    def __init__(self, rate: RateLimiter, concurrency: Concurrency, batch_size: int) -> None:
        self.rate = rate
        self.concurrency = concurrency
        self.limits = BatchLimits(batch_size)
        self.max_batch_size = batch_size
        self.wait_s = math.inf
        """Seconds until the rate admits the next entities; infinite: no shard waits for the rate.
        The scheduler resets it before each round."""
        self.is_full = False
        """A shard waits, because it has as many commits in flight as it may have. Reset before each
        round, too."""

    def tune(self, *, max_rate: MaxRate, in_flight: int | None, batch_size: int) -> None:
        """Use what the user has set, from the next batch on."""
        self.rate.tune(max_rate)
        self.concurrency.tune(in_flight)
        self.max_batch_size = batch_size

    def batch_size(self) -> int:
        """Entities in a batch and on a page, as large as the rate and the server allow now."""
        return self.rate.batch_size(self.max_batch_size)

    def admit(self, entities: int) -> bool:
        """Whether this many entities may be handled now. If so, they count against the rate."""
        if self.wait_s < math.inf:
            return False  # a shard before this one is waiting, and comes first
        wait_s = self.rate.wait_s(entities)
        if wait_s > 0:
            self.wait_s = wait_s
            return False
        self.rate.spend(entities)
        return True

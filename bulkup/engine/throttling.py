"""How fast a run goes: the rate at which entities are admitted, batch size, commits in flight."""

from __future__ import annotations

import math

from bulkup.engine.batches import BatchLimits
from bulkup.engine.throttle.concurrency import Concurrency
from bulkup.engine.throttle.rate import RateLimiter


class Throttle:
    """One for all shards of a run. `batch_size`: the largest that the user wants."""

    def __init__(self, rate: RateLimiter, concurrency: Concurrency, batch_size: int) -> None:
        self.rate = rate
        self.concurrency = concurrency
        self.limits = BatchLimits(batch_size)
        self.max_batch_size = batch_size
        self.wait_s = math.inf
        """Until the rate admits the next entities; infinite: no shard waits for that. The scheduler
        resets it before each round."""

    def batch_size(self) -> int:
        """Entities in a batch and on a page, as large as the rate and the server allow now."""
        return self.rate.batch_size(self.max_batch_size)

    def admit(self, entities: int) -> bool:
        """Whether so many entities may be handled now. If so, the rate has spent them."""
        if self.wait_s < math.inf:
            return False  # a shard before this one is waiting, and comes first
        wait_s = self.rate.wait_s(entities)
        if wait_s > 0:
            self.wait_s = wait_s
            return False
        self.rate.spend(entities)
        return True

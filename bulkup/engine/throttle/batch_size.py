"""How many entities to put into a commit, so that it takes about a second."""

from __future__ import annotations

import math
from collections import deque
from statistics import median

TARGET_S = 1.0
"""Per commit: long enough that the round trip hardly matters, short enough that a refused or lost
commit costs little, and far from the deadline."""

SLOW_S = 1.3
QUICK_S = 0.7
"""Between these two nothing changes, so that the size settles."""

JUDGED_BY = 3
"""The median of this many commits decides: a single slow commit means nothing."""

SMALLEST = 10
GROWS_BY = 1.25
SHRINKS_TO = 0.5
"""One step changes the size by at most these factors."""

HELPS = 1 / 3
"""If a commit's time came from its entities alone, a smaller size would save in proportion. It must
save at least this share of that. If it saves less, the time is a fixed cost per commit, and smaller
commits would only cost more."""

HOLD_S = 120.0
"""How long a size is kept after a smaller one has not helped."""


class BatchSize:
    """Learns from answers. `entities` is infinite until a commit was clearly too slow."""

    def __init__(self) -> None:
        self.entities = math.inf
        self._changed_at = -math.inf
        self._latencies: deque[float] = deque(maxlen=JUDGED_BY)
        self._fullest = 0
        self._before: tuple[float, float, float] | None = None
        """`entities`, size and latency before the size was reduced, until that is judged."""
        self._held_until = -math.inf

    def answered(self, operations: int, latency_s: float, now: float, size: float) -> None:
        """`size`: the current batch size, which other limits may have made smaller."""
        if now - latency_s < self._changed_at:
            return  # it was sent with the former size
        self._fullest = max(self._fullest, operations)
        if operations < self._fullest / 2:
            return  # the last batch of a shard is small, and quick whatever the size
        self._latencies.append(latency_s)
        if len(self._latencies) < JUDGED_BY:
            return
        latency = median(self._latencies)
        if self._before is not None and not self._helped(size, latency):
            self._held_until = now + HOLD_S
            self._change(self._before[0], now)
        elif latency > SLOW_S and size > SMALLEST and now >= self._held_until:
            before = self.entities, size, latency
            self._change(max(SMALLEST, size * max(SHRINKS_TO, TARGET_S / latency)), now)
            self._before = before
        elif latency < QUICK_S and size * GROWS_BY > self.entities:
            self._change(size * GROWS_BY, now)
        else:
            self._before = None

    def _helped(self, size: float, latency: float) -> bool:
        assert self._before is not None
        _, size_before, latency_before = self._before
        hoped = latency_before * (1 - size / size_before)
        return latency_before - latency >= hoped * HELPS

    def _change(self, entities: float, now: float) -> None:
        self.entities = entities
        self._changed_at = now
        self._latencies.clear()
        self._fullest = 0
        self._before = None

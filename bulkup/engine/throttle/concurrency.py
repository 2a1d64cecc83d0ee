"""How many commits of a shard are under way at once."""

from __future__ import annotations

from bulkup.state.markers import WINDOW

MAX_DEPTH = WINDOW
START_DEPTH = 4

WORTH_IT = 1.2
"""Twice as many under way have to get so many times more done; otherwise the server does one
after the other, and each only takes longer."""

TRY_AGAIN_AFTER = 200
"""Answers, after a larger depth was not worth it."""

_SMOOTHING = 0.5


class Concurrency:
    """A fixed depth, or one that doubles while reading has to wait for commits to be answered, as
    long as that gets more done. No clock is needed: so many under way, each answered in so many
    seconds, is what gets done in a second."""

    def __init__(self, fixed: int | None = None) -> None:
        self.value = START_DEPTH if fixed is None else fixed
        self._adapts = fixed is None
        self._latency = 0.0
        self._answers = 0
        """Since the depth was changed: that shows only after so many as are under way."""
        self._before: tuple[int, float] | None = None
        """The depth before the last change, and what it got done; None: that was judged."""
        self._pause = 0
        """Answers to wait for before it grows again."""

    def answered(self, seconds: float) -> None:
        """A commit that was sent once has been answered in so many seconds."""
        self._answers += 1
        self._pause -= 1
        self._latency += _SMOOTHING * (seconds - self._latency) if self._latency else seconds

    def waited_for(self, shards: int = 1) -> None:
        """A page is there, and as many commits of its shard are under way as may be; of so many
        shards there are some."""
        if not self._adapts or self._answers < self.value * shards:
            return
        done = self.value / max(self._latency, 1e-6)
        if self._before is not None:
            smaller, was_done = self._before
            self._before = None
            if done < was_done * WORTH_IT:
                self._change(smaller)
                self._pause = TRY_AGAIN_AFTER
                return
        if self._pause <= 0 and self.value < MAX_DEPTH:
            self._before = self.value, done
            self._change(min(MAX_DEPTH, 2 * self.value))

    def _change(self, value: int) -> None:
        self.value = value
        self._answers = 0

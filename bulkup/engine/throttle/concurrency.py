"""How many commits of a shard are in flight at once."""

from __future__ import annotations

from bulkup.state.markers import WINDOW

MAX_IN_FLIGHT = WINDOW
START_IN_FLIGHT = 4

WORTH_IT = 1.2
"""Doubling the commits in flight must raise throughput by this factor. If it does not, the server
applies them one after the other, and each one just takes longer."""

TRY_AGAIN_AFTER = 200
"""Answers to wait for after a doubling was not worth it."""

_SMOOTHING = 0.5


class Concurrency:
    """A fixed number, or one that doubles while reading has to wait for commits, as long as that
    raises throughput. Throughput is the number in flight divided by latency, so no clock is
    needed."""

    def __init__(self, fixed: int | None = None) -> None:
        self.value = START_IN_FLIGHT if fixed is None else fixed
        self._fixed = fixed
        self._latency = 0.0
        self._answers = 0
        """Answers since the last change, whose effect shows only after as many answers as there are
        commits in flight."""
        self._before: tuple[int, float] | None = None
        """The number before the last change and its throughput; None if the change was judged."""
        self._pause = 0
        """Answers to wait for before the number grows again."""

    def tune(self, fixed: int | None) -> None:
        """Use this fixed number from now on; None: a number that adapts, beginning with the current
        one."""
        if fixed == self._fixed:
            return
        self._fixed = fixed
        self._before = None
        self._pause = 0
        self._change(self.value if fixed is None else fixed)

    def answered(self, seconds: float) -> None:
        """Note that a commit that was sent only once was answered after this time."""
        self._answers += 1
        self._pause -= 1
        self._latency += _SMOOTHING * (seconds - self._latency) if self._latency else seconds

    def waited_for(self, shards: int = 1) -> None:
        """Note that a page has to wait, because its shard has as many commits in flight as it may
        have. `shards`: how many shards have commits in flight."""
        if self._fixed is not None or self._answers < self.value * shards:
            return
        throughput = self.value / max(self._latency, 1e-6)
        if self._before is not None:
            smaller, throughput_before = self._before
            self._before = None
            if throughput < throughput_before * WORTH_IT:
                self._change(smaller)
                self._pause = TRY_AGAIN_AFTER
                return
        if self._pause <= 0 and self.value < MAX_IN_FLIGHT:
            self._before = self.value, throughput
            self._change(min(MAX_IN_FLIGHT, 2 * self.value))

    def _change(self, value: int) -> None:
        self.value = value
        self._answers = 0

"""How many commits of a shard are under way at once."""

from __future__ import annotations

from bulkup.state.markers import WINDOW

MAX_DEPTH = WINDOW
START_DEPTH = 4

SLOWER = 2.0
"""Commits that take so many times what the fastest took are waiting for each other: more of them
under way would only wait longer."""

MUCH_SLOWER = 4.0

_SMOOTHING = 0.25
_FORGETTING = 1.02
"""The fastest commit is forgotten slowly, for the server may have become another one."""


class Depth:
    """A fixed depth, or one that grows while reading has to wait for commits to be answered.

    More commits under way hide the time each takes, as long as the server works on them at the
    same time; where it does one after the other, each takes longer the more there are.
    """

    def __init__(self, fixed: int | None = None) -> None:
        self.value = START_DEPTH if fixed is None else fixed
        self._adapts = fixed is None
        self._best = 0.0
        self._now = 0.0
        self._answers = 0
        """Since the depth was changed: a change shows only after so many as are under way."""

    def answered(self, seconds: float) -> None:
        """A commit that was sent once has been answered in so many seconds."""
        self._answers += 1
        self._now += _SMOOTHING * (seconds - self._now) if self._now else seconds
        self._best = min(self._best * _FORGETTING, seconds) if self._best else seconds
        if self._settled and self._now > MUCH_SLOWER * self._best and self.value > 2:
            self._change(-1)

    def waited_for(self) -> None:
        """A page is there, and as many commits are under way as may be."""
        if self._settled and self._now <= SLOWER * self._best:
            self._change(+1)

    @property
    def _settled(self) -> bool:
        return self._adapts and self._answers >= self.value

    def _change(self, by: int) -> None:
        self._answers = 0
        self.value = max(1, min(MAX_DEPTH, self.value + by))

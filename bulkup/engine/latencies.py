"""How long the commits took that were answered lately: median and 99th percentile.

A histogram of fixed size, so that an answer costs the same and memory stays the same at any rate.
"""

from __future__ import annotations

from collections.abc import Callable
from math import frexp

OVER_S = 15.0
"""Latencies are taken over this time, like the displayed rate."""
_SLICES = 3
_SLICE_S = OVER_S / _SLICES

_PER_OCTAVE = 8
"""A bucket's end is at most an eighth above its beginning, so 12 ms and 14 ms are told apart."""
_SMALLEST_EXPONENT = -13
"""Below 2 ** -14 s, 0.06 ms, everything is in one bucket; so is everything above 2 ** 10 s."""
_OCTAVES = 24
_BUCKETS = _OCTAVES * _PER_OCTAVE


class Latencies:
    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._slices = [[0] * _BUCKETS for _ in range(_SLICES + 1)]
        """The newest comes last. There is one more than _SLICES, because the newest has just begun.
        """
        self._until = monotonic() + _SLICE_S

    def answered(self, seconds: float) -> None:
        """Note that a commit was answered after this time."""
        if self._monotonic() >= self._until:
            self._turn()
        self._slices[-1][_bucket(seconds)] += 1

    def read(self) -> tuple[float | None, float | None]:
        """Median and 99th percentile in seconds; None if no commit was answered lately."""
        if self._monotonic() >= self._until:
            self._turn()
        together = [sum(counts) for counts in zip(*self._slices, strict=True)]
        answers = sum(together)
        if not answers:
            return None, None
        return _at(together, answers * 0.5), _at(together, answers * 0.99)

    def _turn(self) -> None:
        slices = 1 + int((self._monotonic() - self._until) / _SLICE_S)
        self._until += slices * _SLICE_S
        begun = min(slices, len(self._slices))
        self._slices = [*self._slices[begun:], *([0] * _BUCKETS for _ in range(begun))]


def _bucket(seconds: float) -> int:
    if seconds <= 0:
        return 0
    mantissa, exponent = frexp(seconds)  # seconds = mantissa * 2 ** exponent, 0.5 <= mantissa < 1
    number = (exponent - _SMALLEST_EXPONENT) * _PER_OCTAVE + int((2 * mantissa - 1) * _PER_OCTAVE)
    return min(max(number, 0), _BUCKETS - 1)


def _middle_of(number: int) -> float:
    octave, part = divmod(number, _PER_OCTAVE)
    begins: float = 2.0 ** (octave + _SMALLEST_EXPONENT - 1)
    return begins * (1 + (part + 0.5) / _PER_OCTAVE)


def _at(counts: list[int], rank: float) -> float:
    """The latency that this many of the answers do not exceed."""
    seen = 0
    for number, count in enumerate(counts):
        seen += count
        if seen >= rank:
            return _middle_of(number)
    return _middle_of(_BUCKETS - 1)

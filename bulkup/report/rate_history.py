"""How fast a run was over time, as a line of small bars."""

from __future__ import annotations

from collections.abc import Sequence

MOST_BINS = 256
"""More than the widest terminal shows next to the label."""
FIRST_BIN_S = 1.0

_BLOCKS = "▁▂▃▄▅▆▇█"
_ASCII_BLOCKS = ".:-=+*#%"


class RateHistory:
    """Entities per second from a run's beginning until now, in bins of equal length. When MOST_BINS
    are full, bins are merged in pairs, so memory is bounded however long a run takes.

    `handled`: entities that were handled before the first second.
    """

    def __init__(self, handled: int = 0) -> None:
        self._bins: list[float] = []
        """Entities handled in each bin."""
        self._bin_s = FIRST_BIN_S
        self.elapsed_s = 0.0
        self._handled = handled

    def add(self, elapsed_s: float, handled: int) -> None:
        """Note that `handled` entities were handled by `elapsed_s`."""
        took_s = elapsed_s - self.elapsed_s
        if took_s <= 0:
            return
        while elapsed_s > MOST_BINS * self._bin_s:
            self._halve()
        each_s = max(0, handled - self._handled) / took_s
        at = self.elapsed_s
        while at < elapsed_s:
            number = int(at / self._bin_s)
            end = min(elapsed_s, (number + 1) * self._bin_s)
            if end <= at:  # as close to the end of a bin as a float can be
                end = min(elapsed_s, (number + 2) * self._bin_s)
                number += 1
            self._bins.extend([0.0] * (number + 1 - len(self._bins)))
            self._bins[number] += each_s * (end - at)
            at = end
        self.elapsed_s, self._handled = elapsed_s, max(handled, self._handled)

    def _halve(self) -> None:
        if len(self._bins) % 2:
            self._bins.append(0.0)
        pairs = zip(self._bins[::2], self._bins[1::2], strict=True)
        self._bins = [first + second for first, second in pairs]
        self._bin_s *= 2

    def rates(self, most: int) -> list[float]:
        """Entities per second, oldest first: at most `most` numbers, for equal durations."""
        if not self._bins or most < 1:
            return []
        together = -(-len(self._bins) // most)
        rates = []
        for first in range(0, len(self._bins), together):
            end_s = min((first + together) * self._bin_s, self.elapsed_s)
            seconds = max(end_s - first * self._bin_s, 1e-9)
            rates.append(sum(self._bins[first : first + together]) / seconds)
        return rates


def sparkline(rates: Sequence[float], *, ascii_only: bool = False) -> str:
    """One character per rate, as high as the rate is relative to the highest; a space for zero."""
    blocks = _ASCII_BLOCKS if ascii_only else _BLOCKS
    highest = max(rates, default=0.0)
    if highest <= 0:
        return " " * len(rates)
    top = len(blocks) - 1
    return "".join(blocks[round(top * rate / highest)] if rate > 0 else " " for rate in rates)

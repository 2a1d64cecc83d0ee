"""Sets of byte strings as sorted, disjoint, half-open intervals.

`v + 0x00` is the first byte string after `v`, so every comparison is a half-open interval:
`> v` is `[v + 0x00, end)`, `= v` is `[v, v + 0x00)`.
"""

from __future__ import annotations

from collections.abc import Iterable

Interval = tuple[bytes, bytes]
Intervals = tuple[Interval, ...]

LOWEST = b""
HIGHEST = b"\xff"
"""Above every encoded value and every encoded path."""
EVERYTHING: Intervals = ((LOWEST, HIGHEST),)


def after(value: bytes) -> bytes:
    return value + b"\x00"


def point(value: bytes) -> Interval:
    return value, after(value)


def normalize(intervals: Iterable[Interval]) -> Intervals:
    """Sorted, without empty intervals; adjacent and overlapping ones merged."""
    out: list[Interval] = []
    for low, high in sorted(intervals):
        if low >= high:
            continue
        if out and low <= out[-1][1]:
            out[-1] = out[-1][0], max(out[-1][1], high)
        else:
            out.append((low, high))
    return tuple(out)


def intersect(one: Intervals, other: Intervals) -> Intervals:
    return normalize(
        (max(low, low2), min(high, high2)) for low, high in one for low2, high2 in other
    )


def without(values: Iterable[bytes]) -> Intervals:
    """Everything except these values."""
    out: list[Interval] = []
    low = LOWEST
    for value in sorted(set(values)):
        out.append((low, value))
        low = after(value)
    out.append((low, HIGHEST))
    return normalize(out)

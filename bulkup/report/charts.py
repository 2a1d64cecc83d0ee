"""A run's timeline as charts: the coordinates of each drawing, which the template turns into SVG.

The horizontal axis is time at work. Between two runners, and where a machine was suspended, there
is a gap of fixed width, however long the break was: a run that was resumed the next day is still
readable. Lines end at gaps. Labels are not part of the drawing, so they keep their size when it is
stretched to the width of a screen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from statistics import median

from bulkup.core.vitals import Phase, Sample
from bulkup.report.text import clean, duration, plural

WIDTH, HEIGHT = 1000.0, 100.0
"""Size of a drawing in its own coordinates, which are stretched to any size."""
GAP = 24.0
"""Width of a gap."""
MOST_POINTS = 400
"""Points per line. With more samples, only the smallest and the largest of each span are drawn."""
LONG_BREAK = 10
"""A gap is drawn where two samples are further apart than this many times the usual distance."""
SHORTEST_BREAK_S = 60.0

_STOPPED = {Phase.PAUSED: "Paused", Phase.HELD: "Held", Phase.WAITING: "Waiting"}


@dataclass(frozen=True)
class Band:
    """A span of time that is shaded: a hold, or a gap."""

    x: float
    width: float
    kind: str
    """`held` or `gap`."""
    title: str
    """One clean line."""


@dataclass(frozen=True)
class Line:
    """One line of a chart. A line of one point is drawn as a short dash."""

    name: str
    style: str
    """`a`, `b` or `limit`."""
    path: str
    """The `d` attribute of an SVG path."""


@dataclass(frozen=True)
class Chart:
    name: str
    """Identifies the chart on its page; letters only."""
    title: str
    text: str
    """The chart in words, for a reader who cannot see it."""
    lines: tuple[Line, ...]
    bands: tuple[Band, ...]
    y_labels: tuple[str, ...]
    """From top to bottom, equally spaced."""
    x_labels: tuple[str, ...]
    """From left to right, equally spaced."""


@dataclass(frozen=True)
class Part:
    """One part of a whole that is drawn as a bar."""

    name: str
    style: str
    seconds: float
    x: float
    width: float
    """`x` and `width` are percentages of the whole."""
    text: str
    """What the time went to."""

    @property
    def share(self) -> str:
        return "<1%" if 0 < self.width < 1 else f"{self.width:.0f}%"

    @property
    def took(self) -> str:
        return duration(self.seconds)


@dataclass(frozen=True)
class _Series:
    name: str
    style: str
    of: Callable[[Sample], float | None]


@dataclass(frozen=True)
class _Kind:
    """A kind of chart."""

    name: str
    title: str
    shown: Callable[[float], str]
    series: tuple[_Series, ...]

    def values(self, samples: Sequence[Sample]) -> list[float]:
        found = (one.of(sample) for one in self.series for sample in samples)
        return [value for value in found if value is not None]


def charts_of(samples: Sequence[Sample], beside: Sequence[Sample] = ()) -> tuple[Chart, ...]:
    """Charts of throughput, latency and rate limit over time, without those that have no data.

    `beside`: the timeline of a run whose charts are shown next to these, with the same scale.
    """
    samples = sorted(samples, key=lambda sample: (sample.runner, sample.at))
    if not samples:
        return ()
    axis = _Axis(samples)
    return tuple(
        _chart(axis, kind, [*kind.values(samples), *kind.values(beside)])
        for kind in _KINDS
        if kind.values(samples)
    )


def parts_of(samples: Sequence[Sample]) -> tuple[Part, ...]:
    """What the time of all runners went to; empty if that is not known."""
    last = {sample.runner: sample for sample in sorted(samples, key=lambda one: one.at)}
    waits = [sample.waits for sample in last.values()]
    seconds = {name: max(0.0, sum(getattr(one, f"{name}_s") for one in waits)) for name in _WAITS}
    total = sum(seconds.values())
    if total <= 0:
        return ()
    parts, x = [], 0.0
    for name, (title, text) in _WAITS.items():
        width = 100 * seconds[name] / total
        parts.append(Part(title, name, seconds[name], x, width, text))
        x += width
    return tuple(parts)


_WAITS = {
    "reading": ("Reading", "waited for pages of the query"),
    "handling": ("Handling", "the updater's own code"),
    "committing": ("Waiting for commits", "waited for the server to write"),
    "paced": ("Paced", "waited for the rate limit"),
    "held": ("Held", "paused, or held by a health check or a window"),
}


class _Axis:
    """The horizontal position of each sample."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples
        steps = [max(0.0, b.at - a.at) for a, b in pairwise(samples) if a.runner == b.runner]
        usual = median(steps) if steps else 0.0
        longest = max(SHORTEST_BREAK_S, LONG_BREAK * usual)
        self.breaks: dict[int, float] = {}
        """Length of each gap in seconds, by the index of the sample after it."""
        self.worked_s = 0.0
        times = [0.0]
        for position, (a, b) in enumerate(pairwise(samples), 1):
            step = max(0.0, b.at - a.at)
            if a.runner != b.runner or step > longest:
                self.breaks[position] = step
            else:
                self.worked_s += step
            times.append(self.worked_s)
        gap = min(GAP, WIDTH / 2 / len(self.breaks)) if self.breaks else 0.0
        scale = (WIDTH - gap * len(self.breaks)) / self.worked_s if self.worked_s else 0.0
        self.gap = gap
        self.xs, gaps = [], 0
        for position, time in enumerate(times):
            gaps += position in self.breaks
            self.xs.append(time * scale + gaps * gap)

    def bands(self) -> Iterator[Band]:
        yield from self._holds()
        for position, seconds in self.breaks.items():
            a, b = self.samples[position - 1], self.samples[position]
            who = "between two processes" if a.runner != b.runner else "without a sample"
            x = self.xs[position] - self.gap
            yield Band(x, self.gap, "gap", f"{duration(seconds)} {who}")

    def _holds(self) -> Iterator[Band]:
        start = 0
        for position, sample in enumerate(self.samples):
            following = position + 1
            is_last = following == len(self.samples)
            is_cut = is_last or following in self.breaks
            if not is_cut and self.samples[following].phase is sample.phase:
                continue
            if sample.phase in _STOPPED:  # it lasts until the next sample says otherwise
                yield self._hold(start, position if is_cut else following)
            start = following

    def _hold(self, start: int, end: int) -> Band:
        first, last = self.samples[start], self.samples[end]
        # A runner that begins with a hold takes its first sample only some time into it.
        is_first = start == 0 or start in self.breaks
        held_before_s = 0.0 if is_first else self.samples[start - 1].waits.held_s
        took = duration(max(last.at - first.at, last.waits.held_s - held_before_s))
        why = f": {clean(first.why, 200)}" if first.why else ""
        x = self.xs[start]
        return Band(x, max(2.0, self.xs[end] - x), "held", f"{_STOPPED[first.phase]} {took}{why}")

    def labels(self) -> tuple[str, ...]:
        if not self.worked_s:
            return ("0 s",)
        if self.breaks:  # with gaps, half of the width is not half of the time
            return "0 s", duration(self.worked_s)
        return "0 s", duration(self.worked_s / 2), duration(self.worked_s)

    def path(self, values: Sequence[float | None], top: float, style: str) -> str:
        """A line through the values, broken at gaps and where a value is not known. A limit is
        drawn in steps: it holds until the next one."""
        pieces: list[list[tuple[float, float]]] = [[]]
        for position, value in enumerate(values):
            if position in self.breaks or value is None:
                pieces.append([])
            if value is not None:
                x, y = self.xs[position], HEIGHT * (1 - min(max(value, 0.0), top) / top)
                if style == "limit" and pieces[-1] and pieces[-1][-1][1] != y:
                    pieces[-1].append((x, pieces[-1][-1][1]))
                pieces[-1].append((x, y))
        drawn = sum(map(len, pieces))
        return "".join(
            _drawn(_thinned(piece, max(2, MOST_POINTS * len(piece) // drawn)))
            for piece in pieces
            if piece
        )


def _chart(axis: _Axis, kind: _Kind, known: Sequence[float]) -> Chart:
    top = nice_top(max(known))
    shown, samples = kind.shown, axis.samples
    return Chart(
        name=kind.name,
        title=kind.title,
        text=_told(axis, kind),
        lines=tuple(
            Line(one.name, one.style, axis.path(list(map(one.of, samples)), top, one.style))
            for one in kind.series
        ),
        bands=tuple(axis.bands()),
        y_labels=(shown(top), shown(top / 2), "0"),
        x_labels=axis.labels(),
    )


def _told(axis: _Axis, kind: _Kind) -> str:
    parts = [f"In {duration(axis.worked_s)} of work"]
    for one in kind.series:
        known = [value for value in map(one.of, axis.samples) if value is not None]
        if known:
            least, most, usual = map(kind.shown, (min(known), max(known), median(known)))
            parts.append(f"{one.name}: between {least} and {most}, mostly about {usual}")
    holds = sum(1 for band in axis.bands() if band.kind == "held")
    if holds:
        parts.append(plural(holds, "hold"))
    if axis.breaks:
        parts.append(plural(len(axis.breaks), "break"))
    return f"{'. '.join(parts)}."


def nice_top(largest: float) -> float:
    """The top of an axis: a round number, at least `largest`, whose half is round, too."""
    if not largest > 0 or not math.isfinite(largest):
        return 1.0
    size = 10.0 ** math.floor(math.log10(largest))
    return next(size * step for step in (1, 2, 4, 5, 6, 8, 10, 20) if size * step >= largest)


def _thinned(points: Sequence[tuple[float, float]], most: int) -> Sequence[tuple[float, float]]:
    """About `most` points or fewer; peaks are kept."""
    if len(points) <= most:
        return points
    buckets = max(1, most // 2)
    kept: list[tuple[float, float]] = [points[0]]
    for bucket in range(buckets):
        span = points[bucket * len(points) // buckets : (bucket + 1) * len(points) // buckets]
        low, high = min(span, key=lambda p: p[1]), max(span, key=lambda p: p[1])
        kept += sorted({low, high})
    return [*kept, points[-1]]


def _drawn(points: Sequence[tuple[float, float]]) -> str:
    (x, y), rest = points[0], points[1:]
    if not rest:
        return f"M{min(x, WIDTH - 4):.1f} {y:.1f}h4"
    return f"M{x:.1f} {y:.1f}" + "".join(f"L{x:.1f} {y:.1f}" for x, y in rest)


def _number(value: float) -> str:
    return f"{value:.3g}" if 0 < value < 10 else f"{value:,.0f}"


def _seconds(value: float) -> str:
    return f"{value * 1000:.3g} ms" if value < 0.9995 else f"{value:.3g} s"


_KINDS = (
    _Kind("throughput", "Throughput", _number, (
        _Series("Entities per second", "a", attrgetter("rate")),
    )),
    _Kind("latency", "Latency of commits", _seconds, (
        _Series("Slowest 1%", "b", attrgetter("p99_s")),
        _Series("Median", "a", attrgetter("median_s")),
    )),
    _Kind("limit", "Rate limit", _number, (
        _Series("Entities per second at most", "limit", attrgetter("limit_per_s")),
    )),
)  # fmt: skip

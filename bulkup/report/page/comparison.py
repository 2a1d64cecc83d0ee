"""Two runs side by side: what their pages say, row by row, and what differs.

Every string in here is one clean line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from bulkup.core.events import FailureGroup, Report
from bulkup.core.run_facts import RunFacts
from bulkup.report.charts import charts_of, parts_of
from bulkup.report.page.model import RunPage, run_page, took_s
from bulkup.report.summary_model import MOST_FAILURES, what_failed
from bulkup.report.text import clean, duration, per_second


@dataclass(frozen=True)
class ComparedRow:
    name: str
    a: str
    b: str
    change: str = ""
    """From A to B: `+12%`, `-3`; empty if nothing changed, or nothing that can be counted."""
    style: str = ""
    """The style of this part in a chart; empty if no chart shows it."""

    @property
    def differs(self) -> bool:
        return self.a != self.b


@dataclass(frozen=True)
class Comparison:
    a: RunPage
    b: RunPage
    rows: tuple[ComparedRow, ...]
    time: tuple[ComparedRow, ...]
    """What the time went to; empty if neither run has a timeline."""
    failures: tuple[ComparedRow, ...]
    """How many entities failed, by error."""
    title: str


def compare(a: RunFacts, b: RunFacts) -> Comparison:
    """Put two runs side by side. Their charts have the same scales."""
    first, second = run_page(a), run_page(b)
    first = replace(first, charts=charts_of(a.samples, b.samples))
    second = replace(second, charts=charts_of(b.samples, a.samples))
    return Comparison(
        first,
        second,
        tuple(_rows(a, b, first, second)),
        tuple(_time(a, b)),
        tuple(_failures(a.report, b.report)),
        f"{first.updater}: {first.run_id} and {second.run_id}"
        if first.updater == second.updater
        else f"{first.updater} and {second.updater}",
    )


def _rows(a: RunFacts, b: RunFacts, first: RunPage, second: RunPage) -> Iterator[ComparedRow]:
    yield ComparedRow("Run", first.run_id, second.run_id)
    yield ComparedRow("Outcome", first.outcome, second.outcome)
    counts = a.report.counts.named(), b.report.counts.named()
    for name, title in _COUNTS.items():
        if name in _ALWAYS or counts[0][name] or counts[1][name]:
            yield _counted(title, counts[0][name], counts[1][name])
    yield _counted("Retries", a.report.retries, b.report.retries)
    took = took_s(a), took_s(b)
    yield ComparedRow("Time at work", duration(took[0]), duration(took[1]), _share(*took))
    if min(took) >= 1:
        rate_a, rate_b = (counts[i]["handled"] / took[i] for i in (0, 1))
        yield ComparedRow(
            "Average rate", per_second(rate_a), per_second(rate_b), _share(rate_a, rate_b)
        )
    names = dict(first.summary.rows), dict(second.summary.rows)
    for title in dict.fromkeys((*names[0], *names[1])):
        if title not in _SHOWN_OTHERWISE:
            yield ComparedRow(title, names[0].get(title, ""), names[1].get(title, ""))
    if a.checksum and b.checksum:
        same = "the same" if a.checksum == b.checksum else "another"
        yield ComparedRow(
            "Source of the updater", clean(a.checksum)[:12], clean(b.checksum)[:12], same
        )


def _counted(title: str, a: int, b: int) -> ComparedRow:
    change = f"{b - a:+,}" if a != b else ""
    share = _share(a, b)
    return ComparedRow(title, f"{a:,}", f"{b:,}", f"{change} ({share})" if share else change)


def _share(a: float, b: float) -> str:
    """How much more or less B is than A."""
    if not a or a == b:
        return ""
    share = (b - a) / a
    return f"{share:+.0%}" if abs(share) >= 0.005 else "about the same"


def _time(a: RunFacts, b: RunFacts) -> Iterator[ComparedRow]:
    parts = parts_of(a.samples), parts_of(b.samples)
    by_style = [{part.style: part for part in one} for one in parts]
    for part in parts[0] or parts[1]:
        first, second = (one.get(part.style) for one in by_style)
        yield ComparedRow(
            part.name,
            "" if first is None else f"{first.took} ({first.share})",
            "" if second is None else f"{second.took} ({second.share})",
            "" if first is None or second is None else _share(first.seconds, second.seconds),
            part.style,
        )


def _failures(a: Report, b: Report) -> Iterator[ComparedRow]:
    counts: dict[tuple[str, str], list[int]] = {}
    for position, report in enumerate((a, b)):
        for group in report.failure_groups[:MOST_FAILURES]:
            counts.setdefault(_alike(group), [0, 0])[position] += group.count
    for (what, place), (first, second) in counts.items():
        yield _counted(f"{what} ({place})" if place else what, first, second)


def _alike(group: FailureGroup) -> tuple[str, str]:
    return what_failed(group), clean(group.place, 300)


_COUNTS = {
    "handled": "Handled",
    "written": "Written",
    "deleted": "Deleted",
    "unchanged": "Unchanged",
    "left_alone": "Left alone",
    "vanished": "Vanished",
    "failed": "Failed",
    "changed_not_written": "Not written",
    "other_written": "Others written",
    "other_deleted": "Others deleted",
    "conflicts": "Conflicts",
}
_ALWAYS = ("handled", "written", "failed")
_SHOWN_OTHERWISE = frozenset(
    {"Run", "Rate", "Retries", "Others", "Would write", "Would delete", *_COUNTS.values()}
)

"""What the page of a run shows, section by section, in words: the template only escapes and
arranges it.

Every string in here is one clean line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from bulkup.core.changes import PropertyChange, WouldChange
from bulkup.core.events import Report, RunState
from bulkup.core.run_facts import ChainLink, RunFacts, RunnerFacts
from bulkup.core.vitals import Phase
from bulkup.report.charts import Chart, Part, charts_of, parts_of
from bulkup.report.namespace_grid import Grid
from bulkup.report.summary_model import Summary, Tone, summarize
from bulkup.report.text import VALUE_LIMIT, clean, duration, moment, per_second, plural

MOST_PROPERTIES = 30
"""Shown per changed entity."""
MOST_BANDS = 8
"""Bands named below the charts; the drawing names all of them."""


@dataclass(frozen=True)
class Figure:
    """A number in large type."""

    name: str
    value: str
    note: str = ""
    tone: str = ""
    """`bad` if it is bad news, otherwise empty."""


@dataclass(frozen=True)
class PropertyLines:
    name: str
    before: str | None
    """None: the property is new."""
    after: str | None


@dataclass(frozen=True)
class ChangedEntity:
    key: str
    what: str
    """`deleted`, or empty."""
    properties: tuple[PropertyLines, ...]
    rest: str
    """How many properties are left out; empty if none."""


@dataclass(frozen=True)
class PageTable:
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[int, ...] = ()
    """The right-aligned columns."""


@dataclass(frozen=True)
class RunPage:
    """The whole page. Empty sections are left out."""

    run_id: str
    updater: str
    description: str
    tone: Tone
    is_at_work: bool
    outcome: str
    """In a word or two: `Finished`."""
    summary: Summary
    figures: tuple[Figure, ...]
    charts: tuple[Chart, ...]
    charts_note: str
    """Why there are no charts; empty if there are."""
    bands: tuple[str, ...]
    """What is shaded in the charts."""
    parts: tuple[Part, ...]
    incidents: PageTable | None
    changes: tuple[ChangedEntity, ...]
    changes_note: str
    runners: PageTable | None
    chain: PageTable | None
    namespaces: Grid | None
    read_at: str


def run_page(facts: RunFacts) -> RunPage:
    """Put the facts into words."""
    report = facts.report
    summary = summarize(report)
    is_at_work = report.state is RunState.RUNNING and report.alive is not False
    charts = charts_of(facts.samples)
    return RunPage(
        run_id=clean(report.run_id),
        updater=clean(report.updater),
        description=clean(report.description),
        tone=summary.tone,
        is_at_work=is_at_work,
        outcome=_outcome(facts),
        summary=summary,
        figures=tuple(_figures(facts)),
        charts=charts,
        charts_note="" if charts else _why_no_charts(report),
        bands=tuple(_bands(charts)),
        parts=parts_of(facts.samples),
        incidents=_incidents(facts),
        changes=tuple(map(_changed, facts.changes)),
        changes_note=_changes_note(facts),
        runners=_runners(facts.runners),
        chain=_chain(facts.chain),
        namespaces=summary.grid,
        read_at=moment(facts.read_at),
    )


def took_s(facts: RunFacts) -> float:
    """Seconds that all runners have worked, as far as is known."""
    if not facts.runners:
        return facts.report.elapsed_s
    *earlier, last = facts.runners
    worked = sum(_until(facts, one) - one.began for one in earlier)
    if facts.report.state is not RunState.RUNNING:
        return worked + facts.report.elapsed_s
    until = facts.read_at.timestamp() if facts.report.alive else _until(facts, last)
    return worked + max(0.0, until - last.began)


def _until(facts: RunFacts, runner: RunnerFacts) -> float:
    """When a runner ended; for one that was killed, the time of its last sample."""
    if runner.ended is not None:
        return runner.ended
    samples = (sample.at for sample in facts.samples if sample.runner == runner.number)
    return max(samples, default=runner.began)


def _outcome(facts: RunFacts) -> str:
    report = facts.report
    if report.state is RunState.RUNNING and report.alive and facts.samples:
        phase = facts.samples[-1].phase
        if phase in (Phase.PAUSED, Phase.HELD):
            return str(phase).capitalize()
    if report.state is RunState.RUNNING and report.alive is False:
        return "Killed"
    if report.state is RunState.FINISHED and report.counts.failed:
        return "Finished with failures"
    return report.state.value.capitalize()


def _figures(facts: RunFacts) -> Iterator[Figure]:
    report = facts.report
    counts = report.counts.reconciled()
    of = f"of {report.total:,}" if report.total and report.total != counts.handled else ""
    yield Figure("Handled", f"{counts.handled:,}", of)
    yield Figure("Written", f"{counts.written:,}")
    if counts.deleted:
        yield Figure("Deleted", f"{counts.deleted:,}")
    since = f"{report.retried:,} handled since" if report.retried else ""
    yield Figure("Failed", f"{counts.failed:,}", since, "bad" if counts.failed else "")
    worked = took_s(facts)
    processes = plural(report.runners, "process", "processes") if report.runners > 1 else ""
    yield Figure("Time at work", duration(worked), processes)
    if worked >= 1 and not report.spaces:
        yield Figure("Average rate", per_second(counts.handled / worked))


def _why_no_charts(report: Report) -> str:
    if report.spaces:
        return "The run of each namespace has its own charts."
    return "No timeline was kept: the run was too short, or an earlier version of bulkup made it."


def _bands(charts: Sequence[Chart]) -> Iterator[str]:
    """The titles of the bands, which are the same in all charts."""
    bands = charts[0].bands if charts else ()
    yield from (band.title for band in bands[:MOST_BANDS])
    if (left := len(bands) - MOST_BANDS) > 0:
        yield f"and {left:,} more"


def _incidents(facts: RunFacts) -> PageTable | None:
    rows = [
        (_time(one.at) or "not known", clean(one.what, 300), clean(one.by, 100))
        for one in facts.incidents
    ]
    return PageTable(("When", "What", "By"), tuple(rows)) if rows else None


def _changed(change: WouldChange) -> ChangedEntity:
    shown = change.changes[:MOST_PROPERTIES]
    left = len(change.changes) - len(shown)
    return ChangedEntity(
        clean(change.key),
        "deleted" if change.action == "delete" else "",
        tuple(map(_property, shown)),
        plural(left, "more property", "more properties") if left else "",
    )


def _property(change: PropertyChange) -> PropertyLines:
    before, after = change.before, change.after
    return PropertyLines(
        clean(change.name, VALUE_LIMIT),
        None if before is None else clean(before, VALUE_LIMIT),
        None if after is None else clean(after, VALUE_LIMIT),
    )


def _changes_note(facts: RunFacts) -> str:
    if facts.changes_note:
        return clean(facts.changes_note)
    if not facts.changes:
        return ""
    shown, total = len(facts.changes), facts.changes_total
    which = "All writes" if shown >= total else f"{shown:,} of {total:,} writes, of each kind some"
    return f"{which}. For each one: bulkup show {clean(facts.report.run_id)} --changes"


def _runners(runners: Sequence[RunnerFacts]) -> PageTable | None:
    if not runners:
        return None
    head = ("Process", "By", "Began", "Ended", "How", "Retries", "bulkup", "Python", "Where")
    rows = []
    for one in runners:
        origin = one.origin
        job = ", ".join(part for part in (origin.ci_job, origin.git_commit[:12]) if part)
        rows.append(
            (
                f"{one.number:,}",
                clean(one.who, 100),
                _time(one.began),
                "" if one.ended is None else _time(one.ended),
                clean(one.state),
                f"{one.retries:,}",
                clean(origin.version, 50),
                clean(one.python, 50),
                clean(f"{one.system}, {job}" if job else one.system, 300),
            )
        )
    return PageTable(head, tuple(rows), (0, 5))


def _chain(chain: Sequence[ChainLink]) -> PageTable | None:
    if not chain:
        return None
    rows = []
    for link in chain:
        counts = link.counts
        rows.append(
            (
                clean(link.run_id) + (" (this run)" if link.is_this else ""),
                clean(link.updater) or "not in this state directory",
                clean(link.state),
                "" if counts is None else f"{counts.handled:,}",
                "" if counts is None else f"{counts.failed:,}",
            )
        )
    return PageTable(("Run", "Updater", "State", "Handled", "Failed"), tuple(rows), (3, 4))


def _time(unix: float) -> str:
    try:
        return moment(datetime.fromtimestamp(unix, timezone.utc)) if unix else ""
    except (OverflowError, OSError, ValueError):  # from a damaged file
        return ""

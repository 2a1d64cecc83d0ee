"""What a rehearsal says, in words: decided once, for the terminal, HTML and Markdown.

The reader decides whether a change may go to production. So first come the answers (does it finish,
what does it change, may it be run twice, may it crash, what does it cost, how long does it take),
then the facts behind them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bulkup.core.rehearsal import (
    CrashPass,
    Effect,
    PropertyEffect,
    Rehearsal,
    RehearsedWork,
    ValueSummary,
    failed_of,
)
from bulkup.core.visible import assignment
from bulkup.report.plan_summary import (
    MOST_KINDS,
    KindLines,
    bill_note,
    bill_rows,
    failure_lines,
    kind_lines,
)
from bulkup.report.rehearsal_answers import Answer, answers_of
from bulkup.report.summary_model import FailureLines, Tone
from bulkup.report.text import clean, duration, moment, plural, size

MOST_PROPERTIES = 30
MOST_LOGGED = 5
_COUNTED = (
    ("handled", "Handled"),
    ("written", "Written"),
    ("deleted", "Deleted"),
    ("unchanged", "Returned unchanged"),
    ("left_alone", "Left alone"),
    ("vanished", "Vanished"),
    ("failed", "Failed"),
    ("changed_not_written", "Changed, not written"),
    ("other_written", "Others written"),
    ("other_deleted", "Others deleted"),
)


@dataclass(frozen=True)
class PropertyLine:
    name: str
    """`Person.full_name`."""
    changed: str
    before: str
    after: str


@dataclass(frozen=True)
class WorkSummary:
    tone: Tone
    title: str
    headline: str
    sentences: tuple[str, ...]
    answers: tuple[Answer, ...]
    rows: tuple[tuple[str, str, str], ...]
    """A count's name, its value in the first run, and in the second."""
    kinds: tuple[KindLines, ...]
    kinds_rest: str
    properties: tuple[PropertyLine, ...]
    properties_rest: str
    failures: tuple[FailureLines, ...]
    failures_rest: str
    second: tuple[KindLines, ...]
    """What a second run changes."""
    crash: tuple[KindLines, ...]
    """What is different after crashes."""
    kills: tuple[str, ...]
    bill: tuple[tuple[str, str, str], ...]
    bill_note: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class RehearsalSummary:
    """Every string in here is one clean line; it only needs the escaping of the output format."""

    tone: Tone
    title: str
    headline: str
    """Of a rehearsal of migrations; empty for one of a single updater, whose own headline says
    it."""
    works: tuple[WorkSummary, ...]
    sentences: tuple[str, ...]
    """What it was rehearsed on, when, and how."""


def summarize_rehearsal(rehearsal: Rehearsal) -> RehearsalSummary:
    works = tuple(map(_work, rehearsal.works))
    tones = [work.tone for work in works]
    tone = Tone.BAD if Tone.BAD in tones or rehearsal.left else Tone.GOOD
    if tone is Tone.GOOD and Tone.MIXED in tones:
        tone = Tone.MIXED
    title = "Rehearsal of " + (
        f"the migrations in {clean(rehearsal.folder)}"
        if rehearsal.is_migrations
        else clean(rehearsal.works[0].name)
    )
    return RehearsalSummary(tone, title, _headline(rehearsal), works, tuple(_sentences(rehearsal)))


def _headline(rehearsal: Rehearsal) -> str:
    if not rehearsal.is_migrations:
        return ""
    works = rehearsal.works
    if not works:
        return "No migration is pending, so nothing was run."
    done = sum(work.finished for work in works)
    total = len(works) + len(rehearsal.left)
    if done < total:
        left = f"; not reached: {', '.join(map(clean, rehearsal.left))}" if rehearsal.left else ""
        return f"{done:,} of {plural(total, 'pending migration')} finished{left}."
    unsafe = sum(work.breaks_promise for work in works)
    idle = sum(work.found_nothing for work in works)
    parts = [f"{plural(total, 'pending migration')} finished"]
    parts += [f"{unsafe:,} of them not safely"] if unsafe else []
    parts += [f"{idle:,} of them without an entity to handle"] if idle else []
    return f"{', '.join(parts)}."


def _sentences(rehearsal: Rehearsal) -> Iterator[str]:
    source = rehearsal.source
    kinds = ", ".join(f"{clean(kind)} {count:,}" for kind, count in source.kinds[:8])
    more = len(source.kinds) - 8
    kinds += f" and {plural(more, 'more kind')}" if more > 0 else ""
    what = "the export " if source.is_export else ""
    part = f" (a sample of {clean(source.sample)})" if source.sample else ""
    yield (
        f"On a copy of {what}{clean(source.path)}{part}: "
        f"{plural(source.entities, 'entity', 'entities')} ({kinds or 'none'}), "
        f"{size(source.bytes)} as a file; as {clean(str(source.target))}."
    )
    yield from map(clean, source.left_out)
    if source.sample:
        yield (
            "The numbers are those of the sample: cost and duration of a run on all entities are "
            "higher in proportion."
        )
    yield (
        f"Rehearsed {moment(rehearsal.created)} with bulkup {clean(rehearsal.version)}, which took "
        f"{duration(rehearsal.elapsed_s)}. The data itself was not changed."
    )


def _work(work: RehearsedWork) -> WorkSummary:
    answers = tuple(answers_of(work))
    tones = [answer.tone for answer in answers]
    warnings = tuple(_warnings(work))
    tone = Tone.BAD if Tone.BAD in tones else Tone.GOOD
    if tone is Tone.GOOD and (Tone.MIXED in tones or warnings):
        tone = Tone.MIXED
    groups = [group for run in work.runs for group in run.failure_groups]
    groups.sort(key=lambda group: -group.count)
    shown = tuple(failure_lines(groups))
    left_out = failed_of(work.runs) - sum(one.count for one in shown)
    effect = work.effect
    second = () if work.second is None else _kinds(work.second.effect)
    crash = () if work.crash is None else _kinds(work.crash.effect)
    return WorkSummary(
        tone=tone,
        title=clean(work.name),
        headline=_changes_of(effect, work),
        sentences=tuple(_about(work)),
        answers=answers,
        rows=tuple(_rows(work)),
        kinds=_kinds(effect),
        kinds_rest=_kinds_rest(effect),
        properties=tuple(map(_property, effect.properties[:MOST_PROPERTIES])),
        properties_rest=_properties_rest(effect),
        failures=shown,
        failures_rest=plural(left_out, "more failure") if left_out > 0 else "",
        second=second,
        crash=crash,
        kills=() if work.crash is None else tuple(_kills(work.crash)),
        bill=() if work.bill is None else tuple(bill_rows(work.bill)),
        bill_note="" if work.bill is None else bill_note(work.bill),
        warnings=warnings,
    )


def _changes_of(effect: Effect, work: RehearsedWork) -> str:
    handled, failed = work.counts.handled, work.counts.failed
    if not work.runs:
        return "It could not be run."
    parts = [f"{plural(handled, 'entity', 'entities')} handled"]
    for count, what in (
        (effect.changed, "changed"), (effect.created, "created"), (effect.deleted, "deleted"),
        (failed, "failed"),
    ):  # fmt: skip
        if count:
            parts.append(f"{count:,} {what}")
    if not effect.differs:
        parts.append("nothing changed")
    return f"{', '.join(parts)}."


def _about(work: RehearsedWork) -> Iterator[str]:
    for number, run in enumerate(work.runs):
        chain = f"Successor {number}, {clean(run.updater)}: " if number else ""
        if run.description:
            yield f"{chain}{clean(run.description)}"
        elif chain:
            yield f"{chain}{run.counts.handled:,} handled."
        if run.params:
            yield f"With {', '.join(clean(assignment(*one)) for one in run.params.items())}."
        if run.selection:
            yield f"Only {clean(str(run.selection))}."
        if run.log_total:
            lines = "; ".join(map(clean, run.log_lines[:MOST_LOGGED]))
            more = "; …" if run.log_total > MOST_LOGGED else ""
            yield f"Logged {plural(run.log_total, 'line')}: {lines}{more}"


def _rows(work: RehearsedWork) -> Iterator[tuple[str, str, str]]:
    first = work.counts.named()
    second = None
    if work.second is not None and work.second.runs:
        total = work.second.runs[0].counts
        for run in work.second.runs[1:]:
            total = total + run.counts
        second = total.named()
    for name, title in _COUNTED:
        again = 0 if second is None else second[name]
        if first[name] or again or name in ("handled", "failed"):
            yield title, f"{first[name]:,}", "" if second is None else f"{again:,}"


def _kinds(effect: Effect) -> tuple[KindLines, ...]:
    return tuple(map(kind_lines, effect.kinds[:MOST_KINDS]))


def _kinds_rest(effect: Effect) -> str:
    left_out = effect.more_kinds + sum(kind.seen for kind in effect.kinds[MOST_KINDS:])
    return plural(left_out, "more entity", "more entities") + " in other ways" if left_out else ""


def _property(one: PropertyEffect) -> PropertyLine:
    return PropertyLine(
        f"{clean(one.kind)}.{clean(one.name)}",
        f"{one.changed:,}",
        _values(one.before),
        _values(one.after),
    )


def _values(values: ValueSummary) -> str:
    if len(values.types) == 1:
        kinds = values.types[0][0]
    else:
        kinds = ", ".join(f"{name} ({count:,})" for name, count in values.types)
    if values.distinct == 0:
        return kinds
    if values.distinct == 1 and values.common:
        return f"{kinds}: {clean(values.common[0][0])}"
    many = "more than 1,000" if values.distinct is None else f"{values.distinct:,}"
    parts = [f"{many} different"]
    if values.common:
        shown = ", ".join(f"{clean(text)} ({count:,})" for text, count in values.common)
        parts.append(f"most often {shown}")
    elif values.least is not None and values.greatest is not None:
        parts.append(f"{clean(values.least)} to {clean(values.greatest)}")
    return f"{kinds}: {', '.join(parts)}"


def _properties_rest(effect: Effect) -> str:
    left_out = effect.more_properties + max(0, len(effect.properties) - MOST_PROPERTIES)
    return plural(left_out, "more property", "more properties") if left_out else ""


def _kills(crash: CrashPass) -> Iterator[str]:
    for number, kill in enumerate(crash.kills, start=1):
        when = (
            "after a commit was applied, before its answer arrived"
            if kill.after
            else ("before a commit was applied")
        )
        writes = plural(kill.writes, "entity was", "entities were")
        yield f"Kill {number}: right {when}; {writes} written by then."


def _warnings(work: RehearsedWork) -> Iterator[str]:
    for run in work.runs:
        yield from (clean(warning.partition("\n")[0]) for warning in run.warnings)
    yield from (clean(warning.message) for warning in work.effect.warnings)

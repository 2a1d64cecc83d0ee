"""What a plan says, in words: decided once, for the terminal, text, HTML and Markdown.

The reader decides whether to run. So what would change comes first, and how certain that is; then
examples of each kind of change, then the cost. What may go wrong comes last, where it is seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bulkup.core.changes import WouldChange
from bulkup.core.failure_groups import FailureGroup
from bulkup.core.plan import Bill, ChangeKind, Drawn, Estimate, Forecast, Plan, Total
from bulkup.core.visible import assignment
from bulkup.report.summary_model import FailureLines, Tone, what_failed
from bulkup.report.text import (
    VALUE_LIMIT,
    clean,
    clean_block,
    duration,
    moment,
    per_second,
    plural,
)

MOST_KINDS = 20
MOST_FAILURES = 10
SHOWN_PROPERTIES = 20

_OUTCOMES = (
    ("written", "Written"),
    ("deleted", "Deleted"),
    ("unchanged", "Unchanged"),
    ("left_alone", "Left alone"),
    ("vanished", "Vanished"),
    ("failed", "Failed"),
    ("changed_not_written", "Changed, not written"),
    ("other_written", "Others written"),
    ("created", "  of these, created"),
    ("other_deleted", "Others deleted"),
)
_ACTIONS = {
    "update": "Update",
    "delete": "Delete",
    "create": "Create",
    "overwrite": "Overwrite",
    "delete other": "Delete other",
}


@dataclass(frozen=True)
class ChangeLine:
    """One property of an example. A value of None: the property is absent."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Example:
    key: str
    changes: tuple[ChangeLine, ...]


@dataclass(frozen=True)
class KindLines:
    title: str
    """`Update Person`."""
    number: str
    """`98,000 (93,726 to 106,274)`."""
    properties: tuple[str, ...]
    """`full_name: (new) → string`."""
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class PlanSummary:
    """Every string in here is one clean line; it only needs the escaping of the output format."""

    tone: Tone
    title: str
    headline: str
    sentences: tuple[str, ...]
    rows: tuple[tuple[str, str, str], ...]
    """A name, the predicted number, and its interval or an empty string."""
    kinds: tuple[KindLines, ...]
    kinds_rest: str
    failures: tuple[FailureLines, ...]
    failures_rest: str
    bill: tuple[tuple[str, str, str], ...]
    """An operation, its count, its cost."""
    bill_note: str
    forecast: str
    warnings: tuple[str, ...]


def summarize_plan(plan: Plan) -> PlanSummary:
    predicted = plan.predicted
    failed = predicted.failed.count
    return PlanSummary(
        tone=Tone.MIXED if plan.warnings or failed else Tone.GOOD,
        title=f"Plan of {clean(plan.work.updater)}",
        headline=_headline(plan),
        sentences=tuple(_sentences(plan)),
        rows=tuple(_rows(plan)),
        kinds=tuple(map(kind_lines, plan.kinds[:MOST_KINDS])),
        kinds_rest=_kinds_rest(plan),
        failures=tuple(failure_lines(plan.failure_groups)),
        failures_rest=_failures_rest(plan),
        bill=() if plan.bill is None else tuple(bill_rows(plan.bill)),
        bill_note="" if plan.bill is None else bill_note(plan.bill),
        forecast="" if plan.forecast is None else _forecast(plan.forecast, plan.round_trip_s),
        warnings=tuple(clean(warning.message) for warning in plan.warnings),
    )


def _headline(plan: Plan) -> str:
    predicted = plan.predicted
    about = "" if predicted.written.is_exact else "about "
    total = f"{predicted.handled.count:,}"
    parts = [
        f"{about}{estimate.count:,} {done}"
        for estimate, done in (
            (predicted.written, "written"),
            (predicted.deleted, "deleted"),
            (predicted.created, "others created"),
        )
        if estimate.count
    ]
    if not predicted.handled.count:
        return "The query finds no entities."
    entities = "entity" if total == "1" else "entities"
    if not parts:
        failed = predicted.failed.count
        and_fail = f", and {about}{failed:,} would fail" if failed else ""
        return f"Of {total} {entities}, none would change{and_fail}."
    return f"Of {total} {entities}, {', '.join(parts)}."


def _sentences(plan: Plan) -> Iterator[str]:
    work, handled = plan.work, plan.handled
    yield f"{clean(work.updater)} on {clean(str(work.target))}, {moment(work.created)}."
    if work.params:
        params = [clean(assignment(name, value)) for name, value in work.params.items()]
        yield f"With {', '.join(params)}."
    if work.selection:
        yield f"Only {clean(str(work.selection))}."
    if plan.is_sample:
        how = (
            "by __scatter__, a hash of their keys"
            if plan.drawn is Drawn.SCATTER
            else "at random from all keys"
        )
        yield (
            f"{plural(handled, 'entity was', 'entities were')} handled, drawn {how}. In at least "
            "95 of 100 samples, all numbers that a run would count lie in their intervals."
        )
    elif handled:
        which = "All" if handled > 1 else "The"
        yield f"{which} {plural(handled, 'entity was', 'entities were')} handled."
    yield "Nothing was written."


def _rows(plan: Plan) -> Iterator[tuple[str, str, str]]:
    how = {
        Total.COUNTED: "counted",
        Total.READ: "",
        Total.ESTIMATED: "an estimate, by Datastore's statistics of the last days",
    }
    yield "Entities that match", f"{plan.predicted.handled.count:,}", how[plan.total]
    for name, title in _OUTCOMES:
        estimate: Estimate = getattr(plan.predicted, name)
        if estimate.count or (name == "failed" and plan.is_sample):
            yield title, f"{estimate.count:,}", _interval(estimate)


def _interval(estimate: Estimate) -> str:
    if estimate.is_exact:
        return ""
    return f"{estimate.low:,} to {estimate.high:,}" if estimate.low else f"up to {estimate.high:,}"


def _number(estimate: Estimate) -> str:
    interval = _interval(estimate)
    return f"{estimate.count:,}" + (f" ({interval})" if interval else "")


def kind_lines(kind: ChangeKind) -> KindLines:
    properties = [
        f"{clean(one.name)}: {one.before or '(new)'}"
        + ("" if one.before == one.after else f" → {one.after or '(removed)'}")
        for one in kind.properties[:SHOWN_PROPERTIES]
    ]
    if left_out := len(kind.properties) - len(properties):
        properties.append(f"and {plural(left_out, 'more property', 'more properties')}")
    return KindLines(
        f"{_ACTIONS.get(kind.action, clean(kind.action))} {clean(kind.kind)}",
        _number(kind.predicted),
        tuple(properties),
        tuple(map(_example, kind.examples)),
    )


def _example(event: WouldChange) -> Example:
    return Example(
        clean(event.key),
        tuple(
            ChangeLine(clean(one.name), _value(one.before), _value(one.after))
            for one in event.changes[:SHOWN_PROPERTIES]
        ),
    )


def _value(text: str | None) -> str | None:
    return None if text is None else clean(text, VALUE_LIMIT)


def _kinds_rest(plan: Plan) -> str:
    left_out = plan.more_kinds + sum(kind.seen for kind in plan.kinds[MOST_KINDS:])
    return plural(left_out, "more write") + " of other kinds" if left_out else ""


def failure_lines(groups: Sequence[FailureGroup]) -> Iterator[FailureLines]:
    for group in groups[:MOST_FAILURES]:
        yield FailureLines(
            plural(group.count, "entity", "entities"),
            what_failed(group),
            clean_block(group.traceback),
            ", ".join(map(clean, group.keys)),
            group.count,
        )


def _failures_rest(plan: Plan) -> str:
    left_out = plan.other_failures + sum(g.count for g in plan.failure_groups[MOST_FAILURES:])
    return plural(left_out, "more failure") + " with other errors" if left_out else ""


_OPERATIONS = {"reads": "Reads", "writes": "Writes", "deletes": "Deletes", "small": "Small"}


def bill_rows(bill: Bill) -> Iterator[tuple[str, str, str]]:
    for line in bill.lines:
        if line.count.high:
            cost = money(line.cost(line.count.count), bill.currency) if line.price else "free"
            yield _OPERATIONS.get(line.operation, clean(line.operation)), _number(line.count), cost
    cost_, low, high = bill.total
    interval = ""
    if f"{low:.2f}" != f"{high:.2f}":
        interval = f"{money(low, bill.currency)} to {money(high, bill.currency)}"
    yield "Total", interval, money(cost_, bill.currency)


def money(amount: float, currency: str) -> str:
    return f"{amount:,.2f} {clean(currency)}"


def bill_note(bill: Bill) -> str:
    where = f" of {clean(bill.region)}" if bill.region else ""
    read = f", read {clean(bill.as_of)}" if bill.as_of else ""
    return (
        f"Prices{where}: {clean(bill.source)}{read}. Without the free quota, storage and network "
        "traffic. The configuration file may set [prices]."
    )


def _forecast(forecast: Forecast, round_trip_s: float | None) -> str:
    measured = f"{per_second(forecast.speed)} were read and handled here"
    if round_trip_s is not None:
        measured += f", with {round_trip_s * 1000:.1f} ms for a round trip to Datastore"
    if forecast.limited_by == "ramp-up":
        return f"At least {duration(forecast.seconds)}, by Datastore's ramp-up; {measured}."
    sentence = f"At least {duration(forecast.seconds)}: {measured}."
    if forecast.ramp_s > forecast.seconds:
        return f"{sentence} On a real project the ramp-up takes {duration(forecast.ramp_s)}."
    return sentence

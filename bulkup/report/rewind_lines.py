"""What `bulkup rewind` would do, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from rich.text import Text

from bulkup.core.moment import read_time, shown
from bulkup.core.rewinding import Action, Kept, KeptEntity, KindRewind, RewindReport
from bulkup.core.typed_key import typed_key
from bulkup.report.diff_json import side_fields
from bulkup.report.diff_lines import table_lines
from bulkup.report.text import clean, plural

MOST_MINUTES = 8
"""Minutes that are listed: the busiest ones."""
MOST_PROPERTIES = 30

_REASONS = {
    Kept.NEWER: "written or deleted after {keep_after} (--keep-after)",
    Kept.NEW: "created since (--delete-new deletes them)",
    Kept.PARTIAL: "deleted since (--property puts back only properties)",
}


def reason(kept: Kept, report: RewindReport) -> str:
    return _REASONS[kept].format(keep_after=shown(report.keep_after))


def rewind_lines(report: RewindReport) -> Iterator[str]:
    """The report that is shown before anything is written."""
    yield f"Now and as of {shown(report.then.micros)}: {clean(str(report.then.target))}"
    yield ""
    head = ("Kind", "Same", "Put back", "Create again", "Delete", "Leave alone")
    rows: list[tuple[str, ...]] = [head]
    for kind in report.kinds:
        numbers = [kind.same, *(kind.actions.get(action, 0) for action in Action)]
        rows.append((clean(kind.kind), *(f"{number:,}" for number in numbers)))
    yield from table_lines(rows, range(1, 6))
    properties = [
        (clean(kind.kind), clean(one.name), one.before, one.after, f"{one.count:,}")
        for kind in report.kinds
        for one in kind.properties[:MOST_PROPERTIES]
    ]
    if properties:
        yield ""
        titles = ("Kind", "Property", "Now", "Then", "Entities")
        yield from table_lines([titles, *properties], (4,))
    yield ""
    for kept, count in report.kept.items():
        if count:
            yield f"Left alone: {plural(count, 'entity', 'entities')} {reason(kept, report)}."
    if report.minutes:
        yield f"What would be overwritten was last written: {_minutes(report)} (UTC)."
        if report.keep_after is None:
            yield (
                "Did the damage end before the last of these? --keep-after TIME leaves alone what "
                "was written later."
            )
    yield headline(report)


def headline(report: RewindReport) -> str:
    """`98 entities to write: 95 put back, 3 created again, 0 deleted; 52 left alone`."""
    actions = report.actions
    if not report.writes:
        left = actions[Action.LEAVE]
        rest = f"; {left:,} left alone" if left else ""
        return f"Nothing to write: {report.same:,} are as they were{rest}."
    return (
        f"{plural(report.writes, 'entity', 'entities')} to write: {actions[Action.PUT_BACK]:,} put "
        f"back, {actions[Action.RECREATE]:,} created again, {actions[Action.DELETE]:,} deleted; "
        f"{actions[Action.LEAVE]:,} left alone."
    )


def kept_line(kept: KeptEntity, report: RewindReport) -> Text:
    return Text.assemble(
        (clean(kept.key), "bold"), f" would be left alone: {reason(kept.reason, report)}"
    )


def _minutes(report: RewindReport) -> str:
    """`09:04 (95), 09:05 (3)`: the busiest minutes, in chronological order."""
    busiest = sorted(report.minutes, key=lambda one: -one[1])[:MOST_MINUTES]
    rest = sum(count for _, count in report.minutes) - sum(count for _, count in busiest)
    parts = [f"{_clock(minute, report)} ({count:,})" for minute, count in sorted(busiest)]
    return ", ".join(parts) + (f", other times ({rest:,})" if rest else "")


def _clock(minute: int, report: RewindReport) -> str:
    at = datetime.fromtimestamp(minute, timezone.utc)
    return f"{at:%H:%M}" if at.date() == report.started.date() else f"{at:%Y-%m-%d %H:%M}"


def kept_fields(kept: KeptEntity) -> dict[str, Any]:
    return {"key": kept.key, "typed_key": typed_key(kept.key), "reason": str(kept.reason)}


def rewind_fields(report: RewindReport, *, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        **side_fields(report.then),
        "keep_after": read_time(report.keep_after),
        **_numbers(report),
        "kinds": [
            {
                "kind": kind.kind,
                **_numbers(kind),
                "by_property": [
                    {"name": one.name, "now": one.before, "then": one.after, "count": one.count}
                    for one in kind.properties
                ],
            }
            for kind in report.kinds
        ],
        "last_written": [
            {"minute": read_time(minute * 1_000_000), "count": count}
            for minute, count in report.minutes
        ],
        "elapsed_s": report.elapsed_s,
    }


def _numbers(of: RewindReport | KindRewind) -> dict[str, Any]:
    return {
        "same": of.same,
        "put_back": of.actions.get(Action.PUT_BACK, 0),
        "recreated": of.actions.get(Action.RECREATE, 0),
        "deleted": of.actions.get(Action.DELETE, 0),
        "left_alone": {str(kept): of.kept.get(kept, 0) for kept in Kept},
    }

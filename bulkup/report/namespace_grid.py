"""Several namespaces side by side: the table of a report, built once for every output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bulkup.core.events import Report, SpaceResult
from bulkup.core.model import Counts, RunState
from bulkup.report.text import clean, plural

MOST_ROWS = 1000
BRIEF_ROWS = 50
"""On a terminal. If not all namespaces fit, only finished ones without failures are left out."""

NOTE_LIMIT = 200
NAMES_LIMIT = 10
DEFAULT = "(default)"
"""How the empty namespace is shown."""


@dataclass(frozen=True)
class Grid:
    """Every cell is one clean line."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int]
    """The right-aligned columns."""
    rest: str | None = None
    """A line that says what is left out; None if nothing is."""


def grid_of(report: Report, most_rows: int) -> Grid:
    """A row for each namespace of a report that covers several."""
    shown, left_out = _chosen(report.spaces, most_rows)
    counts = report.counts
    titles = count_titles(deletes=bool(counts.deleted), dry_run=report.dry_run)
    return Grid(
        ("Namespace", "State", *titles, ""),
        tuple(_row(space, deletes=bool(counts.deleted)) for space in shown),
        frozenset(range(2, 2 + len(titles))),
        f"{plural(left_out, 'namespace')} more, finished" if left_out else None,
    )


def _chosen(spaces: Sequence[SpaceResult], most: int) -> tuple[list[SpaceResult], int]:
    """The namespaces to show, in their order, and how many are left out. Of more than `most`, the
    last finished ones without failures are left out; all others are always shown."""
    too_many = len(spaces) - most
    shown = []
    for space in reversed(spaces):
        if too_many > 0 and space.state is RunState.FINISHED and not space.counts.failed:
            too_many -= 1
        else:
            shown.append(space)
    return shown[::-1], len(spaces) - len(shown)


def _row(space: SpaceResult, *, deletes: bool) -> tuple[str, ...]:
    name, note = namespace_name(space.namespace), clean(space.note, NOTE_LIMIT)
    counts = count_cells(space.counts, deletes=deletes)
    if space.state is None:
        return name, "not begun", *("" for _ in counts), note
    return name, space.state.value, *counts, note


def count_titles(*, deletes: bool, dry_run: bool = False) -> tuple[str, ...]:
    """The titles of `count_cells`. `deletes`: with a column for deleted entities."""
    deleted = ("Would delete" if dry_run else "Deleted",) if deletes else ()
    return ("Handled", "Would write" if dry_run else "Written", *deleted, "Failed")


def count_cells(counts: Counts, *, deletes: bool) -> tuple[str, ...]:
    counts = counts.reconciled()
    deleted = (counts.deleted,) if deletes else ()
    return tuple(f"{n:,}" for n in (counts.handled, counts.written, *deleted, counts.failed))


def namespace_name(namespace: str) -> str:
    return clean(namespace) or DEFAULT


def namespace_names(namespaces: Iterable[str]) -> str:
    """`a, b and 3 more`."""
    names = [namespace_name(namespace) for namespace in namespaces]
    if len(names) <= NAMES_LIMIT:
        return ", ".join(names)
    return f"{', '.join(names[:NAMES_LIMIT])} and {len(names) - NAMES_LIMIT:,} more"


def grid_lines(grid: Grid) -> Iterator[str]:
    """The table as plain text."""
    table = [grid.head, *grid.rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(grid.head))]
    for row in table:
        cells = [
            cell.rjust(width) if i in grid.numbers else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  " + "  ".join(cells).rstrip()
    if grid.rest:
        yield f"  {grid.rest}"

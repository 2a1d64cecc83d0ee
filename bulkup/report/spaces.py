"""Several namespaces side by side: the table of a report, decided once for every medium."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from bulkup.core.events import Report, SpaceResult
from bulkup.core.model import RunState
from bulkup.report.text import clean, number, plural

MOST_ROWS = 1000
BRIEF_ROWS = 50
"""On a terminal; what is not done is shown first of all."""

DEFAULT = "(default)"
"""The empty namespace, as people are told."""


@dataclass(frozen=True)
class Grid:
    """Every cell is one clean line."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int]
    """Columns that are aligned to the right."""
    rest: str = ""


def grid_of(report: Report, *, brief: bool) -> Grid | None:
    """A row for each namespace, when the report is on several."""
    if not report.spaces:
        return None
    shown, rest = _chosen(report.spaces, BRIEF_ROWS if brief else MOST_ROWS)
    writes = "Would write" if report.dry_run else "Written"
    return Grid(
        ("Namespace", "State", "Handled", writes, "Failed", ""),
        tuple(_row(space) for space in shown),
        frozenset({2, 3, 4}),
        f"{plural(rest, 'namespace')} more, finished" if rest else "",
    )


def _chosen(spaces: Sequence[SpaceResult], most: int) -> tuple[list[SpaceResult], int]:
    """In their order; of too many, finished ones are left out."""
    too_many = len(spaces) - most
    shown = []
    for space in reversed(spaces):
        if too_many > 0 and space.state is RunState.FINISHED and not space.counts.failed:
            too_many -= 1
        else:
            shown.append(space)
    return shown[::-1], len(spaces) - len(shown)


def _row(space: SpaceResult) -> tuple[str, ...]:
    counts = space.counts
    numbers = (counts.handled, counts.writes, counts.failed) if space.state else ()
    return (
        name(space.namespace),
        space.state.value if space.state else "not begun",
        *(number(n) for n in numbers),
        *("" for _ in range(3 - len(numbers))),
        clean(space.note, 200),
    )


def name(namespace: str) -> str:
    return clean(namespace) or DEFAULT


def names(namespaces: Iterable[str], most: int = 10) -> str:
    """`a, b and 3 more`."""
    every = [name(n) for n in namespaces]
    if len(every) <= most:
        return ", ".join(every)
    return f"{', '.join(every[:most])} and {number(len(every) - most)} more"


def grid_lines(grid: Grid) -> Iterator[str]:
    """The table as plain text."""
    every = [grid.head, *grid.rows]
    widths = [max(len(row[i]) for row in every) for i in range(len(grid.head))]
    for row in every:
        cells = [
            cell.rjust(width) if i in grid.numbers else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  " + "  ".join(cells).rstrip()
    if grid.rest:
        yield f"  {grid.rest}"

"""A run's page as lines: what `bulkup report` prints in addition to the summary."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bulkup.report.charts import Part
from bulkup.report.page.comparison import ComparedRow, Comparison
from bulkup.report.page.model import PageTable, RunPage

_BAR = 24
"""Length of the longest bar, in characters."""
_COLUMNS = 5
"""Columns shown of a table; the page has all of them."""
_CELL = 40
"""Characters per cell when two runs are compared."""


def page_lines(page: RunPage) -> Iterator[str]:
    """What the summary lacks: the charts in words, the time, who ran it, the chain."""
    if page.charts:
        yield from ("", "Over time")
        for chart in page.charts:
            yield f"  {chart.title}. {chart.text}"
        yield from (f"  {band}" for band in page.bands)
    if page.parts:
        yield from ("", "What the time went to", *_bars(page.parts))
    for title, table in (
        ("Steering", page.incidents),
        ("The chain", page.chain),
        ("Who ran it", page.runners),
    ):
        if table is not None:
            yield from ("", title, *table_lines(table, _COLUMNS))


def comparison_lines(comparison: Comparison) -> Iterator[str]:
    """Two runs side by side."""
    yield comparison.title
    for title, rows in (
        ("", comparison.rows),
        ("What the time went to", comparison.time),
        ("Failures", comparison.failures),
    ):
        if rows:
            yield ""
            if title:
                yield title
            yield from table_lines(compared_table(rows), 4, _CELL)


def compared_table(rows: Sequence[ComparedRow]) -> PageTable:
    return PageTable(
        ("", "A", "B", "Change"), tuple((row.name, row.a, row.b, row.change) for row in rows)
    )


def table_lines(table: PageTable, columns: int, most: int = 0) -> Iterator[str]:
    """The first `columns` columns, aligned. `most`: characters per cell; 0: no limit."""
    every = [
        tuple(cell if not most or len(cell) <= most else f"{cell[: most - 1]}…" for cell in row)
        for row in (table.head[:columns], *(row[:columns] for row in table.rows))
    ]
    widths = [max(len(row[i]) for row in every) for i in range(len(every[0]))]
    for row in every:
        cells = (
            cell.rjust(width) if i in table.numbers else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        yield f"  {'  '.join(cells)}".rstrip()


def _bars(parts: Sequence[Part]) -> Iterator[str]:
    longest = max(part.width for part in parts)
    for part in parts:
        bar = "█" * round(_BAR * part.width / longest)
        yield f"  {part.name:<19}  {part.share:>4}  {part.took:>10}  {bar}".rstrip()

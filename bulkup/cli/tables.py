"""Tables on standard output."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def console(width_without_terminal: int | None = None) -> Console:
    """Standard output, with the given number of columns where it is not a terminal."""
    from rich.console import Console

    found = Console(highlight=False)
    if width_without_terminal is not None and not found.is_terminal:
        found.width = width_without_terminal
    return found


def print_table(
    out: Console,
    titles: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    numbers: Sequence[str] = (),
    wraps: Sequence[str] = (),
) -> None:
    """Print rows of strings, which may be untrusted.

    Columns named in `numbers` are aligned to the right. Only those in `wraps` are wrapped.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from bulkup.report.text import clean

    # Two spaces between columns: the box has one of them.
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for title in titles:
        table.add_column(
            title,
            justify="right" if title in numbers else "left",
            no_wrap=title not in wraps,
            overflow="fold" if title in wraps else "ellipsis",
        )
    for row in rows:
        table.add_row(*(Text(clean(cell)) for cell in row))
    out.print(table)

"""Tables on standard output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


def console(width_without_terminal: int | None = None) -> Console:
    """Standard output, with the given number of columns if it is not a terminal."""
    from rich.console import Console

    found = Console(highlight=False)
    if not found.is_terminal and (width := _width.get() or width_without_terminal):
        found.width = width
    return found


@contextmanager
def drawn_for(terminal: Console) -> Iterator[None]:
    """What is printed inside the context has the width of `terminal`, even if it is captured
    first."""
    token = _width.set(terminal.width)
    try:
        yield
    finally:
        _width.reset(token)


_width: ContextVar[int | None] = ContextVar("width", default=None)


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

    # Two spaces between columns: one of them comes from the box.
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

"""A run's page, and two side by side, as Markdown. No value may become markup: see `github.py`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from bulkup.report.github import markdown_table, plain, summary_markdown
from bulkup.report.page.comparison import Comparison
from bulkup.report.page.model import ChangedEntity, PageTable, RunPage
from bulkup.report.page.text import compared_table

MARK = "<!-- bulkup report -->"
"""The first line, which identifies a file of ours."""


def page_markdown(page: RunPage) -> str:
    """The page of a run, with its charts in words."""
    return "\n".join(_page(page)) + "\n"


def comparison_markdown(comparison: Comparison) -> str:
    lines = [MARK, f"### {plain(comparison.title)}"]
    for title, rows in (
        ("", comparison.rows),
        ("What the time went to", comparison.time),
        ("Failures", comparison.failures),
    ):
        if rows:
            lines += ["", *([f"**{title}**", ""] if title else []), *_table(compared_table(rows))]
    return "\n".join(lines) + "\n"


def is_report_markdown(beginning: bytes) -> bool:
    """Whether a file begins like one made by this module."""
    return beginning.startswith(MARK.encode())


def _page(page: RunPage) -> Iterator[str]:
    yield MARK
    yield from summary_markdown(page.updater, page.summary)
    if page.summary.next_command:
        yield f"{plain(page.summary.next_label)}: {plain(page.summary.next_command)}"
    if page.charts:
        yield from ("", "**Over time**", "")
        for chart in page.charts:
            yield f"- {plain(chart.title)}: {plain(chart.text)}"
        yield from (f"- {plain(band)}" for band in page.bands)
    if page.parts:
        rows = tuple((part.name, part.share, part.took, part.text) for part in page.parts)
        table = PageTable(("Time", "Share", "Took", "What it is"), rows, (1, 2))
        yield from ("", "**What the time went to**", "", *_table(table))
    for title, found in (
        ("Steering", page.incidents),
        ("The chain", page.chain),
        ("Who ran it", page.runners),
    ):
        if found is not None:
            yield from ("", f"**{title}**", "", *_table(found))
    if page.changes:
        yield from ("", "**What it changed**", "", *_fenced(page.changes))
    if page.changes_note:
        yield from ("", plain(page.changes_note))


def _table(table: PageTable) -> Iterator[str]:
    return markdown_table(table.head, table.rows, table.numbers)


def _fenced(changes: Sequence[ChangedEntity]) -> Iterator[str]:
    """A fenced block, in which nothing is markup. Each line begins with a prefix of ours."""
    lines = [line for one in changes for line in _changed(one)]
    longest = max((len(run) for run in re.findall("`+", "\n".join(lines))), default=0)
    fence = "`" * max(3, longest + 1)
    yield from (f"{fence}diff", *lines, fence)


def _changed(one: ChangedEntity) -> Iterator[str]:
    yield f"  {one.key} {one.what}".rstrip()
    for property_ in one.properties:
        if property_.before is not None:
            yield f"- {property_.name}: {property_.before}"
        if property_.after is not None:
            yield f"+ {property_.name}: {property_.after}"

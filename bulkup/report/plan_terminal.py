"""A plan on a terminal, and as plain text for a pipe or a file."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from bulkup.report.plan_summary import ChangeLine, KindLines, PlanSummary
from bulkup.report.summary_terminal import STYLES


def plan_lines(summary: PlanSummary) -> Iterator[Text]:
    """Only `Text` objects reach rich: in a plain string, it would interpret markup that comes from
    an entity."""
    yield Text(summary.headline, STYLES[summary.tone])
    yield from (Text(sentence) for sentence in summary.sentences)
    yield Text("")
    yield from table_texts(summary.rows)
    if summary.kinds:
        yield Text("\nChanges", "bold")
        for kind in summary.kinds:
            yield from kind_texts(kind)
        if summary.kinds_rest:
            yield Text(f"  {summary.kinds_rest}")
    if summary.failures or summary.failures_rest:
        yield Text("\nFailures", "bold")
        for failure in summary.failures:
            yield Text.assemble("  ", (failure.key, "bold red"), ": ", failure.what)
            yield Text(f"      {failure.keys}")
            yield from (Text(f"      {line}", "dim") for line in failure.traceback)
        if summary.failures_rest:
            yield Text(f"  {summary.failures_rest}")
    if summary.bill:
        yield Text("\nCost", "bold")
        yield from table_texts(summary.bill)
        yield Text(f"  {summary.bill_note}", "dim")
    if summary.forecast:
        yield Text("\nDuration", "bold")
        yield Text(f"  {summary.forecast}")
    if summary.warnings:
        yield Text("\nWarnings", "bold")
        yield from (Text(f"  {warning}", "yellow") for warning in summary.warnings)


def table_texts(rows: tuple[tuple[str, str, str], ...]) -> Iterator[Text]:
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    for name, number, more in rows:
        line = Text(f"  {name:<{widths[0]}}  {number:>{widths[1]}}")
        if more:
            line.append(f"  {more}", "dim")
        yield line


def kind_texts(kind: KindLines) -> Iterator[Text]:
    yield Text.assemble("  ", (kind.title, "bold"), f": {kind.number}")
    yield from (Text(f"      {line}", "cyan") for line in kind.properties)
    for example in kind.examples:
        yield Text(f"    {example.key}")
        for change in example.changes:
            yield from _change(change)


def _change(change: ChangeLine) -> Iterator[Text]:
    if change.before is not None:
        yield Text(f"      - {change.name}: {change.before}", "red")
    if change.after is not None:
        yield Text(f"      + {change.name}: {change.after}", "green")

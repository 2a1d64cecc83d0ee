"""A plan as Markdown, for a comment on a pull request.

Values of entities are untrusted: none may become a link, a mention, an image or a table. In
sentences and tables, all punctuation is replaced by character references. Diffs are in fenced
blocks, which show everything unchanged, after a prefix on each line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from bulkup.report.github import ICONS, plain
from bulkup.report.plan_summary import Example, KindLines, PlanSummary

MARK = "<!-- bulkup plan -->"
"""The first line, by which a job can find its earlier comment."""

MAX_CHARACTERS = 60_000
"""GitHub refuses a comment of more than 65,536."""

_SHORTER = ((20, 3), (10, 2), (5, 1), (5, 0), (0, 0))
"""How many kinds of change, and examples of each. If a comment is too long, the next pair is
tried."""


def plan_markdown(summary: PlanSummary) -> str:
    text = ""
    for kinds, examples in _SHORTER:
        text = "\n".join(_lines(summary, kinds, examples)) + "\n"
        if len(text) <= MAX_CHARACTERS:
            break
    return text


def is_plan_comment(beginning: bytes) -> bool:
    """Whether a file begins like one made by this module."""
    return beginning.startswith(MARK.encode())


def _lines(summary: PlanSummary, most_kinds: int, most_examples: int) -> Iterator[str]:
    yield MARK
    yield f"### {ICONS[summary.tone]} {plain(summary.title)}"
    yield ""
    yield f"**{plain(summary.headline)}**"
    for sentence in summary.sentences:
        yield ""
        yield plain(sentence)
    yield ""
    yield from _table(("", "Predicted", "Interval (95 %)"), summary.rows)
    for warning in summary.warnings:
        yield ""
        yield f"⚠️ {plain(warning)}"
    for kind in summary.kinds[:most_kinds]:
        yield from _kind(kind, most_examples)
    if len(summary.kinds) > most_kinds:
        yield ""
        yield plain("More kinds of changes are left out here.")
    if summary.kinds_rest:
        yield ""
        yield plain(summary.kinds_rest)
    for failure in summary.failures:
        yield ""
        yield f"❌ {plain(failure.key)}: {plain(failure.what)} ({plain(failure.keys)})"
    if summary.failures_rest:
        yield ""
        yield plain(summary.failures_rest)
    if summary.bill:
        yield ""
        yield from _table(("Cost", "Operations", ""), summary.bill)
        yield ""
        yield plain(summary.bill_note)
    if summary.forecast:
        yield ""
        yield f"Duration: {plain(summary.forecast)}"


def _table(head: tuple[str, str, str], rows: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|---|--:|---|"
    yield from (f"| {' | '.join(map(plain, row))} |" for row in rows)


def _kind(kind: KindLines, most_examples: int) -> Iterator[str]:
    yield ""
    yield f"**{plain(kind.title)}**: {plain(kind.number)}"
    for line in kind.properties:
        yield f"- {plain(line)}"
    yield from diff_block(kind.examples[:most_examples])


def diff_block(examples: Sequence[Example]) -> Iterator[str]:
    """Examples in a fenced block that none of their lines can end."""
    if examples:
        lines = [line for example in examples for line in _example(example)]
        fence = "`" * max(3, 1 + max(len(run) for run in re.findall("`*", "\n".join(lines))))
        yield ""
        yield f"{fence}diff"
        yield from lines
        yield fence


def _example(example: Example) -> Iterator[str]:
    yield f"  {example.key}"
    for change in example.changes:
        if change.before is not None:
            yield f"- {change.name}: {change.before}"
        if change.after is not None:
            yield f"+ {change.name}: {change.after}"

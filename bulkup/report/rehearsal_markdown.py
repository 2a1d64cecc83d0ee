"""A rehearsal as Markdown, for a comment on a pull request.

Values of entities are untrusted: none may become a link, a mention, an image or a table. In
sentences and tables, all punctuation is replaced by character references. Diffs are in fenced
blocks, which show everything unchanged, after a prefix on each line.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from bulkup.report.github import ICONS, markdown_table, plain
from bulkup.report.plan_markdown import MAX_CHARACTERS, diff_block
from bulkup.report.plan_summary import KindLines
from bulkup.report.rehearsal_summary import RehearsalSummary, WorkSummary

MARK = "<!-- bulkup rehearsal -->"
"""The first line, by which a job can find its earlier comment."""


class _Most(NamedTuple):
    """How many of each a comment shows. If it is too long, lower limits are tried."""

    kinds: int
    examples: int
    properties: int
    failures: int


_SHORTER = (
    _Most(20, 3, 30, 10),
    _Most(10, 1, 20, 10),
    _Most(5, 1, 10, 5),
    _Most(3, 0, 5, 3),
    _Most(0, 0, 0, 0),
)


def rehearsal_markdown(summary: RehearsalSummary) -> str:
    text = ""
    for most in _SHORTER:
        text = "\n".join(_lines(summary, most)) + "\n"
        if len(text) <= MAX_CHARACTERS:
            return text
    return text[:MAX_CHARACTERS].rpartition("\n")[0] + "\n"


def is_rehearsal_comment(beginning: bytes) -> bool:
    """Whether a file begins like one made by this module."""
    return beginning.startswith(MARK.encode())


def _lines(summary: RehearsalSummary, most: _Most) -> Iterator[str]:
    yield MARK
    yield f"### {ICONS[summary.tone]} {plain(summary.title)}"
    if summary.headline:
        yield ""
        yield f"**{plain(summary.headline)}**"
    for work in summary.works:
        if len(summary.works) > 1:
            yield ""
            yield f"#### {ICONS[work.tone]} {plain(work.title)}"
        yield from _work(work, most)
    yield ""
    yield f"<sub>{' '.join(map(plain, summary.sentences))}</sub>"


def _work(work: WorkSummary, most: _Most) -> Iterator[str]:
    yield ""
    yield f"**{plain(work.headline)}**"
    for sentence in work.sentences:
        yield ""
        yield plain(sentence)
    yield ""
    yield "| | | |"
    yield "|---|---|---|"
    for answer in work.answers:
        icon = "" if answer.tone is None else ICONS[answer.tone]
        yield f"| {icon} | **{plain(answer.name)}** | {plain(answer.text)} |"
    for warning in work.warnings:
        yield ""
        yield f"⚠️ {plain(warning)}"
    yield from _kinds("", work.kinds, most)
    if work.kinds_rest:
        yield ""
        yield plain(work.kinds_rest)
    yield from _failures(work, most)
    yield from _kinds("What a second run changes", work.second, most)
    yield from _kinds("What is different after crashes", work.crash, most)
    yield from _details(work, most)


def _failures(work: WorkSummary, most: _Most) -> Iterator[str]:
    for failure in work.failures[: most.failures]:
        yield ""
        yield f"❌ {plain(failure.key)}: {plain(failure.what)} ({plain(failure.keys)})"
    left_out = len(work.failures) - most.failures
    if left_out > 0 or work.failures_rest:
        yield ""
        yield plain("More failures are left out here.")


def _kinds(title: str, kinds: Sequence[KindLines], most: _Most) -> Iterator[str]:
    if not kinds:
        return
    if title:
        yield ""
        yield f"**{plain(title)}**"
    for kind in kinds[: most.kinds]:
        yield ""
        yield f"**{plain(kind.title)}**: {plain(kind.number)}"
        yield from (f"- {plain(line)}" for line in kind.properties)
        yield from diff_block(kind.examples[: most.examples])
    if len(kinds) > most.kinds:
        yield ""
        yield plain("More kinds of changes are left out here.")


def _details(work: WorkSummary, most: _Most) -> Iterator[str]:
    """A collapsed section with the numbers behind the answers."""
    yield ""
    yield "<details><summary>Counts, values, crashes, cost</summary>"
    if work.rows:
        yield ""
        yield from markdown_table(("", "First run", "Second run"), work.rows, (1, 2))
    properties = work.properties[: most.properties]
    if properties:
        yield ""
        rows = [(one.name, one.changed, one.before, one.after) for one in properties]
        yield from markdown_table(("Property", "Changed", "Before", "After"), rows, (1,))
    if len(work.properties) > len(properties) or work.properties_rest:
        yield ""
        yield plain("More properties are left out here.")
    if work.kills:
        yield ""
        yield from (f"- {plain(kill)}" for kill in work.kills)
    if work.bill:
        yield ""
        yield from markdown_table(("Cost", "Operations", ""), work.bill, (1,))
        yield ""
        yield plain(work.bill_note)
    yield ""
    yield "</details>"

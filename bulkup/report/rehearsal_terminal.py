"""A rehearsal on a terminal, and as plain text for a pipe or a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from bulkup.report.plan_summary import KindLines
from bulkup.report.plan_terminal import kind_texts, table_texts
from bulkup.report.rehearsal_answers import Answer
from bulkup.report.rehearsal_summary import PropertyLine, RehearsalSummary, WorkSummary
from bulkup.report.summary_model import Tone
from bulkup.report.summary_terminal import STYLES

_SIGNS = {Tone.GOOD: "✓", Tone.MIXED: "!", Tone.BAD: "✗"}


def rehearsal_lines(summary: RehearsalSummary) -> Iterator[Text]:
    """Only `Text` objects reach rich: in a plain string, it would interpret markup that comes from
    an entity."""
    yield Text(summary.title, STYLES[summary.tone])
    if summary.headline:
        yield Text(summary.headline)
    for work in summary.works:
        if len(summary.works) > 1:
            yield Text(f"\n{work.title}", STYLES[work.tone])
        yield from _work(work)
    yield Text("")
    yield from (Text(sentence, "dim") for sentence in summary.sentences)


def _work(work: WorkSummary) -> Iterator[Text]:
    yield Text(work.headline)
    yield from (Text(sentence) for sentence in work.sentences)
    yield Text("")
    yield from _answers(work.answers)
    if work.rows:
        yield Text("\nCounts (first run, second run)", "bold")
        yield from table_texts(work.rows)
    yield from _kinds("Changes", work.kinds, work.kinds_rest)
    yield from _properties(work.properties, work.properties_rest)
    if work.failures:
        yield Text("\nFailures", "bold")
        for failure in work.failures:
            yield Text.assemble("  ", (failure.key, "bold red"), ": ", failure.what)
            yield Text(f"      {failure.keys}")
            yield from (Text(f"      {line}", "dim") for line in failure.traceback)
        if work.failures_rest:
            yield Text(f"  {work.failures_rest}")
    yield from _kinds("What a second run changes", work.second, "")
    yield from _kinds("What is different after crashes", work.crash, "")
    if work.kills:
        yield Text("\nCrashes", "bold")
        yield from (Text(f"  {kill}") for kill in work.kills)
    if work.bill:
        yield Text("\nCost", "bold")
        yield from table_texts(work.bill)
        yield Text(f"  {work.bill_note}", "dim")
    if work.warnings:
        yield Text("\nWarnings", "bold")
        yield from (Text(f"  {warning}", "yellow") for warning in work.warnings)


def _answers(answers: Sequence[Answer]) -> Iterator[Text]:
    width = max(len(answer.name) for answer in answers)
    for answer in answers:
        tone = answer.tone
        sign = (" ", "") if tone is None else (_SIGNS[tone], STYLES[tone])
        yield Text.assemble("  ", sign, f" {answer.name:<{width}}  {answer.text}")


def _kinds(title: str, kinds: Sequence[KindLines], rest: str) -> Iterator[Text]:
    if kinds:
        yield Text(f"\n{title}", "bold")
        for kind in kinds:
            yield from kind_texts(kind)
        if rest:
            yield Text(f"  {rest}")


def _properties(properties: Sequence[PropertyLine], rest: str) -> Iterator[Text]:
    if not properties:
        return
    yield Text("\nProperties that change", "bold")
    for one in properties:
        yield Text.assemble("  ", (one.name, "bold"), f" in {one.changed}")
        yield Text(f"      - {one.before}", "red")
        yield Text(f"      + {one.after}", "green")
    if rest:
        yield Text(f"  {rest}")

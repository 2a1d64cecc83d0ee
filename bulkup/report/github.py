"""For GitHub Actions: a summary on the job's page, and annotations for what failed.

What is shown is untrusted. No string may become a link, an image or a table, and no line of the log
may become a command to the GitHub runner (which treats every line that begins with `::` as one,
even after spaces).
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TextIO

from bulkup.core.errors import BulkupError
from bulkup.core.events import Report
from bulkup.report.namespace_grid import Grid, count_cells, count_titles
from bulkup.report.printer import Delivery
from bulkup.report.summary_model import FailureLines, Summary, Tone, summarize, tone_of
from bulkup.report.text import clean, duration

SHOWN_FAILURES = 5
"""Failures that become annotations; GitHub shows ten errors per step."""

MAX_SUMMARY_BYTES = 900_000
"""GitHub drops the whole summary of a step when it is larger than 1 MiB."""

ICONS = {Tone.GOOD: "✅", Tone.MIXED: "⚠️", Tone.BAD: "❌"}


class GitHubPage:
    """Collects the job's summary and annotations; `write` delivers them when the command ends."""

    def __init__(self, summary_path: str | None, err: TextIO) -> None:
        self._path = summary_path
        self.err = err
        self._commands: list[str] = []
        self._markdown: list[str] = []

    def error(self, error: BulkupError) -> None:
        """Add the error of a command that ended without a report."""
        self._command("error", "bulkup", error.message)
        self._markdown.append(f"### {ICONS[Tone.BAD]} bulkup\n\n{plain(clean(error.message))}\n")

    def report(self, report: Report, title: str | None = None) -> None:
        """Add how a run ended. `title` defaults to the updater's name."""
        summary = summarize(report).brief()
        title = title or report.updater
        if summary.tone is not Tone.GOOD:
            level = "error" if summary.tone is Tone.BAD else "warning"
            self._command(level, title, summary.headline)
            for failure in summary.failures[:SHOWN_FAILURES]:
                what = f"{failure.what} ({failure.keys})" if failure.keys else failure.what
                self._command(level, f"{title}: {failure.key}", what)
        for warning, *_ in summary.warnings:
            self._command("warning", title, warning)
        self._markdown.append("\n".join(summary_markdown(title, summary)))

    def rehearsal(self, title: str, tone: Tone, headline: str, markdown: str) -> None:
        """Add the result of a rehearsal. `markdown` is added unchanged."""
        if tone is not Tone.GOOD:
            self._command("error" if tone is Tone.BAD else "warning", title, headline)
        self._markdown.append(markdown)

    def migrations(self, rows: Sequence[tuple[str, Report | None]], outcome: str) -> None:
        """Add what one `migrate` did. A migration without a report was not started."""
        lines = ["## Migrations", ""]
        if rows:
            deletes = any(report.counts.deleted for _, report in rows if report is not None)
            titles = count_titles(deletes=deletes)
            lines += [
                f"| | Migration | State | {' | '.join(titles)} | Took |",
                f"|---|---|---|{'--:|' * len(titles)}--:|",
                *(_migration_row(name, report, deletes=deletes) for name, report in rows),
                "",
            ]
        lines += [plain(clean(outcome)), ""]
        self._markdown.insert(0, "\n".join(lines))

    def _command(self, level: str, title: str, message: str) -> None:
        title, message = clean(title, 200), clean(message)
        self._commands.append(f"::{level} title={_property(title)}::{_data(message)}")

    def write(self) -> Delivery | None:
        """Write the summary and the annotations; None when there was no summary to write."""
        for command in self._commands:
            _write_line(self.err, command)
        if not self._path or not self._markdown:
            return None
        raw = "\n".join(self._markdown).encode("utf-8", "backslashreplace")
        try:
            with open(self._path, "ab") as file:
                file.write(raw[:MAX_SUMMARY_BYTES].rpartition(b"\n")[0] + b"\n")
        except OSError as error:
            why = error.strerror or type(error).__name__
            return Delivery("github", False, f"The step summary could not be written: {why}.")
        return Delivery("github", True, "The step summary has been written.")


@contextmanager
def github_page(
    environment: Mapping[str, str], err: TextIO | None = None
) -> Iterator[GitHubPage | None]:
    """The page of the job; None outside GitHub Actions.

    Inside the context, GitHub takes no line of the log for a command.
    """
    if environment.get("GITHUB_ACTIONS") != "true":
        yield None
        return
    page = GitHubPage(environment.get("GITHUB_STEP_SUMMARY"), err or sys.stderr)
    token = secrets.token_hex(16)
    _write_line(page.err, f"::stop-commands::{token}")
    try:
        yield page
    finally:
        sys.stdout.flush()
        _write_line(page.err, f"::{token}::")
        delivery = page.write()
        if delivery is not None and not delivery.ok:
            _write_line(page.err, delivery.message)


def _write_line(stream: TextIO, text: str) -> None:
    stream.write(text + "\n")
    stream.flush()


def summary_markdown(title: str, summary: Summary) -> Iterator[str]:
    """A summary as lines of Markdown."""
    yield f"### {ICONS[summary.tone]} {plain(clean(title))}"
    for sentence in (summary.headline, *summary.sentences):
        yield ""
        yield plain(sentence)
    yield ""
    yield "| | |"
    yield "|---|---|"
    for name, value in summary.rows:
        yield f"| {plain(name)} | {plain(value)} |"
    if summary.grid is not None:
        yield ""
        yield from _grid(summary.grid)
    if summary.failures:
        yield ""
        yield "| Failed | Why |"
        yield "|---|---|"
        for failure in summary.failures:
            what = f"{failure.what} ({failure.keys})" if failure.keys else failure.what
            yield f"| {plain(failure.key)} | {plain(what)} |"
        if summary.failures_rest:
            yield ""
            yield plain(summary.failures_rest)
        for failure in summary.failures:
            if failure.traceback:
                yield from _traceback(failure)
    for warning, *details in summary.warnings:
        yield ""
        yield f"⚠️ {plain(warning)}"
        if details:
            yield from _folded("In full", details)
    yield ""


def _traceback(failure: FailureLines) -> Iterator[str]:
    """Collapsed, as plain text with `<br>` between the lines."""
    yield from _folded(f"Traceback: {failure.key}", failure.traceback)


def _folded(title: str, lines: Iterable[str]) -> Iterator[str]:
    yield ""
    yield f"<details><summary>{plain(title)}</summary>"
    yield ""
    yield "<br>".join(plain(line.replace("  ", "\u00a0\u00a0")) for line in lines)
    yield ""
    yield "</details>"


def markdown_table(
    head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Collection[int]
) -> Iterator[str]:
    """`head` is our own Markdown, `rows` hold clean lines. `numbers`: the right-aligned columns."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'|'.join('--:' if i in numbers else '---' for i in range(len(head)))}|"
    yield from (f"| {' | '.join(map(plain, row))} |" for row in rows)


def _grid(grid: Grid) -> Iterator[str]:
    yield from markdown_table(grid.head, grid.rows, grid.numbers)
    if grid.rest:
        yield from ("", plain(grid.rest))


def _migration_row(name: str, report: Report | None, *, deletes: bool) -> str:
    shown = plain(clean(name))
    if report is None:
        return f"| ⏳ | {shown} | pending |{' |' * len(count_titles(deletes=deletes))} |"
    cells = (
        ICONS[tone_of(report)],
        shown,
        report.state.value,
        *count_cells(report.counts, deletes=deletes),
        plain(duration(report.elapsed_s)),
    )
    return f"| {' | '.join(cells)} |"


_HARMLESS = frozenset(" ,;=%()'/-")


def plain(text: str) -> str:
    """One clean line as Markdown that shows exactly this text.

    A character reference is never markup, so all punctuation that could be markup becomes one. So
    do the dot and the colon, because GitHub turns strings that contain them into links.
    """
    return "".join(c if c.isalnum() or c in _HARMLESS or c > "~" else f"&#{ord(c)};" for c in text)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")

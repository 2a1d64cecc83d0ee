"""On GitHub Actions: a summary on the job's page, and failures where its reader looks first.

Elsewhere nothing of this happens. What is shown is untrusted: no text may become a link, a
picture or a table of its own, and no line of a log a command to the runner (whatever begins with
`::`, also behind blanks, is one).
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TextIO

from bulkup.core.errors import BulkupError
from bulkup.core.events import Report
from bulkup.report.printer import Delivery
from bulkup.report.spaces import Grid
from bulkup.report.summary_model import Tone, tell
from bulkup.report.text import clean, duration, number

SHOWN_FAILURES = 5
"""As annotations; GitHub shows ten errors of a step."""

MAX_SUMMARY_BYTES = 900_000
"""GitHub drops a step's summary beyond 1 MiB, all of it."""

ICONS = {Tone.GOOD: "✅", Tone.MIXED: "⚠️", Tone.BAD: "❌"}


class GitHub:
    """What the job's page shall say; said when the command ends. Off GitHub it keeps silent."""

    def __init__(self, environment: Mapping[str, str], err: TextIO) -> None:
        self.is_there = environment.get("GITHUB_ACTIONS") == "true"
        self._path = environment.get("GITHUB_STEP_SUMMARY", "")
        self.err = err
        self._commands: list[str] = []
        self._markdown: list[str] = []

    def error(self, error: BulkupError) -> None:
        """The command ended without a report."""
        self._command("error", "bulkup", error.message)
        self._markdown.append(f"### {ICONS[Tone.BAD]} bulkup\n\n{plain(clean(error.message))}\n")

    def report(self, report: Report, name: str = "") -> None:
        """How a run, or the migration `name`, ended."""
        story = tell(report, brief=True)
        name = name or report.updater
        if story.tone is not Tone.GOOD:
            level = "error" if story.tone is Tone.BAD else "warning"
            self._command(level, name, story.headline)
            for failure in story.failures[:SHOWN_FAILURES]:
                self._command(level, f"{name}: {failure.key}", failure.what)
        for warning in story.warnings:
            self._command("warning", name, warning)
        self._markdown.append("\n".join(_told(name, report)))

    def table(self, title: str, rows: Sequence[tuple[str, Report | None]], note: str) -> None:
        """What one `migrate` did; a migration without a report was not begun."""
        lines = [f"## {plain(clean(title))}", ""]
        if rows:
            lines += [
                "| | Migration | State | Handled | Written | Failed | Took |",
                "|---|---|---|--:|--:|--:|--:|",
                *(_row(name, report) for name, report in rows),
                "",
            ]
        lines += [plain(clean(note)), ""]
        self._markdown.insert(0, "\n".join(lines))

    def _command(self, level: str, title: str, message: str) -> None:
        title, message = clean(title, 200), clean(message)
        self._commands.append(f"::{level} title={_property(title)}::{_data(message)}")

    def say(self) -> Delivery | None:
        """Write the summary and the commands; None when there was nothing to deliver."""
        if not self.is_there:
            return None
        for command in self._commands:
            _line(self.err, command)
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
def github(environment: Mapping[str, str], err: TextIO | None = None) -> Iterator[GitHub]:
    """Until it ends the runner obeys no line of the log; then it hears ours."""
    there = GitHub(environment, err or sys.stderr)
    if not there.is_there:
        yield there
        return
    token = secrets.token_hex(16)
    _line(there.err, f"::stop-commands::{token}")
    try:
        yield there
    finally:
        sys.stdout.flush()
        _line(there.err, f"::{token}::")
        delivery = there.say()
        if delivery is not None and not delivery.ok:
            _line(there.err, delivery.message)


def _line(stream: TextIO, text: str) -> None:
    stream.write(text + "\n")
    stream.flush()


def _told(name: str, report: Report) -> Iterator[str]:
    story = tell(report, brief=True)
    yield f"### {ICONS[story.tone]} {plain(clean(name))}"
    yield ""
    yield plain(story.headline)
    for sentence in story.sentences:
        yield ""
        yield plain(sentence)
    yield ""
    yield "| | |"
    yield "|---|---|"
    for title, value in story.rows:
        yield f"| {plain(title)} | {plain(value)} |"
    if story.grid is not None:
        yield ""
        yield from _grid(story.grid)
    if story.failures:
        yield ""
        yield "| Failed | Why |"
        yield "|---|---|"
        for failure in story.failures:
            yield f"| {plain(failure.key)} | {plain(failure.what)} |"
    for warning in story.warnings:
        yield ""
        yield f"⚠️ {plain(warning)}"
    yield ""


def _grid(grid: Grid) -> Iterator[str]:
    yield f"| {' | '.join(grid.head)} |"
    yield f"|{'|'.join('--:' if i in grid.numbers else '---' for i in range(len(grid.head)))}|"
    yield from (f"| {' | '.join(map(plain, row))} |" for row in grid.rows)
    if grid.rest:
        yield from ("", plain(grid.rest))


def _row(name: str, report: Report | None) -> str:
    shown = plain(clean(name))
    if report is None:
        return f"| ⏳ | {shown} | pending | | | | |"
    icon = ICONS[tell(report, brief=True).tone]
    counts = report.counts
    cells = (number(counts.handled), number(counts.writes), number(counts.failed))
    took = plain(duration(report.elapsed_s))
    return f"| {icon} | {shown} | {report.state.value} | {' | '.join(cells)} | {took} |"


_HARMLESS = frozenset(" ,;=%()'/-")


def plain(text: str) -> str:
    """One clean line as Markdown that is nothing but this text.

    A character reference is never markup, so all punctuation that could be becomes one; the dot
    and the colon too, of which GitHub makes links.
    """
    return "".join(c if c.isalnum() or c in _HARMLESS or c > "~" else f"&#{ord(c)};" for c in text)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")

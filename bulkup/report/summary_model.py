"""What a report says, in words: decided once, for the terminal, text, HTML, mail and GitHub.

The reader is tired and fears two things: broken data, and not knowing what happened. So the
headline says how the run ended, the sentences below it what that means for the data. Then come the
numbers, and the command to type next comes last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from bulkup.core.events import Failure, FailureGroup, Report, RunState
from bulkup.core.verification import STEP as VERIFY_STEP
from bulkup.report.namespace_grid import BRIEF_ROWS, MOST_ROWS, Grid, grid_of
from bulkup.report.summary_rows import rows_of
from bulkup.report.summary_wording import headline_of, is_resumable, sentences_of, subject_of
from bulkup.report.text import clean, clean_block, clean_message, plural, show_command

BRIEF = 5
"""Failures, and log lines, in a summary on the terminal; `-v` and the saved report have more."""
MOST_FAILURES = 50
MOST_LOG_LINES = 200
"""Limits of any report. Even with tracebacks it stays below 10 MB, where mail servers begin to
refuse."""

LEFT_ALONE = "left as it is: "
"""Prefix of the error of an entity that an undo or a rewind does not touch."""

STEPS = {
    "handle": "the updater raised",
    "fail": "the updater failed it",
    "write": "the server refused the write",
    "read": "it could not be read",
    VERIFY_STEP: "not done",
}


class Tone(Enum):
    GOOD = "good"
    MIXED = "mixed"
    """Unfinished, or finished with failures: something is left to do, nothing is broken."""
    BAD = "bad"


@dataclass(frozen=True)
class FailureLines:
    """One failure, or several that are alike."""

    key: str
    """For several: `1,200 entities`."""
    what: str
    """`the updater raised ValueError: no latitude`."""
    traceback: tuple[str, ...]
    keys: str = ""
    """For several: the first keys, and how many more there are."""
    count: int = 1


@dataclass(frozen=True)
class Summary:
    """Every string in here is one clean line; it only needs the escaping of the output format."""

    tone: Tone
    headline: str
    subject: str
    """Mail subject: updater and outcome."""
    ended: datetime
    sentences: tuple[str, ...]
    rows: tuple[tuple[str, str], ...]
    failures: tuple[FailureLines, ...]
    failures_left_out: int
    failures_rest: str | None
    """The line below the failures, when some are left out."""
    log_lines: tuple[str, ...]
    log_lines_left_out: int
    log_rest: str | None
    where_all_are: str
    """How to see the failures and log lines that are left out."""
    where_keys_are: str
    """A sentence on how to get the keys of all failed entities; empty if nothing keeps them."""
    warnings: tuple[tuple[str, ...], ...]
    """Each is a line and the lines below it, such as a traceback."""
    next_label: str
    next_command: str | None
    grid: Grid | None = None
    """A row for each namespace, when the report covers several."""
    brief_grid: Grid | None = None
    failures_title: str = "Failures"

    def brief(self) -> Summary:
        """What fits on a screen: the first failures and log lines, and no traceback twice."""
        if self.grid is None and not self.failures and not self.log_lines:
            return self
        failures = _without_repetition(self.failures[:BRIEF])
        failures_left_out = self.failures_left_out + sum(f.count for f in self.failures[BRIEF:])
        log_lines_left_out = self.log_lines_left_out + len(self.log_lines[BRIEF:])
        return replace(
            self,
            failures=failures,
            failures_left_out=failures_left_out,
            failures_rest=_failures_rest(
                failures, failures_left_out, self.where_all_are, self.where_keys_are
            ),
            log_lines=self.log_lines[:BRIEF],
            log_lines_left_out=log_lines_left_out,
            log_rest=_rest(log_lines_left_out, "log line", self.where_all_are),
            grid=self.brief_grid,
        )


def summarize(report: Report) -> Summary:
    """Put `report` into words."""
    counts, spaces = report.counts, report.spaces
    if report.failure_groups:
        failures = tuple(map(_group, report.failure_groups[:MOST_FAILURES]))
    else:
        failures = tuple(map(_failure, report.failures[:MOST_FAILURES]))
    failures_left_out = counts.failed - report.retried - sum(f.count for f in failures)
    log_lines = report.log_lines[:MOST_LOG_LINES]
    log_lines_left_out = report.log_total - len(log_lines)
    where_all_are, where_keys_are = _where_all_are(report), _where_keys_are(report)
    return Summary(
        tone=tone_of(report),
        headline=headline_of(report),
        subject=subject_of(report),
        ended=report.ended,
        sentences=tuple(sentences_of(report)),
        rows=tuple(rows_of(report)),
        failures=failures,
        failures_left_out=failures_left_out,
        failures_rest=_failures_rest(failures, failures_left_out, where_all_are, where_keys_are),
        log_lines=tuple(map(clean, log_lines)),
        log_lines_left_out=log_lines_left_out,
        log_rest=_rest(log_lines_left_out, "log line", where_all_are),
        where_all_are=where_all_are,
        where_keys_are=where_keys_are,
        warnings=tuple(map(clean_message, report.warnings)),
        next_label="Continue with" if is_resumable(report) else "Next",
        next_command=clean(report.next_command) if report.next_command else None,
        grid=grid_of(report, MOST_ROWS) if spaces else None,
        brief_grid=grid_of(report, BRIEF_ROWS) if spaces else None,
        failures_title="Failures" if report.verification is None else "Not done",
    )


class Summaries:
    """The summaries of reports. Each is built once, for all the outputs that show it in turn.

    Only the last one is kept: a command may work in thousands of namespaces, each with a report.
    """

    def __init__(self) -> None:
        self._last: tuple[Report, Summary] | None = None

    def of(self, report: Report) -> Summary:
        if self._last is None or self._last[0] is not report:
            self._last = report, summarize(report)
        return self._last[1]


def tone_of(report: Report) -> Tone:
    if report.state is RunState.FAILED:
        return Tone.BAD
    if report.state is RunState.FINISHED and not report.counts.failed:
        return Tone.GOOD
    return Tone.MIXED


def what_failed(failure: Failure | FailureGroup) -> str:
    """`the updater raised ValueError: no latitude`, clean."""
    step, error = clean(failure.step), clean(failure.error)
    if error.startswith(LEFT_ALONE):
        return error
    return f"{STEPS[step]} {error}" if step == "handle" else f"{STEPS.get(step, step)}: {error}"


def _failure(failure: Failure) -> FailureLines:
    return FailureLines(clean(failure.key), what_failed(failure), clean_block(failure.traceback))


def _group(group: FailureGroup) -> FailureLines:
    what, traceback = what_failed(group), clean_block(group.traceback)
    keys = [clean(key) for key in group.keys]
    if group.count == 1:
        return FailureLines(keys[0], what, traceback)
    more = group.count - len(keys)
    return FailureLines(
        plural(group.count, "entity", "entities"),
        what,
        traceback,
        ", ".join(keys) + (f" and {more:,} more" if more > 0 else ""),
        group.count,
    )


def _without_repetition(failures: Sequence[FailureLines]) -> tuple[FailureLines, ...]:
    """A traceback that has been shown is not shown again."""
    shown: set[tuple[str, ...]] = set()
    lines = []
    for failure in failures:
        lines.append(replace(failure, traceback=()) if failure.traceback in shown else failure)
        shown.add(failure.traceback)
    return tuple(lines)


def _failures_rest(
    shown: Sequence[FailureLines], left_out: int, where_all_are: str, where_keys_are: str
) -> str | None:
    rest = _rest(left_out, "failure", where_all_are)
    if not where_keys_are or not any(failure.count > 1 for failure in shown):
        return rest
    return f"{rest}. {where_keys_are}" if rest else where_keys_are


def _rest(left_out: int, what: str, where_all_are: str) -> str | None:
    return f"{plural(left_out, f'more {what}')}: {where_all_are}" if left_out > 0 else None


def _where_keys_are(report: Report) -> str:
    if report.verification is not None:
        out = clean(report.verification.out)
        if out and report.state is RunState.FAILED:
            return f"Some of the keys are in {out}; repeat the command to find the others"
        return f"All keys are in {out}" if out else "All keys: verify with --out FILE"
    if report.dry_run or not report.run_id:
        return ""
    show = show_command(report.run_id, report.state_file)
    return f"The keys of all that failed: {show} --failed-keys"


def _where_all_are(report: Report) -> str:
    if report.verification is not None:
        out = clean(report.verification.out)
        if out and report.state is RunState.FAILED:
            return f"{out} has some; repeat the command to find the others"
        return f"{out} has them all" if out else "--out FILE writes them all to a file"
    if report.dry_run:
        return "a dry run keeps none; --json prints each as it happens."
    if report.spaces:
        return "bulkup show RUN, with the run of the namespace."
    return show_command(report.run_id, report.state_file)

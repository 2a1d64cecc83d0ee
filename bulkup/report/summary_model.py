"""What a report says, in words: decided once, for terminal, text and HTML alike.

The reader is tired and fears two things: broken data, and not knowing what happened. So the
first sentence says how it ended, the next what that means for the data, then come the numbers,
and what to type next is the last thing seen. A sentence here may promise only what the engine
keeps (see the promise in the design: exactly once, all writes of one entity or none).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from bulkup.core.errors import Exit
from bulkup.core.events import Failure, Report, RunState
from bulkup.report.spaces import Grid, grid_of, names
from bulkup.report.text import (
    clean,
    clean_block,
    duration,
    moment,
    number,
    per_second,
    plural,
    show_command,
)

BRIEF = 5
"""Failures, and log lines, in a summary on the terminal; `-v` and the saved report have more."""
MOST_FAILURES = 50
MOST_LOG_LINES = 200
"""In any report: with tracebacks it stays below 10 MB, where mail servers begin to refuse."""

EXIT_MEANINGS = {
    Exit.DONE: "done",
    Exit.FAILED: "failed",
    Exit.USAGE: "wrong usage",
    Exit.DONE_WITH_FAILURES: "done, but some entities failed",
    Exit.PENDING: "something is pending or wrong",
    Exit.NOT_FOUND: "not found",
    Exit.HELD: "held by another runner",
    Exit.LIMIT: "stopped at a limit",
    Exit.SIGINT: "interrupted",
    Exit.SIGTERM: "terminated",
}

STEPS = {
    "handle": "the updater raised",
    "write": "the server refused the write",
    "read": "it could not be read",
}


class Tone(Enum):
    GOOD = "good"
    MIXED = "mixed"
    """Not done yet, or done with failures: something is left to do, nothing is broken."""
    BAD = "bad"


@dataclass(frozen=True)
class FailureLines:
    key: str
    what: str
    """`the updater raised ValueError: no latitude`."""
    traceback: tuple[str, ...]


@dataclass(frozen=True)
class Story:
    """Every string in here is one clean line; only the escaping of the medium is left to do."""

    tone: Tone
    headline: str
    subject: str
    """Of the mail: the updater and how it ended, without commands."""
    sentences: tuple[str, ...]
    rows: tuple[tuple[str, str], ...]
    failures: tuple[FailureLines, ...]
    failures_rest: str
    warnings: tuple[str, ...]
    log_lines: tuple[str, ...]
    log_rest: str
    next_label: str
    next_command: str
    grid: Grid | None = None
    """The namespaces, when the report is on several."""


@dataclass(frozen=True)
class Shown:
    """How much of a dry run's changes the reader has already seen."""

    changes: int
    shown: int


def tell(report: Report, *, brief: bool = False, changes: Shown | None = None) -> Story:
    """The words for `report`. `brief`: what fits a screen."""
    limit = BRIEF if brief else MOST_FAILURES
    log_limit = BRIEF if brief else MOST_LOG_LINES
    next_command = clean(report.next_command)
    resumes = bool(next_command) and not report.dry_run and report.state is not RunState.FINISHED
    ending = _completion(report)
    headline = f"{ending}: {_counts(report)}{_took(report)}"
    sentences = [] if _reason_leads(report) else _reason(report)
    if _reason_leads(report):
        headline = ending
        sentences.append(f"So far: {_counts(report)}{_took(report)}.")
    elif report.state in (RunState.INTERRUPTED, RunState.STOPPED) and not report.dry_run:
        headline = f"{ending}."
        if resumes:
            headline += f" Continue with: {next_command}"
        sentences.insert(0, f"So far: {_counts(report)}{_took(report)}.")
    sentences += _meaning(report, resumes)
    if report.appeared:
        sentences.append(
            f"New since the beginning, and not run: {names(report.appeared)} (run each with "
            "--namespace NAME)."
        )
    if changes is not None and changes.changes:
        sentences.append(_changes(changes))
    return Story(
        tone=_tone(report),
        headline=headline,
        subject=clean(f"bulkup: {report.updater}: {_subject(report)}", 180),
        sentences=tuple(sentences),
        rows=tuple(_rows(report)),
        failures=tuple(
            _failure(failure, traceback=not brief or position == 0)
            for position, failure in enumerate(report.failures[:limit])
        ),
        failures_rest=_rest(report, "failure", report.counts.failed - len(report.failures[:limit])),
        warnings=tuple(clean(warning) for warning in report.warnings),
        log_lines=tuple(clean(line) for line in report.log_lines[:log_limit]),
        log_rest=_rest(report, "log line", report.log_total - len(report.log_lines[:log_limit])),
        next_label="Continue with" if resumes else "Next",
        next_command=next_command,
        grid=grid_of(report, brief=brief),
    )


def _over_budget(report: Report) -> bool:
    budget = report.max_failures
    return (
        report.state is RunState.FAILED
        and budget is not None
        and 0 <= budget < report.counts.failed
    )


def _reason_leads(report: Report) -> bool:
    """An error ended the run: then the error is the headline."""
    return report.state is RunState.FAILED and not report.dry_run and not _over_budget(report)


def _completion(report: Report) -> str:
    if report.dry_run:
        how = {
            RunState.FINISHED: "Dry run",
            RunState.FAILED: "Dry run stopped by failures"
            if report.counts.failed
            else "Dry run failed",
            RunState.STOPPED: "Dry run stopped at a limit",
            RunState.INTERRUPTED: "Dry run interrupted",
            RunState.RUNNING: "Dry run under way",
            RunState.ABANDONED: "Dry run given up",
        }[report.state]
        return f"{how}; nothing was written"
    failed, budget = report.counts.failed, report.max_failures
    if report.state is RunState.FINISHED:
        if not failed:
            return "Finished"
        return f"Finished, but {plural(failed, 'entity', 'entities')} failed"
    if _over_budget(report):
        if failed == 1:
            return "Stopped at the first failure"
        return f"Stopped after {plural(failed, 'failure')} ({number(budget or 0)} allowed)"
    if report.state is RunState.FAILED:
        return f"Failed: {clean(report.reason) or 'no reason was given'}"
    return {
        RunState.STOPPED: "Stopped at a limit; nothing is lost",
        RunState.INTERRUPTED: "Interrupted; nothing is lost",
        RunState.ABANDONED: "Given up; another run took its place",
    }.get(report.state, "Not ended: still at work, or its runner was killed")


def _subject(report: Report) -> str:
    if _reason_leads(report):
        return _completion(report)
    return f"{_completion(report)}: {_counts(report)}"


def _counts(report: Report) -> str:
    """`34,006 entities handled, 34,006 written, 0 failed`."""
    counts = report.counts
    parts = [f"{plural(counts.handled, 'entity', 'entities')} handled"]
    if counts.puts or not counts.deletes:
        parts.append(
            f"would write {number(counts.puts)}"
            if report.dry_run
            else f"{number(counts.puts)} written"
        )
    if counts.deletes:
        parts.append(
            f"would delete {number(counts.deletes)}"
            if report.dry_run
            else f"{number(counts.deletes)} deleted"
        )
    parts.append(f"{number(counts.failed)} failed")
    return ", ".join(parts)


def _took(report: Report) -> str:
    """The time between the runners of a run is nobody's work, so it is not added up."""
    took = duration(report.elapsed_s)
    return f" in {took}" if report.runners <= 1 else f" (this runner: {took})"


def _reason(report: Report) -> list[str]:
    reason = clean(report.reason)
    if not reason or report.state is RunState.FINISHED:
        return []
    return [reason[0].upper() + reason[1:] + ("" if reason.endswith((".", "!", "?")) else ".")]


def _meaning(report: Report, resumes: bool) -> list[str]:
    """What the ending means for the data."""
    if report.dry_run:
        return ["Neither Datastore nor the run state was touched."]
    sentences = []
    failed = report.counts.failed
    if failed and report.state is not RunState.RUNNING:
        whose = "the entity that failed" if failed == 1 else f"the {number(failed)} that failed"
        if report.state is RunState.FINISHED:
            sentences.append(f"Nothing was written for {whose}; every other entity is done.")
        else:
            sentences.append(f"Nothing was written for {whose}.")
    if report.state is RunState.FINISHED:
        if report.total is not None and report.total != report.counts.handled:
            sentences.append(
                f"The count said {number(report.total)}; counts are estimates of a moment, and "
                "the query itself was read to its end."
            )
    elif resumes:
        if report.state is RunState.RUNNING:
            sentences.append("If its runner was killed, nothing is lost.")
        sentences.append(
            "Resuming goes on with what is not done yet, and writes nothing a second time."
        )
    return sentences


def _changes(changes: Shown) -> str:
    rest = changes.changes - changes.shown
    if not rest:
        if changes.changes == 1:
            return "The only change is shown above."
        return f"All {plural(changes.changes, 'change')} are shown above."
    if not changes.shown:
        return f"{plural(rest, 'change')} not shown (-v shows all, --json too)."
    return (
        f"The first {plural(changes.shown, 'change')} are shown above, {number(rest)} more are "
        "not (-v shows all, --json too)."
    )


def _tone(report: Report) -> Tone:
    if report.state is RunState.FAILED:
        return Tone.BAD
    if report.state is RunState.FINISHED and not report.counts.failed:
        return Tone.GOOD
    return Tone.MIXED


def _rows(report: Report) -> list[tuple[str, str]]:
    counts, dry = report.counts, report.dry_run
    handled = number(counts.handled)
    if report.total and report.state is not RunState.FINISHED:
        share = min(counts.handled / report.total, 1)
        handled += f" of {number(report.total)} ({int(share * 100)}%)"
    rows = [
        ("Handled", handled),
        ("Would write" if dry else "Written", number(counts.puts)),
        ("Would delete" if dry else "Deleted", counts.deletes and number(counts.deletes)),
        (
            "Unchanged",
            counts.unchanged and f"{number(counts.unchanged)} (put as they were: no write needed)",
        ),
        ("Failed", number(counts.failed)),
        (
            "Vanished",
            counts.vanished
            and f"{number(counts.vanished)} (somebody deleted them meanwhile; not failures)",
        ),
        (
            "Conflicts",
            counts.conflicts
            and f"{number(counts.conflicts)} (somebody changed them meanwhile; handled again)",
        ),
        ("Retries", report.retries and f"{plural(report.retries, 'call')} sent again"),
        ("Rate", _rate(report)),
        ("Started", moment(report.started)),
        ("Ended", report.state is not RunState.RUNNING and moment(report.ended)),
        ("Runners", report.runners > 1 and f"{number(report.runners)}, one after the other"),
        ("Updater", " · ".join(filter(None, (clean(report.updater), clean(report.description))))),
        ("Target", clean(str(report.target))),
        ("Namespaces", _namespaces(report)),
        (
            "Parameters",
            ", ".join(clean(f"{name}={value}") for name, value in report.params.items()),
        ),
        ("Group" if report.spaces else "Run", clean(report.run_id)),
        ("After run", clean(report.predecessor)),
        ("Then run", clean(report.successor)),
        ("Run state", clean(report.state_file)),
        ("Exit code", report.exit_code is not Exit.DONE and _exit(report.exit_code)),
    ]
    return [(name, value) for name, value in rows if value]


def _namespaces(report: Report) -> str:
    over = sum(1 for space in report.spaces if space.state is not None and space.state.is_over)
    if over in (0, len(report.spaces)):
        return number(len(report.spaces)) if report.spaces else ""
    return f"{number(over)} of {number(len(report.spaces))} done"


def _rate(report: Report) -> str:
    if report.runners > 1 or report.elapsed_s < 1 or report.spaces:
        return ""  # the time is of this runner alone, the counts are of all
    return f"{per_second(report.counts.handled / report.elapsed_s)} on average"


def _exit(code: Exit) -> str:
    return f"{int(code)} ({EXIT_MEANINGS[code]})"


def what_failed(failure: Failure) -> str:
    """`the updater raised ValueError: no latitude`, clean."""
    step, error = clean(failure.step), clean(failure.error)
    return f"{STEPS[step]} {error}" if step == "handle" else f"{STEPS.get(step, step)}: {error}"


def _failure(failure: Failure, *, traceback: bool) -> FailureLines:
    return FailureLines(
        key=clean(failure.key),
        what=what_failed(failure),
        traceback=clean_block(failure.traceback) if traceback else (),
    )


def _rest(report: Report, what: str, missing: int) -> str:
    if missing <= 0:
        return ""
    more = f"{number(missing)} more {what}{'' if missing == 1 else 's'}"
    if report.dry_run:
        return f"{more}: a dry run keeps none; --json prints each as it happens."
    if report.spaces:
        return f"{more}: bulkup show RUN, with the run of the namespace."
    return f"{more}: {show_command(report.run_id)}"

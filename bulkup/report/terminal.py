"""For people: a bar on a terminal, plain lines elsewhere, the summary at the end.

Results (a dry run's changes, the summary) go to stdout, everything else to stderr. Each of the two
is checked on its own: `bulkup run > report.txt` draws a bar and writes a file without escapes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from math import isfinite
from typing import TextIO

from rich.text import Text

from bulkup.core.errors import BulkupError
from bulkup.core.events import (
    AlreadyDone,
    EntityFailed,
    Event,
    Found,
    GatePassed,
    GroupEnded,
    GroupStarted,
    Held,
    Logged,
    NothingToRetry,
    Planned,
    Progress,
    Released,
    Report,
    Retrying,
    RunEnded,
    RunStarted,
    Steered,
    Warned,
    WouldChange,
)
from bulkup.core.verification import STEP
from bulkup.core.visible import assignment
from bulkup.report.change_lines import change_lines
from bulkup.report.namespace_grid import namespace_name
from bulkup.report.plan_summary import summarize_plan
from bulkup.report.plan_terminal import plan_lines
from bulkup.report.printer import Delivery, Handlers, Printer, ProgressStyle
from bulkup.report.progress_choice import console_of, progress_view
from bulkup.report.progress_views import NoProgress, ProgressView
from bulkup.report.status import Status, Work
from bulkup.report.stream import Stream, replace_std
from bulkup.report.summary_model import Summaries, what_failed
from bulkup.report.summary_rows import gate_passed
from bulkup.report.summary_terminal import print_summary
from bulkup.report.summary_text import summary_text
from bulkup.report.summary_wording import (
    already_done,
    changes_sentence,
    headline_of,
    nothing_to_retry,
)
from bulkup.report.text import (
    clean,
    clean_block,
    clean_message,
    duration,
    moment,
    plural,
    show_command,
)

FIRST_CHANGES = 10
FIRST_FAILURES = 20
"""Failures named as they happen; a run without a failure budget may have a million."""

STATUS_KEY = "t"
"""Prints how the run is doing, as ^T does elsewhere."""

NOTHING_WRITTEN = "Nothing will be written."
NOTHING_YET = "Nothing is written before this dry pass is clean (--gate clean)."


@dataclass(frozen=True)
class Detail:
    quiet: bool = False
    """Only the summary, failures and errors."""
    verbose: int = 0
    progress: ProgressStyle = ProgressStyle.AUTO
    """PLAIN and TTY apply whatever stderr is; AUTO depends on it."""


class TerminalPrinter(Printer):
    def __init__(
        self,
        out: TextIO,
        err: TextIO,
        detail: Detail,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        summaries: Summaries,
    ) -> None:
        self._err_stream = Stream(err)
        self._out_stream = Stream(out, self._out_lost)
        self._out = console_of(self._out_stream)
        self._err = console_of(self._err_stream, forced=detail.progress is ProgressStyle.TTY)
        self._quiet, self._verbose = detail.quiet, detail.verbose
        self._clock, self._now = clock, now
        self._summaries = summaries
        self._replaced = replace_std(out, self._out_stream, err, self._err_stream)
        self._status = Status(clock, now)
        self._view: ProgressView = NoProgress()
        if not self._quiet:
            self._view = progress_view(
                detail.progress, self._err, self._err_stream, clock, now,
                # What an updater prints to a terminal appears above the bar. A stdout that is a
                # file or a pipe has nothing to do with the bar, and gets what is printed to it.
                captures_stdout=self._out_stream.isatty, on_key=self._key,
            )  # fmt: skip
        self._run_id = self._state_file = ""
        self._dry_run = self._verifies = False
        self._changes = self._changes_shown = 0
        self._group: GroupStarted | None = None
        self._handlers: Handlers = {
            WouldChange: self._change,
            EntityFailed: self._failed,
            Found: self._found,
            RunStarted: self._started,
            RunEnded: self._ended,
            GroupStarted: self._group_started,
            GroupEnded: self._group_ended,
            AlreadyDone: self._already_done,
            NothingToRetry: self._nothing_to_retry,
            Planned: self._planned,
        }
        if not self._quiet:
            self._handlers = {
                **self._handlers,
                Progress: self._view.show,
                Warned: self._warned,
                GatePassed: self._gate_passed,
                Steered: self._steered,
                Held: self._held,
                Released: self._released,
                **({Logged: self._logged, Retrying: self._retrying} if self._verbose else {}),
            }

    def __call__(self, event: Event) -> None:
        self._status.see(event)
        handler = self._handlers.get(type(event))
        if handler is not None:
            handler(event)

    def close(self) -> None:
        self._view.end()
        self._replaced.close()
        self._out_stream.flush()
        self._err_stream.flush()

    def delivered(self, delivery: Delivery) -> None:
        if not delivery.ok:
            self._say(delivery.message, "bold red")
        elif not self._quiet:
            self._say(delivery.message)

    def error(self, error: BulkupError) -> None:
        self._say(f"Error: {clean(error.message)}", "bold red")
        for line in clean_block(error.details):
            self._say(f"  {line}")

    def status(self) -> None:
        self._say(self._status.line())

    def _key(self, key: str) -> None:
        if key == STATUS_KEY:
            self.status()

    def _started(self, event: RunStarted) -> None:
        title = clean(event.updater)
        self._run_id, self._dry_run = event.run_id, event.dry_run
        self._verifies = event.verifies
        self._state_file = event.state_file
        group = self._group
        if group is not None:
            title = f"{namespace_name(event.target.namespace)} {title}"
        self._view.begin(Work(title, event.dry_run, event.verifies), event.already.handled)
        if self._quiet:
            return
        for line in _start_lines(event) if group is None else [_namespace_line(event, group)]:
            self._say(line)

    def _group_started(self, event: GroupStarted) -> None:
        self._group = event
        if self._quiet:
            return
        many = plural(len(event.namespaces), "namespace")
        self._say(f"{_verb(event)} {clean(event.title)} in {many} of {clean(str(event.target))}")
        if event.selection:
            self._say(f"only {clean(str(event.selection))}")
        if event.dry_run:
            self._say(NOTHING_WRITTEN)

    def _change(self, event: WouldChange) -> None:
        self._changes += 1
        if self._quiet or (self._changes > FIRST_CHANGES and not self._verbose):
            return
        self._changes_shown += 1
        if self._out_stream.isatty():
            self._view.hide()  # the next progress draws it again, below the change
        for text in change_lines(event):
            self._print_out(text)

    def _failed(self, event: EntityFailed) -> None:
        self._view.failed(event.failure)
        if event.failed > FIRST_FAILURES and not self._verbose:
            return
        self._say(f"Failed: {clean(event.failure.key)}: {what_failed(event.failure)}", "red")
        if event.failed == FIRST_FAILURES and not self._verbose:
            show = show_command(self._run_id, self._state_file)
            where = "-v names" if self._dry_run else f"{show} names"
            self._say(f"Further failures are counted, not printed; {where} them all.")

    def _found(self, event: Found) -> None:
        if event.found > FIRST_FAILURES and not self._verbose:
            return
        what = "Young and not done" if event.young else "Not done"
        error = event.failure.error if event.failure.step == STEP else what_failed(event.failure)
        self._say(f"{what}: {clean(event.failure.key)}: {clean(error)}", "red")
        if event.found == FIRST_FAILURES and not self._verbose:
            self._say("Further ones are counted, not printed; -v names them all.")

    def _retrying(self, event: Retrying) -> None:
        giving_up = f", giving up in {duration(event.left_s)}" if isfinite(event.left_s) else ""
        self._say(
            f"{clean(event.call)} failed, attempt {event.attempt:,} ({clean(event.error)}); "
            f"trying again in {duration(event.wait_s)}{giving_up}",
            "yellow",
        )

    def _logged(self, event: Logged) -> None:
        self._say(f"log: {clean(event.line)}")

    def _steered(self, event: Steered) -> None:
        message = clean(event.message)
        self._say(message[:1].upper() + message[1:], "cyan")

    def _held(self, event: Held) -> None:
        until = f", until {moment(event.until)}" if event.until else ""
        self._say(f"Held: {clean(event.why)}{until}", "yellow")

    def _released(self, event: Released) -> None:
        self._say(f"Works again, after {duration(event.held_s)}.", "cyan")

    def _warned(self, event: Warned) -> None:
        warning, *details = clean_message(event.message)
        self._say(f"Warning: {warning}", "yellow")
        if self._group is not None and self._group.title == "migrations":
            # No summary of the migrations follows, which would show these.
            for line in details:
                self._say(f"  {line}")

    def _nothing_to_retry(self, event: NothingToRetry) -> None:
        self._view.hide()
        self._print_out(Text(nothing_to_retry(event)))

    def _gate_passed(self, event: GatePassed) -> None:
        self._view.hide()
        self._say(f"Gate: {gate_passed(event.result)}. Writing begins.")

    def _already_done(self, event: AlreadyDone) -> None:
        line = f"{clean(event.updater)} is {already_done(event)}."
        if self._group is not None:
            self._say(f"  {line}")
        else:
            self._view.hide()
            self._print_out(Text(line))

    def _group_ended(self, event: GroupEnded) -> None:
        self._group = None
        self._summarize(event.report)

    def _ended(self, event: RunEnded) -> None:
        self._view.end()
        if self._group is None:
            self._summarize(event.report)
        else:
            # The report on all namespaces has a row for this one.
            self._view.hide()
            if not self._quiet:
                self._say(f"  {headline_of(event.report)}")

    def _summarize(self, report: Report) -> None:
        self._view.hide()
        summary = self._summaries.of(report)
        if report.dry_run and self._changes:
            seen = changes_sentence(self._changes, self._changes_shown)
            summary = replace(summary, sentences=(*summary.sentences, seen))
            self._changes = self._changes_shown = 0  # more runs may follow: an undo has several
        if not self._verbose:
            summary = summary.brief()
        if self._out.is_terminal:
            self._print_out(Text(""))
            print_summary(self._out, summary)
        else:
            self._out_stream.write(summary_text(summary))
            self._out_stream.flush()
        if self._out_stream.lost:
            self._say(summary.headline)
            if summary.next_command:
                self._say(f"{summary.next_label}: {summary.next_command}")

    def _planned(self, event: Planned) -> None:
        self._view.hide()
        summary = summarize_plan(event.plan)
        for line in plan_lines(summary):
            self._print_out(line)
        if self._out_stream.lost:
            self._say(summary.headline)

    def _print_out(self, text: Text) -> None:
        if self._out.is_terminal:
            self._out.print(text, soft_wrap=True)
        else:
            self._out_stream.line(text.plain)

    def _say(self, line: str, style: str = "") -> None:
        if self._err.is_terminal:
            self._err.print(Text(line, style), soft_wrap=True)
        else:
            self._err_stream.line(line)

    def _out_lost(self, why: str) -> None:
        self._say(f"Warning: stdout is lost ({clean(why)}); the run continues.")


def _start_lines(event: RunStarted) -> Iterator[str]:
    about = f" ({clean(event.description)})" if event.description else ""
    yield f"{_verb(event)} {clean(event.updater)}{about} on {clean(str(event.target))}"
    if event.params:
        params = [clean(assignment(name, value)) for name, value in event.params.items()]
        yield f"with {', '.join(params)}"
    if event.query:
        yield f"over {clean(event.query)}"
    if event.verifies and event.resumed:
        yield f"{plural(event.already.handled, 'entity', 'entities')} already read, and skipped."
    if event.dry_run:
        yield NOTHING_YET if event.gate else NOTHING_WRITTEN
    elif event.resumed:
        handled = plural(event.already.handled, "entity", "entities")
        yield f"Run {clean(event.run_id)}; {handled} already handled, and skipped."
    else:
        yield f"Run {clean(event.run_id)}"


def _namespace_line(event: RunStarted, group: GroupStarted) -> str:
    namespace, count = event.target.namespace, len(group.namespaces)
    place = group.namespaces.index(namespace) + 1
    run = "" if event.dry_run else f", run {clean(event.run_id)}"
    done = f"; {event.already.handled:,} already handled" if event.resumed else ""
    return f"Namespace {namespace_name(namespace)} ({place} of {count}){run}{done}"


def _verb(event: RunStarted | GroupStarted) -> str:
    if isinstance(event, RunStarted) and event.verifies:
        return "Verifying"
    if isinstance(event, RunStarted) and event.planned:
        return "Planning"
    return "Dry run of" if event.dry_run else "Resuming" if event.resumed else "Running"

"""For people: a bar on a terminal, plain lines elsewhere, the summary at the end.

Results (a dry run's changes, the summary) go to stdout, all else to stderr. Each of the two is
judged on its own: `bulkup run > report.txt` still draws a bar and writes a file without escapes.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from math import isfinite
from typing import IO, TextIO, cast

from rich.console import Console
from rich.live import Live
from rich.text import Text

from bulkup.core.errors import BulkupError
from bulkup.core.events import (
    EntityFailed,
    Event,
    GroupEnded,
    GroupStarted,
    Logged,
    Progress,
    Report,
    Retrying,
    RunEnded,
    RunStarted,
    Warned,
    WouldChange,
)
from bulkup.report.bar import progress_bar, progress_line
from bulkup.report.printer import Delivery, Printer
from bulkup.report.spaces import name
from bulkup.report.stream import Stream, stand_in
from bulkup.report.summary_model import Shown, tell, what_failed
from bulkup.report.summary_terminal import print_summary
from bulkup.report.summary_text import summary_text
from bulkup.report.text import (
    VALUE_LIMIT,
    clean,
    clean_block,
    duration,
    number,
    plural,
    show_command,
)

LINE_EVERY_S = 10.0
"""Plain progress lines: a night's log stays readable."""
DRAW_EVERY_S = 0.1
"""The bar: smoother than this nobody sees, and over ssh every frame costs."""
FIRST_CHANGES = 10
FIRST_FAILURES = 20
"""Failures named as they happen; a run without a failure budget may have a million."""


class TerminalPrinter(Printer):
    def __init__(
        self,
        out: TextIO,
        err: TextIO,
        *,
        quiet: bool,
        verbose: int,
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._err_stream = Stream(err)
        self._out_stream = Stream(out, self._out_lost)
        self._out = _console(self._out_stream)
        self._err = _console(self._err_stream)
        self._draws = self._err.is_terminal and not self._err.is_dumb_terminal
        self._quiet, self._verbose = quiet, verbose
        self._clock, self._now = clock, now
        self._stand_in = stand_in(out, self._out_stream, err, self._err_stream)
        self._bar: Live | None = None
        self._title = ""
        self._run_id = ""
        self._dry_run = False
        self._shown_at = clock()
        self._changes = self._changes_shown = 0
        self._group: GroupStarted | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Progress):
            self._progress(event)
        elif isinstance(event, WouldChange):
            self._change(event)
        elif isinstance(event, EntityFailed):
            self._failed(event)
        elif isinstance(event, Retrying):
            self._retrying(event)
        elif isinstance(event, Logged):
            if self._verbose:
                self._note(f"log: {clean(event.line)}")
        elif isinstance(event, Warned):
            self._note(f"Warning: {clean(event.message)}", "yellow")
        elif isinstance(event, RunStarted):
            self._started(event)
        elif isinstance(event, RunEnded):
            self._ended(event.report)
        elif isinstance(event, GroupStarted):
            self._group_started(event)
        elif isinstance(event, GroupEnded):
            self._group = None
            self._ended(event.report)

    def close(self) -> None:
        self._hide_bar()
        self._stand_in.close()
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

    def _started(self, event: RunStarted) -> None:
        self._title = clean(event.updater)
        self._run_id, self._dry_run = event.run_id, event.dry_run
        self._shown_at = self._clock()
        if self._group is not None:
            self._space_started(self._group, event)
            return
        verb = "Dry run of" if event.dry_run else "Resuming" if event.resumed else "Running"
        about = f" ({clean(event.description)})" if event.description else ""
        self._note(f"{verb} {self._title}{about} on {clean(str(event.target))}")
        if event.params:
            given = (clean(f"{name}={value}") for name, value in event.params.items())
            self._note(f"with {', '.join(given)}")
        if event.dry_run:
            self._note("Nothing will be written.")
        elif event.resumed:
            handled = plural(event.already.handled, "entity", "entities")
            self._note(f"Run {clean(event.run_id)}; {handled} already handled, not done again.")
        else:
            self._note(f"Run {clean(event.run_id)}")

    def _group_started(self, event: GroupStarted) -> None:
        self._group = event
        verb = "Dry run of" if event.dry_run else "Resuming" if event.resumed else "Running"
        many = plural(len(event.namespaces), "namespace")
        self._note(f"{verb} {clean(event.title)} in {many} of {clean(str(event.target))}")
        if event.dry_run:
            self._note("Nothing will be written.")

    def _space_started(self, group: GroupStarted, event: RunStarted) -> None:
        namespace, count = event.target.namespace, len(group.namespaces)
        place = group.namespaces.index(namespace) + 1
        self._title = f"{name(namespace)} {self._title}"
        run = "" if event.dry_run else f", run {clean(event.run_id)}"
        done = f"; {number(event.already.handled)} already handled" if event.resumed else ""
        self._note(f"Namespace {name(namespace)} ({place} of {count}){run}{done}")

    def _progress(self, event: Progress) -> None:
        if self._quiet:
            return
        now = self._clock()
        if not self._draws:
            if now - self._shown_at >= LINE_EVERY_S:
                self._shown_at = now
                line = progress_line(event, dry_run=self._dry_run)
                self._err_stream.line(
                    f"{self._now().astimezone(timezone.utc):%H:%M:%S} UTC  {line}"
                )
            return
        if self._bar is None:
            self._show_bar()
        elif now - self._shown_at < DRAW_EVERY_S:
            return
        assert self._bar is not None
        self._shown_at = now
        self._bar.update(progress_bar(event, self._title, dry_run=self._dry_run), refresh=True)

    def _show_bar(self) -> None:
        self._bar = Live(
            console=self._err,
            # Drawn as events come (at least one a second): no thread, nothing to be torn apart.
            auto_refresh=False,
            transient=True,
            # What an updater prints appears above the bar; but a stdout that is a file or a
            # pipe is none of the bar's business and keeps what was printed to it.
            redirect_stdout=self._out_stream.isatty(),
            redirect_stderr=True,
        )
        self._bar.start()
        # A second Ctrl-C ends the process at once; it must not leave a terminal without cursor.
        self._err.show_cursor(True)

    def _hide_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _change(self, event: WouldChange) -> None:
        self._changes += 1
        if self._quiet or (self._changes > FIRST_CHANGES and not self._verbose):
            return
        self._changes_shown += 1
        if self._out_stream.isatty():
            self._hide_bar()  # the next progress draws it again, below
        for text in _change_lines(event):
            self._print_out(text)

    def _failed(self, event: EntityFailed) -> None:
        if event.failed > FIRST_FAILURES and not self._verbose:
            return
        self._say(f"Failed: {clean(event.failure.key)}: {what_failed(event.failure)}", "red")
        if event.failed == FIRST_FAILURES and not self._verbose:
            where = "-v names" if self._dry_run else f"{show_command(self._run_id)} names"
            self._say(f"Further failures are counted, not printed; {where} them all.")

    def _retrying(self, event: Retrying) -> None:
        if self._verbose:
            retry_policy = (
                f", giving up in {duration(event.left_s)}" if isfinite(event.left_s) else ""
            )
            self._note(
                f"{clean(event.call)} failed, attempt {number(event.attempt)} "
                f"({clean(event.error)}); trying again in {duration(event.wait_s)}{retry_policy}",
                "yellow",
            )

    def _ended(self, report: Report) -> None:
        self._hide_bar()
        if self._group is not None:
            # One of many: the report on all of them has a row for it.
            self._note(f"  {tell(report, brief=True).headline}")
            return
        seen = Shown(self._changes, self._changes_shown) if report.dry_run else None
        story = tell(report, brief=not self._verbose, changes=seen)
        if self._out.is_terminal:
            self._print_out(Text(""))
            print_summary(self._out, story)
        else:
            self._out_stream.write(summary_text(story))
            self._out_stream.flush()
        if self._out_stream.lost:
            self._say(story.headline)
            if story.next_command:
                self._say(f"{story.next_label}: {story.next_command}")

    def _print_out(self, text: Text) -> None:
        if self._out.is_terminal:
            self._out.print(text, soft_wrap=True)
        else:
            self._out_stream.line(text.plain)

    def _note(self, line: str, style: str = "") -> None:
        """For those who want to follow along."""
        if not self._quiet:
            self._say(line, style)

    def _say(self, line: str, style: str = "") -> None:
        if self._err.is_terminal:
            self._err.print(Text(line, style), soft_wrap=True)
        else:
            self._err_stream.line(line)

    def _out_lost(self, why: str) -> None:
        self._say(f"Warning: nothing more goes to stdout ({clean(why)}); the work goes on.")


def _console(stream: Stream) -> Console:
    """A console without markup, emoji codes or highlighting: texts are shown as they are."""
    return Console(
        file=cast(IO[str], stream),
        # By the stream alone: FORCE_COLOR in the environment must not put escapes into a file.
        force_terminal=stream.isatty(),
        markup=False,
        emoji=False,
        highlight=False,
    )


def _change_lines(event: WouldChange) -> list[Text]:
    """`Key('City', 5) would be written`, and each property: before → after."""
    deleted = event.action == "delete"
    head = Text.assemble(
        (clean(event.key), "bold"),
        " would be deleted" if deleted else " would be written",
    )
    if not event.changes and not deleted:
        head.append(" (no property changes)")
    lines = [head]
    for change in event.changes:
        line = Text(f"    {clean(change.name)}: ")
        line.append(*_side(change.before, "(new)", "red"))
        line.append(" → ")
        line.append(*_side(change.after, "(removed)", "green"))
        lines.append(line)
    return lines


def _side(value: str | None, absent: str, style: str) -> tuple[str, str]:
    return (absent, "dim") if value is None else (clean(value, VALUE_LIMIT), style)

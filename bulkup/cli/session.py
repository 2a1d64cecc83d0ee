"""What a command prints while it works, and how its reports and its error are delivered."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from bulkup.cli.errors import ShownError
from bulkup.cli.named_target import asks_for_approval
from bulkup.cli.next_steps import complete
from bulkup.cli.options import MailArgs, OutputArgs
from bulkup.core.errors import BulkupError, Exit, StopAskedError
from bulkup.core.events import GroupEnded, GroupStarted, RunEnded, RunStarted, Warned
from bulkup.core.paths import current_directory

if TYPE_CHECKING:
    from bulkup.core.events import Event, Report
    from bulkup.core.run_facts import RunFacts
    from bulkup.core.steering import Tuning
    from bulkup.engine.options import Options
    from bulkup.report import GitHubPage, MailSettings, Printer
    from bulkup.report.trace import TraceFile
    from bulkup.runs.context import RunContext

S = TypeVar("S", bound="Session")


class Session:
    """A printer and, on GitHub Actions, the job's page; open while a command works.

    A BulkupError or a KeyboardInterrupt that leaves the block is printed, and replaced by
    ShownError.
    """

    printer: Printer
    page: GitHubPage | None

    def __init__(self, output: OutputArgs, resume_command: Callable[[], str] | None = None) -> None:
        from bulkup.report import Summaries

        self.summaries = Summaries()
        self.resume_command = resume_command
        self._output = output
        self._open = ExitStack()
        self._started_in = Path(current_directory())
        """An updater may change the current directory."""
        self._last_facts: RunFacts | None = None

    def __enter__(self: S) -> S:
        from bulkup.cli.status_signal import answering_status_signals
        from bulkup.report import ProgressStyle, github_page, make_printer

        output = self._output
        self.page = self._open.enter_context(github_page(os.environ))
        printer = make_printer(
            json=output.json,
            quiet=output.quiet,
            verbose=output.verbose,
            progress=ProgressStyle(output.progress),
            summaries=self.summaries,
        )
        self.printer = self._open.enter_context(printer)
        self._open.enter_context(answering_status_signals(printer.status))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._open:
            if error is None:
                self._deliver()
            elif isinstance(error, BulkupError):
                self.error(error)
                self._deliver()
                raise ShownError(error.exit_code) from error
            elif isinstance(error, KeyboardInterrupt):
                # Handled here because click would turn it into "Aborted".
                self.printer.error(self._interrupted())
                raise ShownError(Exit.SIGINT) from None

    def error(self, error: BulkupError) -> None:
        """Print an error, with the commands it proposes as the user would type them."""
        complete(error)
        self.printer.error(error)
        if self.page is not None:
            self.page.error(error)

    def save(self, report: Report, folder: Path, *, say_so: bool = True) -> None:
        """Save the report in its run's folder. A failure is always printed."""
        from bulkup.report.save import save_report

        summary, facts = self.summaries.of(report), self._facts(report, folder)
        delivery = save_report(summary, facts, self._started_in / folder, folder)
        if say_so or not delivery.ok:
            self.printer.delivered(delivery)

    def _facts(self, report: Report, folder: Path) -> RunFacts:
        """The facts that the report's page shows."""
        from bulkup.runs.run_facts import facts_of_end

        if self._last_facts is None or self._last_facts.report is not report:
            self._last_facts = facts_of_end(self._started_in / folder, report)
        return self._last_facts

    def reported(self, report: Report, folder: Path) -> None:
        """Note in the run's folder that its end was reported: printed, saved and mailed."""
        from bulkup.state.unreported import reported

        if report.success:
            reported(self._started_in / folder)

    def json_line(self, kind: str, fields: Mapping[str, Any]) -> None:
        """With --json, print a line that belongs to no event."""
        self.printer.line(kind, fields)

    def _deliver(self) -> None:
        """Called at the end, unless the user has interrupted the command."""

    def _interrupted(self) -> BulkupError:
        if self.resume_command is None:
            return StopAskedError("interrupted; nothing was started", Exit.SIGINT)
        command = self.resume_command()
        return StopAskedError(
            "stopped at once; nothing is lost, and nothing will be written twice. Continue with: "
            f"{command}",
            Exit.SIGINT,
            next_steps=[command],
        )


class RunSession(Session):
    """A session of runs: prints their events, then saves, mails and posts their reports."""

    def __init__(
        self,
        output: OutputArgs,
        mail: MailArgs,
        state_dir: Path,
        resume_command: Callable[[Tuning], str] | None = None,
        *,
        trace: Path | None = None,
    ) -> None:
        super().__init__(output)
        self._trace_path = trace
        self._trace: TraceFile | None = None
        self._state_dir = state_dir
        self._mail_args = mail
        self._mail: MailSettings | None = None
        self._same_command = resume_command
        self._group_command: Callable[[], str] | None = None
        self._in_group = False
        self._reports: list[Report] = []
        """Several when an updater names a successor."""

    def context(self, options: Options, wait_s: float) -> RunContext:
        """How to execute runs in this session. Checks first that a mail can be sent at the end, and
        that the trace can be written.

        Raises UsageError, StateError.
        """
        from bulkup.engine.steered import CarriedSteering
        from bulkup.runs.context import RunContext

        self._mail = self._mail_args.settings()
        if self._trace_path is not None:
            from bulkup.report.trace import TraceFile

            self._trace = self._open.enter_context(
                TraceFile(self._trace_path, on_loss=lambda why: self.printer(Warned(why)))
            )
        carried = CarriedSteering()
        if same_command := self._same_command:
            self._group_command = lambda: same_command(carried.steering.tuning)
        return RunContext(
            options,
            self._state_dir,
            self.listen,
            wait_s,
            observer=self._trace.span if self._trace is not None else None,
            resume_command=self._group_command,
            repeated=tuple(self._mail_args.words()),
            carried=carried,
            owns_process=True,
            reports_itself=True,
            asks_for_approval=asks_for_approval,
        )

    def listen(self, event: Event) -> None:
        if self._trace is not None:
            self._trace.event(event)
        if isinstance(event, RunStarted):
            if not event.dry_run and not self._in_group:
                from bulkup.state.display import resume_command

                self.resume_command = partial(
                    resume_command, event.run_id, self._state_dir, self._mail_args.words()
                )
        elif isinstance(event, RunEnded):
            if not self._in_group:
                self._reports.append(event.report)
            elif event.report.state_file:
                # Only save it: the report on all namespaces is the one that is printed and mailed.
                folder = Path(event.report.state_file).parent
                self.save(event.report, folder, say_so=False)
                self.reported(event.report, folder)
        elif isinstance(event, GroupStarted):
            self._in_group = True
            if not event.dry_run:
                self.resume_command = self._group_command
        elif isinstance(event, GroupEnded):
            self._reports.append(event.report)
        self.printer(event)
        if isinstance(event, RunEnded) and event.report.successor and not self._in_group:
            self._deliver()  # now: the successor may take hours, and be killed

    def _deliver(self) -> None:
        from bulkup.report import post_report, send_report
        from bulkup.report.save import page_to_mail

        reports, self._reports = self._reports, []
        for report in reports:
            if self.page is not None:
                self.page.report(report)
            folder = self._folder_of(report)
            if folder is not None:
                self.save(report, folder)
            if self._mail is not None:
                page = None if folder is None else page_to_mail(self._facts(report, folder))
                summary = self.summaries.of(report)
                self.printer.delivered(send_report(summary, self._mail, page))
            if self._mail_args.webhook is not None:
                delivery = post_report(report, self.summaries.of(report), self._mail_args.webhook)
                self.printer.delivered(delivery)
            if folder is not None:
                self.reported(report, folder)

    def _folder_of(self, report: Report) -> Path | None:
        """Where to save a report; None for a dry run, which saves nothing."""
        if report.spaces and report.run_id:
            return self._state_dir / report.run_id
        return Path(report.state_file).parent if report.state_file else None

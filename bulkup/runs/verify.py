"""Verify an updater's work: what `bulkup verify` calls, and `bulkup run --verify` at its end.

Nothing is written except the file that the user names with `--out`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from bulkup.authoring.acceptance import acceptance_of
from bulkup.core.errors import BulkupError, Exit
from bulkup.core.events import Report, RunEnded, RunStarted, WarningKind
from bulkup.core.failure_groups import FIRST_KEYS
from bulkup.core.model import Counts, Failure
from bulkup.core.records import RunInfo, Shard
from bulkup.core.stop import Stopped
from bulkup.core.verification import Found
from bulkup.core.verification import Verification as Verified
from bulkup.datastore.call_error import CallError
from bulkup.datastore.containment import contained
from bulkup.engine.control import Control
from bulkup.engine.event_log import SHOWN_FAILURES, EventLog
from bulkup.engine.gc_tuning import seldom_collecting
from bulkup.engine.judge import Judge
from bulkup.engine.options import AUTO_SHARDS
from bulkup.engine.outcomes import FINISHED, Outcome, outcome_of
from bulkup.engine.progress import ProgressTracker
from bulkup.engine.reports import dry_report
from bulkup.engine.suspects import Span
from bulkup.engine.task import NOTHING_FOUND
from bulkup.engine.throttle.rate import RateLimiter
from bulkup.engine.verification import Reading, Tallies, Verification
from bulkup.runs.execute import request_sample
from bulkup.runs.missing_kind import check_kind
from bulkup.runs.prepare import PreparedRun, prepare_on, with_parameters
from bulkup.state.verify_file import Mark, VerifyFile, VerifyHead, left_to_read

RANGES_PER_SHARD = 4
"""Ranges hold unequal numbers of entities. With a few more ranges than are read at once, all
readers end at about the same time."""


def verify(prepared: PreparedRun, out: Path | None = None, fix_command: str = "") -> Report:
    """Read every entity again, and report those that are not done.

    `prepared` must be prepared for a dry run. `out`: a file for the keys; a verification that was
    stopped continues from it. `fix_command`: the command that handles the entities in that file,
    which the report proposes. Raises BulkupError when it cannot start.
    """
    context = prepared.context
    with context.stop.listening(), ExitStack() as stack:
        judge = Judge(prepared.updater, prepared.source.name, prepared.query, prepared.rpc)
        stack.callback(judge.close)
        check_kind(prepared)
        file = None
        if out is not None:
            file = VerifyFile.open(Path(context.started_in, out), str(out))
            stack.callback(file.close)
        return _Run(prepared, judge, file, fix_command).execute()


def check_verifiable(prepared: PreparedRun) -> None:
    """Check, before a run that is to be verified at its end, that this is possible. Raises
    UsageError."""
    acceptance_of(prepared.updater, prepared.source.name)


def verify_after(prepared: PreparedRun) -> Report:
    """Verify a run that has ended, with a new updater that can only read.

    Raises BulkupError when it cannot start.
    """
    context = prepared.context
    options = replace(context.options, dry_run=True, limit=None, max_time_s=None)
    context = replace(context, options=options)
    loaded = replace(
        with_parameters(prepared.source, prepared.params), selection=prepared.selection
    )
    with (
        contained(context.containment(prepared.target)),
        prepare_on(prepared.target, loaded, context) as again,
    ):
        return verify(again)


class _Run:
    """One process's work on a verification."""

    def __init__(
        self, prepared: PreparedRun, judge: Judge, file: VerifyFile | None, fix_command: str
    ) -> None:
        self._prepared = prepared
        self._judge = judge
        self._file = file
        self._fix_command = fix_command if file is not None else ""
        context = prepared.context
        options, clock = context.options, context.clock
        self._event_log = EventLog(context.listener)
        self._tallies = Tallies()
        self._young_keys: list[str] = []
        self._rate = RateLimiter(
            options.max_rate, ramps=prepared.target.info.is_real, clock=clock
        )  # fmt: skip
        self._progress: ProgressTracker
        self._control = Control(
            context.stop,
            limit=options.limit,
            max_time_s=options.max_time_s,
            monotonic=clock.monotonic,
            on_check=lambda: self._progress.tick(),
        )
        self._started = clock.now()

    def execute(self) -> Report:
        """Raises BulkupError when the file belongs to other work, and CallError only before the
        verification begins."""
        prepared, context = self._prepared, self._prepared.context
        rpc, query = prepared.rpc, prepared.query
        head = self._head()
        ranges = self._begin(head)
        if self._file is not None and self._file.is_continued:
            head = self._file.head
            self._started = datetime.fromisoformat(head.started)
        run_info = replace(prepared.new_run_info(None, prepared.identity), run_id="")
        already = self._tallies.counts
        self._progress = ProgressTracker(
            self._event_log, context.clock, already, self._rate.text,
            handled=lambda: self._control.handled, unanswered=rpc.unanswered,
        )  # fmt: skip
        rpc.on_tick = self._progress.tick
        rpc.on_retry = self._retrying
        rpc.retry_for(context.options.retry_for_s)
        self._event_log(
            RunStarted(
                "", run_info.updater, run_info.description, run_info.target, run_info.params,
                dry_run=True, resumed=already.handled > 0, already=already, verifies=True,
                selection=run_info.selection, query=prepared.shown_query,
            )
        )  # fmt: skip
        for warning in prepared.warnings:
            self._event_log.warn(warning.message, warning.kind)
        outcome = FINISHED
        try:
            self._progress.ask_total(rpc.count(query.pb, query.namespace))
            with seldom_collecting():
                self._verification(head, ranges).run()
            if not self._tallies.counts.handled:
                self._event_log.warn(
                    prepared.nothing_there or NOTHING_FOUND, WarningKind.EMPTY_QUERY
                )
            if self._file is not None:
                self._file.complete()
        except (Stopped, CallError, BulkupError) as error:
            outcome = outcome_of(error, rpc, self._control)
        finally:
            self._progress.close()
        report = self._report(run_info, outcome)
        self._event_log(RunEnded(report))
        return report

    def _head(self) -> VerifyHead:
        """The head of a verification that begins now. Raises CallError."""
        prepared = self._prepared
        first = type(prepared.query.pb)()
        first.CopyFrom(prepared.query.pb)
        first.limit.value = 1
        # Use the server's time: what it created before this answer is not young.
        answer = prepared.rpc.run_query(first, prepared.query.namespace).result()
        now = answer.batch.read_time.ToNanoseconds() or int(prepared.context.clock.unix() * 1e9)
        target = prepared.target.info
        return VerifyHead(
            prepared.identity, prepared.query.fingerprint(target), prepared.source.checksum,
            self._started.isoformat(), now, (),
        )  # fmt: skip

    def _begin(self, ours: VerifyHead) -> Sequence[Shard]:
        """The ranges that are left to read. Raises BulkupError, CallError."""
        file = self._file
        there = file.unfinished() if file is not None else None
        if file is None or there is None:
            ranges = self._split()
            if file is not None:
                file.begin(replace(ours, ranges=ranges))
            return ranges
        file.check_same(there, ours)
        marks: dict[int, bytes | None] = {}
        for one in file.resume(there):
            if isinstance(one, Mark):
                numbers = dict(one.numbers)
                self._tallies.count(
                    handled=numbers.get("handled", 0), vanished=numbers.get("vanished", 0),
                    done_since=numbers.get("done_since", 0), unsteady=numbers.get("unsteady", 0),
                )  # fmt: skip
                marks[one.range_id] = one.cursor or None
            else:
                self._tallies.found(*one)
                self._note_finding(*one)
        return left_to_read(there.ranges, marks)

    def _split(self) -> tuple[Shard, ...]:
        """Raises CallError."""
        sampling = request_sample(self._prepared)
        if sampling is None:
            return (Shard(1),)
        keys = sampling.take().inside(b"", b"")
        parts = min(sampling.shards * RANGES_PER_SHARD, len(keys) + 1)
        inner = [keys[len(keys) * i // parts] for i in range(1, parts)]
        bounds = [b"", *inner, b""]
        return tuple(
            Shard(i + 1, after=bounds[i], upto=bounds[i + 1]) for i in range(len(bounds) - 1)
        )

    def _verification(self, head: VerifyHead, ranges: Sequence[Shard]) -> Verification:
        prepared = self._prepared
        options = prepared.context.options
        width = options.shards or (AUTO_SHARDS if prepared.target.info.is_real else 1)
        reading = Reading(
            prepared.query, prepared.rpc, self._rate, self._control, options.batch_size,
            prepared.first_entity_bytes, head.since_ns, width,
        )  # fmt: skip
        return Verification(
            reading, self._judge, ranges, self._settled, self._range_done, self._tallies
        )

    # --- called back while it works ---

    def _retrying(self, error: CallError, attempt: int, wait_s: float, left_s: float) -> None:
        self._rate.refused(error.code_name)
        self._progress.retrying(error, attempt, wait_s, left_s)

    def _settled(self, span: Span) -> None:
        before = self._tallies.counts
        self._tallies.count(
            handled=span.handled, vanished=span.vanished, done_since=span.done_since,
            unsteady=span.unsteady,
        )  # fmt: skip
        for failure, young in span.found:
            self._tallies.found(failure, young)
            self._note_finding(failure, young)
            count = self._tallies.young if young else self._tallies.counts.failed
            self._event_log(Found(failure, count, young))
        self._progress.add(self._tallies.counts - before)
        if self._file is not None:
            numbers = {
                "handled": span.handled,
                "vanished": span.vanished,
                "done_since": span.done_since,
                "unsteady": span.unsteady,
            }
            self._file.note(Mark(span.range_id, span.cursor, numbers), span.found)

    def _range_done(self, range_id: int) -> None:
        if self._file is not None:
            self._file.note(Mark(range_id, b"", {}))

    def _note_finding(self, failure: Failure, young: bool) -> None:
        log = self._event_log
        if young:
            if len(self._young_keys) < FIRST_KEYS:
                self._young_keys.append(failure.key)
            return
        if len(log.failures) < SHOWN_FAILURES:
            log.failures.append(failure)
        log.groups.add(failure)

    # --- the end ---

    def _report(self, run_info: RunInfo, outcome: Outcome) -> Report:
        self._progress.tick(force=True)
        if outcome.warning:
            self._event_log.warn(outcome.warning)
        tallies, progress = self._tallies, self._progress
        report = dry_report(
            run_info, self._event_log, tallies.counts, outcome, started=self._started,
            max_failures=-1,
        )  # fmt: skip
        is_listed = outcome is FINISHED and tallies.counts.failed > 0
        return replace(
            report,
            next_command=self._fix_command if is_listed else "",
            exit_code=_exit_code(outcome, tallies.counts),
            ended=self._prepared.context.clock.now(),
            total=progress.total,
            elapsed_s=progress.elapsed_s,
            retries=progress.retries,
            warnings=tuple(self._event_log.warnings),
            verification=Verified(
                by_is_done=self._judge.by_is_done,
                filtered=self._prepared.query.has_filters,
                young=tallies.young,
                young_keys=tuple(self._young_keys),
                tells_births=tallies.tells_births,
                done_since=tallies.done_since,
                unsteady=tallies.unsteady,
                out=self._file.shown if self._file is not None else "",
            ),
        )


def _exit_code(outcome: Outcome, counts: Counts) -> Exit:
    """The exit code. A limit that was reached before anything was found says nothing about the
    rest."""
    if outcome.exit_code is Exit.DONE or outcome.exit_code is Exit.LIMIT:
        return Exit.PENDING if counts.failed else outcome.exit_code
    return outcome.exit_code

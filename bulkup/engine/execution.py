"""One runner of a run, from its first event to its report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import datetime
from functools import partial

from bulkup.core.errors import BulkupError, Exit
from bulkup.core.events import Report, RunEnded, RunStarted, WarningKind
from bulkup.core.model import Counts, RunState
from bulkup.core.records import Shard
from bulkup.core.stop import Stopped
from bulkup.core.user_traceback import error_line
from bulkup.datastore.call_error import CallError
from bulkup.engine.async_handler import AsyncHandler
from bulkup.engine.budget import BudgetExceeded
from bulkup.engine.commit_context import (
    CommitContext,
    CommittingRunner,
    ConflictPolicy,
    LiveMarker,
)
from bulkup.engine.drift import DONE_BUT_DRIFTS, Drift
from bulkup.engine.dry_run import DryRunSink, SeenKeys, dry_run
from bulkup.engine.gc_tuning import seldom_collecting
from bulkup.engine.images import ImageLog
from bulkup.engine.in_process import InProcessPool
from bulkup.engine.key_scan import KeyPlan, open_scan
from bulkup.engine.made_entities import MadeEntities
from bulkup.engine.outcomes import FINISHED, Outcome, outcome_of
from bulkup.engine.recovery import Recovery, recover
from bulkup.engine.reports import dry_report, operations_of, report_of_end
from bulkup.engine.runner_parts import RunnerParts
from bulkup.engine.scheduler import Scheduler
from bulkup.engine.shard_runner import ShardContext
from bulkup.engine.unwritten import ChangesUnwrittenError
from bulkup.state.before_images import BeforeImages
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.lease import Lease
from bulkup.state.record import Made


class Execution(RunnerParts):
    """One runner.

    `sampling`: a sample of keys to split the query at; None: it is not split.
    """

    # --- from the first event to the report ---

    def execute(self) -> Report:
        """Work until the end, a limit, a signal or an error; the report says which it was.

        Raises only bugs and KeyboardInterrupt (the second Ctrl-C): whatever ends a run that has
        begun is in its report.
        """
        started = self._clock.now()
        run_info, taken = self._task.run_info, self._taken
        self._event_log(
            RunStarted(
                run_info.run_id, run_info.updater, run_info.description, run_info.target,
                run_info.params, self._options.dry_run, self._resumed, self._already, None,
                taken.state_file if taken else "", gate=self._options.gate_pass,
                selection=run_info.selection,
                query=self._query.shown_for(run_info.selection, run_info.target),
            )
        )  # fmt: skip
        try:
            if self._role is not None:
                pass  # the total is counted once for the whole run, not per range
            elif isinstance(self._query, KeyPlan):
                self._progress.total_is(self._query.keys.count)
            elif self._query.since_ns:
                pass  # most of what the query finds is not handled
            elif taken is None or taken.record.made == Made():  # else it would count what was made
                self._progress.ask_total(self._rpc.count(self._query.pb, self._query.namespace))
            with seldom_collecting():
                if taken is None or self._lease is None:
                    self._dry_run()
                else:
                    with self._scheduler(taken.checkpoint, self._lease) as scheduler:
                        scheduler.run()
            report = self._finish_run(started)
        except (Stopped, BudgetExceeded, CallError, BulkupError) as error:
            report = self._report(started, self._outcome_of(error))
        finally:
            self._progress.close()
            self._holding.close()
            if self._loop is not None:
                self._close(self._loop)
        if self._loop is not None:
            report = replace(report, warnings=tuple(self._event_log.warnings))
        if taken is not None:
            report = self._record_end(taken.checkpoint, report)
        is_of_run = self._role is None and not self._options.dry_run  # finish may write
        if is_of_run and not self._final_hook.called:
            self._final_hook.call(report)
        if self._final_hook.failed:
            code = report.exit_code if report.exit_code else Exit.FAILED
            report = replace(report, exit_code=code, warnings=tuple(self._event_log.warnings))
        self._event_log(RunEnded(report))
        return report

    def _close(self, handler: AsyncHandler) -> None:
        try:
            handler.close()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.warn(f"aclose of {self._task.run_info.updater} raised {error_line(error)}")

    def _outcome_of(self, error: Stopped | BudgetExceeded | CallError | BulkupError) -> Outcome:
        outcome = outcome_of(error, self._rpc, self._control)
        if outcome.exit_code is Exit.CANCELLED and self._steered is not None:
            self._steered.is_cancelled()
        if isinstance(error, BudgetExceeded):
            self._count_stopping(error)
        elif isinstance(error, ChangesUnwrittenError) and self._taken is not None:
            self._taken.checkpoint.stopped_with(self._unwritten.counts)
        if outcome.warning:
            self.warn(outcome.warning)
        return outcome

    def _count_stopping(self, exceeded: BudgetExceeded) -> None:
        """Count the failure that has stopped the run."""
        if self._taken is not None:
            self._taken.checkpoint.stopped_by(exceeded.failure, exceeded.allowed)
        else:
            self._progress.add(Counts(handled=1, failed=1))

    def _dry_run(self) -> None:
        assert isinstance(self._handlers, InProcessPool)
        size = self._options.batch_size
        scan = open_scan(
            self._rpc, self._query, Shard(1), size, entity_bytes=self._task.entity_bytes
        )
        with SeenKeys() if self._query.ranged else nullcontext() as seen:
            previewed = self._handlers.previewed
            changes = None if self._options.gate_pass else self._event_log
            sink = DryRunSink(
                changes, self._progress.add, previewed, seen, unwritten=self._unwritten
            )
            dry_run(
                scan, self._handlers, sink, self._rate_limiter,
                nap=self._rpc.nap, batch_size=size, stopwatch=self._gauge.stopwatch,
            )  # fmt: skip
        self._move_watch.look(self._handlers)

    @contextmanager
    def _scheduler(self, checkpoint: Checkpoint, lease: Lease) -> Iterator[Scheduler]:
        """Recover what the last runner left, and create a scheduler for the remaining work."""
        # Worker processes start while recovery waits for Datastore.
        with self._workers or self._loop_pool or nullcontext():
            left_markers = self._recover(checkpoint, lease) if self._resumed else {}
            checkpoint.begin_work(
                lease.record.layout.shards,
                lease.record.lease.generation,
                max_failures=self._budget.allowed,
                asked=self._options.asked(),
                gate=lease.record.gate,
                plan=lease.record.plan,
                goes_on=self._taken is not None and self._taken.began is not None,
            )
            checkpoint.runner_began(lease.record.lease)
            self._clean = True  # nothing has been sent yet
            sampling = self._sampling
            images = None if self._options.no_undo else BeforeImages(checkpoint.folder)
            commits = self._commit_context(checkpoint, lease, images)
            self._handlers.watch_client(commits.made.client_commits)
            scheduler = Scheduler(
                ShardContext(commits, checkpoint, self._handlers, self._task.entity_bytes),
                lease, self._control, left_markers,
                width=sampling.shards if sampling else 1,
                sample=sampling.take() if sampling else None,
            )  # fmt: skip
            if self._role is not None:
                scheduler.on_round = partial(self._role.split, scheduler)
            self._gauge.watch(scheduler, commits.throttle)
            self._clean = False
            try:
                yield scheduler
            finally:
                if images is not None:
                    images.close()
                self._clean = scheduler.clean
                self._live_markers.extend(scheduler.live_markers)

    def _recover(self, checkpoint: Checkpoint, lease: Lease) -> Mapping[int, Sequence[LiveMarker]]:
        """Make the last runner's work definite. Returns the markers it left, by shard."""
        recovery = Recovery(
            rpc=self._rpc, checkpoint=checkpoint, markers=self._markers, notes=self._notes,
            runner=lease.runner,
            needs_keys=bool(self._query.ranged or lease.record.made.known_in),
        )  # fmt: skip
        left_markers = recover(recovery, checkpoint, lease, self._clock.unix())
        self._progress.begin_with(counts := checkpoint.done())
        if counts.handled > self._already.handled:
            self.warn(
                f"Datastore knows that {counts.handled:,} entities are already done; they are not "
                "handled again"
            )
        self._budget.failed = counts.failed
        if unnamed := checkpoint.unnamed() if counts.failed else 0:
            self.warn(
                f"{unnamed:,} of {counts.failed:,} failures cannot be named: the state directory "
                "that names them is lost, and what Datastore knows of them is incomplete"
            )
        return left_markers

    def _commit_context(
        self, checkpoint: Checkpoint, lease: Lease, images: BeforeImages | None
    ) -> CommitContext:
        options, handlers, plan = self._options, self._handlers, lease.record.plan
        return CommitContext(
            rpc=self._rpc,
            query=self._query,
            markers=self._markers,
            notes=self._notes,
            journal=checkpoint,
            budget=self._budget,
            throttle=self._throttle,
            conflicts=ConflictPolicy(options.conflict_retries, handlers.handle_again),
            runner=CommittingRunner(
                run_id=self._task.run_info.run_id,
                runner=lease.runner,
                before_send=self._before_send,
                on_done=self._progress.add,
                unix_time=self._clock.unix,
            ),
            made=MadeEntities(
                self._query, self._rpc, lease, checkpoint, shared=self._role is not None
            ),
            unwritten=self._unwritten,
            stopwatch=self._gauge.stopwatch,
            latencies=self._gauge.latencies,
            observer=self._observer,
            drift=Drift(plan, options.max_drift, self._progress.counts) if plan else None,
            images=None if images is None else ImageLog(images, self._rpc),
        )

    # --- the end ---

    def _finish_run(self, started: datetime) -> Report:
        """Every entity is done: call the updater's `finish`, and record the end of the run.

        Raises HeldError, CallError when it could not be recorded, UpdaterError when `finish` raised
        or the successor cannot begin. Then the run must be resumed.
        """
        if self._role is None:
            self._warn_of_whole()
        if self._taken is None or self._lease is None or self._completion is None:
            return self._report(started, FINISHED)
        # Before Datastore says that the run is finished: nobody resumes it after that.
        self._taken.checkpoint.all_is_known()
        report = self._report(started, FINISHED)
        if report.plan is not None and report.plan.drift:
            self.warn(f"{DONE_BUT_DRIFTS}{report.plan.drift}", WarningKind.DRIFT)
        self._only_end_left = self._clean
        successor = None
        if self._role is None:
            successor = self._final_hook.conclude(report, self._refresh(self._lease.record))
        self._completion.finish(report.counts, self._live_markers, successor)
        if why := self._taken.why_not_clean(report.counts):
            self.warn(why, WarningKind.NOT_CLEAN)
            report = replace(report, exit_code=Exit.PENDING)
        return replace(report, successor=successor.run_info.run_id if successor else "")

    def _warn_of_whole(self) -> None:
        """Warn of what only shows once every entity of the query was handled."""
        if message := self._task.why_empty(self._progress.counts):
            self.warn(message, WarningKind.EMPTY_QUERY)
        # Not in a further pass, which finds everything done, nor if an earlier runner has written
        # something: then it has found what the updater looks for.
        if not (self._query.is_repeated or self._options.gate_pass or self._already.writes):
            since = "since the run was resumed: " if self._already.handled else ""
            for message, kind in self._handlers.hints.sought.taken():
                self.warn(since + message, kind)

    def _report(self, started: datetime, outcome: Outcome) -> Report:
        """The report of a runner that ends now."""
        self._advice.take(self._handlers.hints.taken())
        counts = self._progress.counts
        if counts.unwritten and self._unwritten.is_settled:
            self.warn(self._unwritten.warning(counts), WarningKind.UNWRITTEN)
        self._progress.tick(force=True)
        if self._taken is None:
            report = dry_report(
                self._task.run_info, self._event_log, self._progress.counts, outcome,
                started=started, max_failures=self._budget.allowed,
            )  # fmt: skip
        else:
            report = report_of_end(
                self._taken.checkpoint, outcome, next_command=self._taken.next_command(),
                retry_command=self._taken.retry_command,
            )  # fmt: skip
            report = replace(report, state_file=self._taken.state_file)
        return self._with_latest(report)

    def _with_latest(self, report: Report) -> Report:
        total = self._progress.total
        return replace(
            report,
            ended=self._clock.now(),
            total=report.total if total is None else total,
            elapsed_s=self._progress.elapsed_s,
            retries=self._progress.retries,
            operations=operations_of(self._rpc, self._progress.counts_here)
            if self._taken
            else None,
            warnings=tuple(self._event_log.warnings),
        )

    def _record_end(self, checkpoint: Checkpoint, report: Report) -> Report:
        """Record the end of this runner in the checkpoint and, unless the run is finished, in the
        run record. Returns the updated report."""
        report = self._with_latest(report)  # `finish` may have taken long
        state, reason, exit_code = report.state, report.reason, report.exit_code
        if self._taken is not None:
            checkpoint.runner_ended(self._taken.record.lease, report)
        checkpoint.end_work(
            state, reason, exit_code, clean=self._clean,
            successor=report.successor, ended=report.ended, took_s=report.elapsed_s,
            over_budget=bool(report.over_budget),
        )  # fmt: skip
        if self._completion and state is not RunState.FINISHED and exit_code is not Exit.HELD:
            # Only the report's counts include the failure that has stopped the run. A range leaves
            # it out, because its entity is handled again.
            counts = report.counts if self._role is None else checkpoint.done()
            self._completion.release(
                state, reason, counts, self._live_markers,
                clean=self._clean, only_end_left=self._only_end_left,
            )  # fmt: skip
        if checkpoint.is_deleted():
            self.warn(
                f"the folder of this run, {str(checkpoint.folder)!r}, was deleted while the run "
                "worked: keep what is printed here, because `bulkup show` cannot show it again"
                + ("" if state is RunState.FINISHED else "; the same `bulkup run` resumes the run")
            )
            report = replace(report, state_file="", next_command="")
        return replace(report, warnings=tuple(self._event_log.warnings))

"""One runner of a run, from its first event to its report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import astuple, replace
from datetime import datetime
from functools import partial

from bulkup.core.errors import BulkupError, Exit
from bulkup.core.events import Report, RunEnded, RunStarted, WarningKind
from bulkup.core.max_failures import SHARE_OF_AT_LEAST, MaxFailures
from bulkup.core.model import Counts, RunState
from bulkup.core.records import Shard
from bulkup.core.steering import Tuning
from bulkup.core.stop import Stopped
from bulkup.core.user_traceback import error_line
from bulkup.datastore.call_error import CallError
from bulkup.engine.accounts import Accounts
from bulkup.engine.async_handler import AsyncHandler
from bulkup.engine.budget import Budget, BudgetExceeded
from bulkup.engine.commit_context import (
    CommitContext,
    CommittingRunner,
    ConflictPolicy,
    LiveMarker,
)
from bulkup.engine.completion import Completion
from bulkup.engine.control import Control
from bulkup.engine.drift import DONE_BUT_DRIFTS, Drift
from bulkup.engine.dry_run import DryRunSink, SeenKeys, dry_run
from bulkup.engine.event_log import EventLog
from bulkup.engine.final_hook import FinalHook
from bulkup.engine.gates import gates_of
from bulkup.engine.gc_tuning import seldom_collecting
from bulkup.engine.handler_choice import choose_handlers
from bulkup.engine.hints import Advice
from bulkup.engine.holding import Holding
from bulkup.engine.images import ImageLog
from bulkup.engine.in_process import InProcessPool
from bulkup.engine.key_scan import KeyPlan, KeySampling, open_scan
from bulkup.engine.made_entities import MadeEntities
from bulkup.engine.moved_entities import MoveWatch
from bulkup.engine.observing import observe
from bulkup.engine.outcomes import FINISHED, Outcome, outcome_of
from bulkup.engine.pool.pool import WorkerPool
from bulkup.engine.progress import ProgressTracker
from bulkup.engine.range_role import RangeRole
from bulkup.engine.recovery import Recovery, recover
from bulkup.engine.reports import dry_report, operations_of, report_of_end
from bulkup.engine.scheduler import Scheduler
from bulkup.engine.shard_runner import ShardContext
from bulkup.engine.slow_handler import SlowHandler
from bulkup.engine.splits import Sampling
from bulkup.engine.steered import SteeredRun
from bulkup.engine.task import Surroundings, TakenRun, Task
from bulkup.engine.throttle.concurrency import Concurrency
from bulkup.engine.throttle.max_rate import MaxRate
from bulkup.engine.throttle.ramp import Warm
from bulkup.engine.throttle.rate import RateLimiter
from bulkup.engine.throttling import Throttle
from bulkup.engine.unwritten import ChangesUnwrittenError, UnwrittenChanges
from bulkup.engine.vitals import VitalsGauge
from bulkup.state.before_images import BeforeImages
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.lease import Lease
from bulkup.state.markers import Markers
from bulkup.state.notes import Notes
from bulkup.state.record import LOOK_EVERY_S, Made, RunRecord

COUNT_WITHIN_S = 10.0
"""A COUNT of so few entities that a share of them matters is answered long before."""


class Execution:
    """One runner.

    `sampling`: a sample of keys to split the query at; None: it is not split.
    """

    def __init__(
        self,
        task: Task,
        surroundings: Surroundings,
        taken: TakenRun | None,
        *,
        workers: WorkerPool | None = None,
        sampling: Sampling | KeySampling | None = None,
    ) -> None:
        updater, rpc, options = task.updater, task.rpc, surroundings.options
        self._task = task
        self._rpc = rpc
        self._query = task.query
        self._options = options
        self._clock = clock = surroundings.clock
        self._observer = surroundings.observer
        self._taken = taken
        self._workers = workers
        self._role = role = taken.role if taken is not None else None
        self._sampling = sampling
        self._event_log = EventLog(surroundings.listener)
        self.warn = self._event_log.warn
        self._final_hook = FinalHook(
            updater, rpc, taken.begin_successor if taken else lambda _: None, self.warn
        )
        self._resumed = taken is not None and taken.record.lease.generation > 1
        self._already = _known_counts(taken) if taken and self._resumed else Counts()
        self._rate_limiter = RateLimiter(
            options.max_rate if role is None else role.max_rate(),
            ramps=task.run_info.target.is_real and role is None,
            clock=clock,
            warm=Warm(*taken.record.warm) if taken and taken.record.warm else None,
        )
        self._progress = ProgressTracker(
            self._event_log, clock, self._already, self._rate_limiter.text,
            taken.checkpoint.total_is if taken else lambda _: None,
            handled=lambda: self._control.handled, unanswered=rpc.unanswered,
        )  # fmt: skip
        self._throttle = Throttle(
            self._rate_limiter, Concurrency(options.in_flight), options.batch_size
        )
        self._lease: Lease | None = None
        self._steered: SteeredRun | None = None
        if taken is not None:
            self._lease = Lease(
                taken.ledger, taken.record, clock=clock, refresh=self._refresh,
                look_every_s=LOOK_EVERY_S,
            )  # fmt: skip
            self._steered = SteeredRun(
                role.steering if role is not None else self._lease,
                taken.steered_in or taken.checkpoint.folder, surroundings.stop,
                surroundings.carried,
                tune=self._tune, emit=self._event_log, monotonic=clock.monotonic,
                continue_command=taken.continue_command,
            )  # fmt: skip
        self._holding = Holding(
            self._steered, gates_of(task, surroundings) if taken else (), self._event_log,
            clock.monotonic, max_hold_s=options.max_hold_s,
        )  # fmt: skip
        self._gauge = self._progress.gauge = VitalsGauge(
            self._rate_limiter, clock.monotonic, self._holding.now
        )
        observe(self._observer, rpc, self._gauge.stopwatch)
        self._budget = Budget(
            MaxFailures.of(
                updater.max_failures if options.max_failures is None else options.max_failures
            ),
            self._already.failed,
            self._event_log.failed,
            self._handled_of,
        )
        self._control = Control(
            surroundings.stop,
            limit=options.limit,
            max_time_s=options.max_time_s,
            monotonic=clock.monotonic,
            on_check=self._tick,
            can_resume=taken is not None,
            holding=self._holding,
        )
        self._advice = Advice(self._event_log)
        self._unwritten = UnwrittenChanges(updater, lambda: self._progress.counts)
        accounts = Accounts(self._budget, self._control, self._event_log.log, rpc.monotonic)
        slow = SlowHandler(options, self.warn, updater.concurrency if updater._is_async else 0)
        self._handlers, self._loop, self._loop_pool = choose_handlers(
            task, accounts, slow, workers, self._observer,
            keeps_before=taken is None, no_undo=options.no_undo,
        )  # fmt: skip
        self._move_watch = MoveWatch(task.query, self.warn)
        self._markers = Markers(rpc, task.run_info.target.namespace, task.run_info.run_id)
        self._notes = Notes(rpc, task.run_info.target.namespace, task.run_info.run_id)
        self._live_markers: list[LiveMarker] = []
        self._completion: Completion | None = None
        if self._lease is not None:
            self._completion = Completion(
                self._lease, self._markers, self._notes, rpc,
                clock=clock, resumed=self._resumed, warn=self.warn, keeps_notes=role is not None,
            )  # fmt: skip
        # Until recovery is done, this runner knows what the last one knew.
        self._clean = taken.checkpoint.status().clean if taken and self._resumed else True
        self._only_end_left = False
        """Every entity is done, and Datastore may be told so: only the end of the run is left."""
        rpc.on_tick = self._tick
        rpc.on_retry = self._retrying
        rpc.retry_for(options.retry_for_s)

    def _handled_of(self, sure: bool) -> tuple[int, int | None]:
        """How many entities are handled, and how many there are, if that is known. `sure`: the
        answer to COUNT is worth waiting for, since a share of few depends on it."""
        handled = self._already.handled + self._control.handled
        if self._role is not None:
            return self._role.handled_of_run(handled)
        if sure and handled < SHARE_OF_AT_LEAST:
            self._progress.await_total(COUNT_WITHIN_S, self._rpc.nap)
        return handled, self._progress.total

    @property
    def handled_here(self) -> int:
        """Entities that this runner has handled."""
        return self._control.handled

    # --- called back while others wait ---

    def _tick(self) -> None:
        self._progress.tick()
        if self._lease is not None:
            self._lease.tick()
        if self._steered is not None:
            self._steered.look()
        if self._role is not None:
            self._look_at_run(self._role)

    def _look_at_run(self, role: RangeRole) -> None:
        """A range's runner does what is asked of the whole run."""
        if role.max_rate() != self._rate_limiter.max_rate:
            self._rate_limiter.tune(role.max_rate())
        self._budget.failed_elsewhere = role.failed_elsewhere(self._budget.failed)
        self._control.ended = role.stopped()

    def _tune(self, tuning: Tuning) -> None:
        """Raises UsageError."""
        options, in_flight = self._options, tuning.in_flight
        max_rate = MaxRate.parse(tuning.max_rate) if tuning.max_rate else options.max_rate
        self._throttle.tune(
            max_rate=max_rate if self._role is None else self._role.max_rate(),
            in_flight=options.in_flight if in_flight is None else in_flight or None,
            batch_size=tuning.batch_size or options.batch_size,
        )

    def _retrying(self, error: CallError, attempt: int, wait_s: float, left_s: float) -> None:
        self._rate_limiter.refused(error.code_name)
        self._progress.retrying(error, attempt, wait_s, left_s)

    def _refresh(self, record: RunRecord) -> RunRecord:
        """What a renewal of the lease updates in the run record."""
        if self._steered is not None and self._role is None:
            record = self._steered.refresh(record)
        warm = self._rate_limiter.warm()
        total = self._progress.total
        return replace(
            record,
            counts=self._progress.counts,
            total=record.total if total is None else total,
            warm=astuple(warm) if warm else (),
        )

    def _before_send(self) -> None:
        """Make sure that Datastore holds what a commit relies on. Raises HeldError, CallError."""
        assert self._lease is not None
        self._move_watch.look(self._handlers)
        if self._handlers.hints.new:
            self._advice.take(self._handlers.hints.taken())
        self._lease.make_sure()

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
                pass  # whoever works on the run counts, once
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
        # Worker processes start while recovery asks.
        with self._workers or self._loop_pool or nullcontext():
            left_markers = self._recover(checkpoint, lease) if self._resumed else {}
            checkpoint.begin_work(
                lease.record.layout.shards,
                lease.record.lease.generation,
                max_failures=self._budget.allowed,
                asked=self._options.asked(),
                gate=lease.record.gate,
                plan=lease.record.plan,
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
        or the successor cannot begin. Then the run is to be resumed.
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
        """What only shows once every entity of the query was handled."""
        if message := self._task.why_empty(self._progress.counts):
            self.warn(message, WarningKind.EMPTY_QUERY)
        # A further pass finds all done, and what an earlier runner has written it has found.
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
        run record. Returns the report as it is then."""
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
            # The failure that has stopped the run counts only there: its entity is handled again.
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


def _known_counts(taken: TakenRun) -> Counts:
    """The counts of earlier runners. If the checkpoint was lost, the run record has rough ones."""
    checkpoint, status = taken.checkpoint, taken.checkpoint.status()
    if status.clean and status.generation == taken.record.lease.generation - 1:
        return checkpoint.done()
    return max(checkpoint.done(), taken.record.counts, key=lambda counts: counts.handled)

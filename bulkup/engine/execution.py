"""One runner of a run, from its first event to its report."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import astuple, replace
from datetime import datetime
from typing import Any

from bulkup.authoring.updater import Updater
from bulkup.core.clock import Clock
from bulkup.core.errors import BulkupError, Exit
from bulkup.core.events import Listener, Report, RunEnded, RunStarted
from bulkup.core.model import Counts, RunState
from bulkup.core.records import RunInfo, Shard
from bulkup.core.stop import Stopped, StopRequest
from bulkup.datastore.call_error import CallError
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.rpc_errors import explain
from bulkup.engine.batches import Limits
from bulkup.engine.budget import Budget, BudgetExceeded
from bulkup.engine.commit_resolution import CommitContext
from bulkup.engine.completion import Completion
from bulkup.engine.dry_run import DryRunSink, preview
from bulkup.engine.entities import Entities
from bulkup.engine.event_log import EventLog
from bulkup.engine.final_hook import FinalHook
from bulkup.engine.gc_tuning import seldom_collecting
from bulkup.engine.handle import Handler
from bulkup.engine.options import Options
from bulkup.engine.pool.pool import WorkerPool
from bulkup.engine.progress import ProgressTracker
from bulkup.engine.recovery import Recovery, recover
from bulkup.engine.reports import dry_report, final_exit, stored_report
from bulkup.engine.scan import QueryPlan, Scan
from bulkup.engine.scheduler import Scheduler
from bulkup.engine.splits import Sample, Sampling, why_not, width_of
from bulkup.engine.throttle.concurrency import Concurrency
from bulkup.engine.throttle.rate import RateLimiter, Warm
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.lease import Lease
from bulkup.state.markers import Markers
from bulkup.state.run_records import Ledger, RunRecord


class Execution:
    """One runner. `checkpoint` and `taken` are None for a dry run, which leaves no trace.

    `taken`: the run record with this process as its holder. `begin` makes the record of the
    successor that the updater wants, of that of its run; called after `finish`. `sampling`: where
    to cut the query into shards, where somebody has asked for it already.
    """

    def __init__(
        self,
        *,
        updater: Updater,
        rpc: Rpc,
        query: QueryPlan,
        run_info: RunInfo,
        checkpoint: Checkpoint | None,
        taken: RunRecord | None,
        options: Options,
        listener: Listener,
        stop: StopRequest,
        clock: Clock,
        state_file: str = "",
        next_command: str = "",
        begin: Callable[[RunRecord], RunRecord | None] = lambda _: None,
        entity_bytes: int = 0,
        workers: WorkerPool | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        self._rpc = rpc
        self._query = query
        self._run_info = run_info
        self._checkpoint = checkpoint
        self._options = options
        self._stop = stop
        self._clock = clock
        self._state_file = state_file
        self._next_command = next_command
        self._max_failures = (
            updater.max_failures if options.max_failures is None else options.max_failures
        )
        self._event_log = EventLog(listener, self._max_failures)
        self.warn = self._event_log.warn
        self._final_hook = FinalHook(updater, begin, self.warn)
        # With the file lost, Datastore still knows about how much was done.
        known = [checkpoint.counts()] if checkpoint else [Counts()]
        known += [taken.counts] if taken else []
        self._already = max(known, key=lambda counts: counts.handled)
        self._resumed = taken is not None and taken.generation > 1
        warm = Warm(*taken.warm) if taken is not None and taken.warm else None
        self._rate_limiter = RateLimiter(
            options.max_rate, ramps=self._is_real, clock=clock, warm=warm
        )
        self._progress = ProgressTracker(
            self._event_log, clock, self._already, self._rate_limiter.text
        )
        self._lease = (
            Lease(Ledger(rpc, run_info.target), taken, clock=clock, facts=self._facts)
            if taken
            else None
        )
        self._budget = Budget(self._max_failures, self._already.failed, self._event_log.failed)
        self._workers = workers
        self._sampling = sampling
        self._handler = Handler(updater, query, keeps_before=checkpoint is None)
        self._handle_again = (workers or self._handler).handle_again
        self._entity_bytes = entity_bytes
        self._entities = Entities(
            rpc=rpc,
            query=query,
            handler=self._handler,
            budget=self._budget,
            log=self._event_log.log,
            look=self._look,
            limit=math.inf if options.limit is None else options.limit,
            handle_again=self._handle_again,
        )
        self._markers = Markers(rpc, run_info.target.namespace, run_info.run_id)
        self._live_markers: list[tuple[int, bytes, float]] = []
        self._completion = (
            Completion(
                self._lease,
                self._markers,
                rpc,
                clock=clock,
                resumed=self._resumed,
                warn=self.warn,
            )
            if self._lease
            else None
        )
        # Until the last runner's work is made definite, its end is ours.
        self._clean = checkpoint.clean if checkpoint and self._resumed else True
        self._moves = bool(self._lease and self._lease.record.moved_in)
        rpc.on_tick = self._tick
        rpc.on_retry = self._retrying
        rpc.retry_for(options.retry_for_s)

    @property
    def _is_real(self) -> bool:
        """Neither an emulator nor the embedded Datastore."""
        return not (self._run_info.target.emulator or self._run_info.target.local)

    def _facts(self) -> dict[str, Any]:
        warm = self._rate_limiter.warm()
        return {"counts": self._progress.counts, "warm": astuple(warm) if warm else ()}

    def _retrying(self, error: CallError, attempt: int, wait_s: float, left_s: float) -> None:
        self._rate_limiter.refused(error.code_name)
        self._progress.retrying(error, attempt, wait_s, left_s)

    def _tick(self) -> None:
        self._progress.tick()
        if self._lease is not None:
            self._lease.tick()

    # --- the whole ---

    def execute(self) -> Report:
        """Work until the end, a limit, a signal or an error; the report says which it was.

        Raises nothing but bugs and KeyboardInterrupt (the second Ctrl-C): whatever ends a run
        that has begun is in its report.
        """
        started = self._clock.now()
        run_info = self._run_info
        self._event_log(
            RunStarted(
                run_info.run_id, run_info.updater, run_info.description, run_info.target,
                run_info.params,
                self._options.dry_run, self._resumed, self._already, None, self._state_file,
            )
        )  # fmt: skip
        details = ""
        try:
            self._progress.ask_total(self._rpc.count(self._query.pb, self._query.namespace))
            with seldom_collecting():
                self._work()
            if not self._progress.counts.handled:
                self.warn(
                    "the query found no entities: check the kind's name, the filters and the "
                    "target (project, database, namespace)"
                )
            if self._checkpoint is not None:
                # Before Datastore says that it is finished: nobody will resume it then.
                self._checkpoint.all_is_known()
            self._conclude(started)
            if self._completion is not None and self._checkpoint is not None:
                self._completion.finish(
                    self._checkpoint.counts(), self._live_markers, self._final_hook.successor
                )
            state, reason, exit_code = RunState.FINISHED, "", Exit.DONE
        except Stopped as stopped:
            state, reason, exit_code = stopped.state, stopped.reason, stopped.exit_code
        except BudgetExceeded as exceeded:
            state, reason, exit_code = RunState.FAILED, self._over_budget(exceeded), Exit.FAILED
            if self._checkpoint:
                self._checkpoint.stopped_by(exceeded.failure)
            else:
                self._progress.add(Counts(failed=1))
        except (CallError, BulkupError) as error:
            if self._stop and isinstance(error, CallError) and error.worth_another_try:
                asked = self._interrupted()
                state, reason, exit_code = asked.state, asked.reason, asked.exit_code
                details = (
                    f"the Datastore at {self._rpc.address} did not answer in time, so what became "
                    "of the last commits is not known; resume finds out, and writes nothing twice"
                )
            else:
                ended = self._explained(error)
                state, reason, exit_code = RunState.FAILED, ended.message, ended.exit_code
                details = ended.details
        finally:
            self._progress.close()
        if details:
            self.warn(details)
        if self._checkpoint:
            exit_code = final_exit(state, exit_code, self._checkpoint.counts().failed)
            successor = self._final_hook.successor if state is RunState.FINISHED else None
            self._checkpoint.end_work(
                state, reason, exit_code, clean=self._clean,
                successor=successor.run_info.run_id if successor else "",
            )  # fmt: skip
            if self._completion and state is not RunState.FINISHED and exit_code is not Exit.HELD:
                self._completion.let_go(
                    state, reason, self._checkpoint.counts(), self._live_markers, clean=self._clean
                )
        return self._finish(self._report(started, state, reason, exit_code))

    def _explained(self, error: CallError | BulkupError) -> BulkupError:
        if isinstance(error, BulkupError):
            return error
        return explain(
            error,
            address=self._rpc.address,
            project=self._rpc.project,
            contacted=self._rpc.contacted,
        )

    def _over_budget(self, exceeded: BudgetExceeded) -> str:
        key, error = exceeded.failure.key, exceeded.failure.error
        if exceeded.max_failures == 0:
            return f"stopped at the first failure: {key}: {error}"
        return (
            f"more than {exceeded.max_failures} "
            f"{'entity' if exceeded.max_failures == 1 else 'entities'} failed (--max-failures); "
            f"the last was {key}: {error}"
        )

    def _conclude(self, started: datetime) -> None:
        """Every entity is done: the updater's last word, and what it wants to begin then.

        Before the end is written, for that write begins the successor.
        """
        if self._checkpoint is None or self._lease is None:
            return
        code = final_exit(RunState.FINISHED, Exit.DONE, self._checkpoint.counts().failed)
        report = replace(
            self._report(started, RunState.FINISHED, "", code),
            state=RunState.FINISHED,
            reason="",
            exit_code=code,
            ended=self._clock.now(),
            next_command="",
        )
        self._final_hook.conclude(report, self._lease.record)

    def _finish(self, report: Report) -> Report:
        """Not in a dry run: finish may write."""
        if self._final_hook.code is None and not self._options.dry_run:
            self._final_hook.call(report)
        if self._final_hook.code is Exit.FAILED:
            code = report.exit_code if report.exit_code else Exit.FAILED
            report = replace(report, exit_code=code, warnings=tuple(self._event_log.warnings))
        self._event_log(RunEnded(report))
        return report

    def _report(self, started: datetime, state: RunState, reason: str, exit_code: Exit) -> Report:
        self._progress.tick(force=True)
        if self._checkpoint:
            report = stored_report(self._checkpoint, next_command=self._next_command)
        else:
            report = dry_report(
                self._run_info, self._event_log, self._progress.counts,
                state=state, reason=reason, exit_code=exit_code,
                started=started, ended=self._clock.now(), max_failures=self._max_failures,
            )  # fmt: skip
        return replace(
            report,
            total=self._progress.total,
            elapsed_s=self._progress.elapsed_s,
            retries=self._progress.retries,
            warnings=tuple(self._event_log.warnings),
        )

    # --- the work ---

    def _work(self) -> None:
        if self._checkpoint is None or self._lease is None:
            self._preview()
            return
        with self._workers or nullcontext():  # they start while the first questions are asked
            self._work_on(self._checkpoint, self._lease)

    def _preview(self) -> None:
        scan = Scan(
            self._rpc, self._query, Shard(1), self._options.batch_size,
            entity_bytes=self._entity_bytes,
        )  # fmt: skip
        sink = DryRunSink(self._event_log, self._progress.add)
        size = self._options.batch_size
        preview(
            scan, self._entities, sink, pace=self._rate_limiter, nap=self._rpc.nap, batch_size=size
        )
        self._see_moves()

    def _work_on(self, checkpoint: Checkpoint, lease: Lease) -> None:
        left = self._recover(checkpoint, lease)
        self._clean = True  # nothing has been sent yet
        width = self._width()
        common = CommitContext(
            rpc=self._rpc,
            checkpoint=checkpoint,
            markers=self._markers,
            query=self._query,
            budget=self._budget,
            limits=Limits(self._options.batch_size),
            depth=Concurrency(self._options.in_flight),
            pace=self._rate_limiter,
            runner=lease.runner,
            conflict_retries=self._options.conflict_retries,
            handle_again=self._handle_again,
            make_sure=self._make_sure,
            on_done=self._progress.add,
            unix_time=self._clock.unix,
        )
        work = Scheduler(
            common,
            entities=self._entities,
            lease=lease,
            look=self._look,
            width=width,
            sample=self._sample(width) if width > 1 else None,
            page_size=self._options.batch_size,
            entity_bytes=self._entity_bytes,
            workers=self._workers,
        )
        self._clean = False
        try:
            work.run(left)
        finally:
            self._clean = work.clean
            self._live_markers.extend(work.live_markers)

    def _recover(self, checkpoint: Checkpoint, lease: Lease) -> dict[int, dict[int, bytes]]:
        """Make the last runner's work definite; gives each shard's markers still in Datastore."""
        left: dict[int, dict[int, bytes]] = {}
        if self._resumed:
            takeover = Recovery(
                rpc=self._rpc,
                checkpoint=checkpoint,
                markers=self._markers,
                runner=lease.runner,
            )
            left = recover(takeover, checkpoint, lease, self._clock.unix())
        checkpoint.follow(lease.record.shards, lease.record.generation)
        checkpoint.begin_work(
            max_failures=self._max_failures,
            asked=self._options.asked(),
            runners=lease.record.generation,
        )
        self._progress.counts = checkpoint.counts()
        if self._progress.counts.handled > self._already.handled:
            self.warn(
                f"{self._progress.counts.handled:,} entities are done already, as Datastore knows; "
                "they are not handled again"
            )
        self._budget.failed = self._progress.counts.failed
        return left

    def _width(self) -> int:
        """How many shards are worked on at once."""
        asked = self._options.shards
        reason = why_not(self._query) if asked is not None and asked > 1 else ""
        if reason:
            self.warn(f"the query is not cut into shards: {reason}")
        return width_of(asked, self._query, is_real=self._is_real)

    def _sample(self, width: int) -> Sample:
        return (self._sampling or Sampling(self._rpc, self._query, width)).take()

    def _make_sure(self) -> None:
        """Before a commit is sent: what must be known in Datastore by then."""
        assert self._lease is not None
        self._see_moves()
        self._lease.make_sure()

    def _see_moves(self) -> None:
        if self._moves or not (self._workers or self._handler).moves:
            return
        self._moves = True
        names = ", ".join(sorted(self._query.ranged))
        self.warn(
            f"the updater changes what its query orders or ranges on ({names}), so entities move "
            "while they are read; each is handled once all the same, and one that moves from the "
            "unread part to the read one is missed (a query by kind alone has neither trouble)"
        )
        if self._lease is not None and self._checkpoint is not None:
            self._lease.update(moved_in=self._checkpoint.file_id)

    def _interrupted(self) -> Stopped:
        assert self._stop.signal is not None
        name = self._stop.signal.name
        code = Exit.SIGTERM if name == "SIGTERM" else Exit.SIGINT
        return Stopped(RunState.INTERRUPTED, f"interrupted by {name}", code)

    def _look(self) -> None:
        """What is due besides the work: progress, the lease. Raises Stopped, HeldError."""
        options = self._options
        self._tick()
        if self._stop:
            raise self._interrupted()
        if options.limit is not None and self._entities.handled >= options.limit:
            many = "entity" if options.limit == 1 else "entities"
            raise Stopped(
                RunState.STOPPED, f"stopped after {options.limit} {many} (--limit)", Exit.LIMIT
            )
        if options.max_time_s is not None and self._progress.elapsed_s >= options.max_time_s:
            raise Stopped(RunState.STOPPED, "time is up (--max-time)", Exit.LIMIT)

"""One runner of a run, from its first event to its report."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import astuple, replace
from datetime import datetime
from typing import Any

from bulkup.clock import Clock
from bulkup.engine.batches import Limits
from bulkup.engine.budget import Budget, BudgetExceeded
from bulkup.engine.collecting import seldom_collecting
from bulkup.engine.depth import Depth
from bulkup.engine.ending import Ending
from bulkup.engine.entities import Entities
from bulkup.engine.events import Listener, Report, RunEnded, RunStarted
from bulkup.engine.finishing import Finishing
from bulkup.engine.handle import Handler
from bulkup.engine.lease import Lease
from bulkup.engine.options import Options
from bulkup.engine.pace import Pace, Warm
from bulkup.engine.preview import Preview, preview
from bulkup.engine.reports import dry_report, final_exit, stored_report
from bulkup.engine.scan import QueryPlan, Scan
from bulkup.engine.settle import Common
from bulkup.engine.sharding import Sample, Sampling, why_not, width_of
from bulkup.engine.stop import Stopped, StopRequest
from bulkup.engine.takeover import Takeover, take_over
from bulkup.engine.tally import Tally
from bulkup.engine.telling import Telling
from bulkup.engine.work import Work
from bulkup.engine.workers import Workers
from bulkup.errors import BulkupError, Exit
from bulkup.facts import Counts, RunState
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.ledger import Entry, Ledger
from bulkup.state.markers import Markers
from bulkup.state.records import RunRecord, Shard
from bulkup.updater import Updater
from bulkup.wire.client import Wire
from bulkup.wire.explain import explain
from bulkup.wire.retries import CallError


class Run:
    """One runner. `checkpoint` and `taken` are None for a dry run, which leaves no trace.

    `taken`: the run record with this process as its holder. `begin` makes the record of the
    successor that the updater wants, of that of its run; called after `finish`. `sampling`: where
    to cut the query into shards, where somebody has asked for it already.
    """

    def __init__(
        self,
        *,
        updater: Updater,
        wire: Wire,
        query: QueryPlan,
        record: RunRecord,
        checkpoint: Checkpoint | None,
        taken: Entry | None,
        options: Options,
        listener: Listener,
        stop: StopRequest,
        clock: Clock,
        state_file: str = "",
        next_command: str = "",
        begin: Callable[[Entry], Entry | None] = lambda _: None,
        entity_bytes: int = 0,
        workers: Workers | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        self._wire = wire
        self._query = query
        self._record = record
        self._checkpoint = checkpoint
        self._options = options
        self._stop = stop
        self._clock = clock
        self._state_file = state_file
        self._next_command = next_command
        self._max_failures = (
            updater.max_failures if options.max_failures is None else options.max_failures
        )
        self._telling = Telling(listener, self._max_failures)
        self.warn = self._telling.warn
        self._finishing = Finishing(updater, begin, self.warn)
        # With the file lost, Datastore still knows about how much was done.
        known = [checkpoint.counts()] if checkpoint else [Counts()]
        known += [taken.counts] if taken else []
        self._already = max(known, key=lambda counts: counts.handled)
        self._resumed = taken is not None and taken.generation > 1
        warm = Warm(*taken.warm) if taken is not None and taken.warm else None
        self._pace = Pace(options.max_rate, ramps=self._is_real, clock=clock, warm=warm)
        self._tally = Tally(self._telling, clock, self._already, self._pace.text)
        self._lease = (
            Lease(Ledger(wire, record.target), taken, clock=clock, facts=self._facts)
            if taken
            else None
        )
        self._budget = Budget(self._max_failures, self._already.failed, self._telling.failed)
        self._workers = workers
        self._sampling = sampling
        self._handler = Handler(updater, query, keeps_before=checkpoint is None)
        self._handle_again = (workers or self._handler).handle_again
        self._entity_bytes = entity_bytes
        self._entities = Entities(
            wire=wire,
            query=query,
            handler=self._handler,
            budget=self._budget,
            log=self._telling.log,
            look=self._look,
            limit=math.inf if options.limit is None else options.limit,
            handle_again=self._handle_again,
        )
        self._markers = Markers(wire, record.target.namespace, record.run_id)
        self._standing: list[tuple[int, bytes, float]] = []
        self._ending = (
            Ending(
                self._lease,
                self._markers,
                wire,
                clock=clock,
                resumed=self._resumed,
                warn=self.warn,
            )
            if self._lease
            else None
        )
        # Until the last runner's work is made definite, its end is ours.
        self._clean = checkpoint.clean if checkpoint and self._resumed else True
        self._moves = bool(self._lease and self._lease.entry.moved_in)
        wire.on_tick = self._tick
        wire.on_retry = self._retrying
        wire.patience.retry_for_s = options.retry_for_s

    @property
    def _is_real(self) -> bool:
        """Neither an emulator nor the embedded Datastore."""
        return not (self._record.target.emulator or self._record.target.local)

    def _facts(self) -> dict[str, Any]:
        warm = self._pace.warm()
        return {"counts": self._tally.counts, "warm": astuple(warm) if warm else ()}

    def _retrying(self, error: CallError, attempt: int, wait_s: float, left_s: float) -> None:
        self._pace.refused(error.code.name)
        self._tally.retrying(error, attempt, wait_s, left_s)

    def _tick(self) -> None:
        self._tally.tick()
        if self._lease is not None:
            self._lease.tick()

    # --- the whole ---

    def execute(self) -> Report:
        """Work until the end, a limit, a signal or an error; the report says which it was.

        Raises nothing but bugs and KeyboardInterrupt (the second Ctrl-C): whatever ends a run
        that has begun is in its report.
        """
        started = self._clock.now()
        record = self._record
        self._telling(
            RunStarted(
                record.run_id, record.updater, record.description, record.target, record.params,
                self._options.dry_run, self._resumed, self._already, None, self._state_file,
            )
        )  # fmt: skip
        details = ""
        try:
            self._tally.ask_total(self._wire.count(self._query.pb, self._query.namespace))
            with seldom_collecting():
                self._work()
            if not self._tally.counts.handled:
                self.warn(
                    "the query found no entities: check the kind's name, the filters and the "
                    "target (project, database, namespace)"
                )
            if self._checkpoint is not None:
                # Before Datastore says that it is finished: nobody will resume it then.
                self._checkpoint.all_is_known()
            self._conclude(started)
            if self._ending is not None and self._checkpoint is not None:
                self._ending.finish(
                    self._checkpoint.counts(), self._standing, self._finishing.successor
                )
            state, reason, exit_code = RunState.FINISHED, "", Exit.DONE
        except Stopped as stopped:
            state, reason, exit_code = stopped.state, stopped.reason, stopped.exit_code
        except BudgetExceeded as exceeded:
            state, reason, exit_code = RunState.FAILED, self._over_budget(exceeded), Exit.FAILED
            if self._checkpoint:
                self._checkpoint.stopped_by(exceeded.failure)
            else:
                self._tally.add(Counts(failed=1))
        except (CallError, BulkupError) as error:
            if self._stop and isinstance(error, CallError) and error.worth_another_try:
                asked = self._interrupted()
                state, reason, exit_code = asked.state, asked.reason, asked.exit_code
                details = (
                    f"the Datastore at {self._wire.address} did not answer in time, so what became "
                    "of the last commits is not known; resume finds out, and writes nothing twice"
                )
            else:
                ended = self._explained(error)
                state, reason, exit_code = RunState.FAILED, ended.message, ended.exit_code
                details = ended.details
        finally:
            self._tally.close()
        if details:
            self.warn(details)
        if self._checkpoint:
            exit_code = final_exit(state, exit_code, self._checkpoint.counts().failed)
            successor = self._finishing.successor if state is RunState.FINISHED else None
            self._checkpoint.end_work(
                state, reason, exit_code, clean=self._clean,
                successor=successor.record.run_id if successor else "",
            )  # fmt: skip
            if self._ending and state is not RunState.FINISHED and exit_code is not Exit.HELD:
                self._ending.let_go(
                    state, reason, self._checkpoint.counts(), self._standing, clean=self._clean
                )
        return self._finish(self._report(started, state, reason, exit_code))

    def _explained(self, error: CallError | BulkupError) -> BulkupError:
        if isinstance(error, BulkupError):
            return error
        return explain(
            error,
            address=self._wire.address,
            project=self._wire.project,
            contacted=self._wire.patience.contacted,
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
        self._finishing.conclude(report, self._lease.entry)

    def _finish(self, report: Report) -> Report:
        """Not in a dry run: finish may write."""
        if self._finishing.code is None and not self._options.dry_run:
            self._finishing.call(report)
        if self._finishing.code is Exit.FAILED:
            code = report.exit_code if report.exit_code else Exit.FAILED
            report = replace(report, exit_code=code, warnings=tuple(self._telling.warnings))
        self._telling(RunEnded(report))
        return report

    def _report(self, started: datetime, state: RunState, reason: str, exit_code: Exit) -> Report:
        self._tally.tick(force=True)
        if self._checkpoint:
            report = stored_report(self._checkpoint, next_command=self._next_command)
        else:
            report = dry_report(
                self._record, self._telling, self._tally.counts,
                state=state, reason=reason, exit_code=exit_code,
                started=started, ended=self._clock.now(), max_failures=self._max_failures,
            )  # fmt: skip
        return replace(
            report,
            total=self._tally.total,
            elapsed_s=self._tally.elapsed_s,
            retries=self._tally.retries,
            warnings=tuple(self._telling.warnings),
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
            self._wire, self._query, Shard(1), self._options.batch_size,
            entity_bytes=self._entity_bytes,
        )  # fmt: skip
        sink = Preview(self._telling, self._tally.add)
        size = self._options.batch_size
        preview(scan, self._entities, sink, pace=self._pace, nap=self._wire.nap, batch_size=size)
        self._see_moves()

    def _work_on(self, checkpoint: Checkpoint, lease: Lease) -> None:
        left = self._take_over(checkpoint, lease)
        self._clean = True  # nothing has been sent yet
        width = self._width()
        common = Common(
            wire=self._wire,
            checkpoint=checkpoint,
            markers=self._markers,
            query=self._query,
            budget=self._budget,
            limits=Limits(self._options.batch_size),
            depth=Depth(self._options.in_flight),
            pace=self._pace,
            runner=lease.runner,
            conflict_retries=self._options.conflict_retries,
            handle_again=self._handle_again,
            make_sure=self._make_sure,
            on_done=self._tally.add,
            unix_time=self._clock.unix,
        )
        work = Work(
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
            self._standing.extend(work.standing)

    def _take_over(self, checkpoint: Checkpoint, lease: Lease) -> dict[int, dict[int, bytes]]:
        """Make the last runner's work definite; gives each shard's markers still in Datastore."""
        left: dict[int, dict[int, bytes]] = {}
        if self._resumed:
            takeover = Takeover(
                wire=self._wire,
                checkpoint=checkpoint,
                markers=self._markers,
                runner=lease.runner,
            )
            left = take_over(takeover, checkpoint, lease, self._clock.unix())
        checkpoint.follow(lease.entry.shards, lease.entry.generation)
        checkpoint.begin_work(
            max_failures=self._max_failures,
            asked=self._options.asked(),
            runners=lease.entry.generation,
        )
        self._tally.counts = checkpoint.counts()
        if self._tally.counts.handled > self._already.handled:
            self.warn(
                f"{self._tally.counts.handled:,} entities are done already, as Datastore knows; "
                "they are not handled again"
            )
        self._budget.failed = self._tally.counts.failed
        return left

    def _width(self) -> int:
        """How many shards are worked on at once."""
        asked = self._options.shards
        reason = why_not(self._query) if asked is not None and asked > 1 else ""
        if reason:
            self.warn(f"the query is not cut into shards: {reason}")
        return width_of(asked, self._query, is_real=self._is_real)

    def _sample(self, width: int) -> Sample:
        return (self._sampling or Sampling(self._wire, self._query, width)).take()

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
        if options.max_time_s is not None and self._tally.elapsed_s >= options.max_time_s:
            raise Stopped(RunState.STOPPED, "time is up (--max-time)", Exit.LIMIT)

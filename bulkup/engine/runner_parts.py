"""What a runner is made of: rate and budget, lease and steering, handlers, markers, progress."""

from __future__ import annotations

from dataclasses import astuple, replace

from bulkup.core.max_failures import SHARE_OF_AT_LEAST, MaxFailures
from bulkup.core.model import Counts
from bulkup.core.steering import Tuning
from bulkup.datastore.call_error import CallError
from bulkup.engine.accounts import Accounts
from bulkup.engine.budget import Budget
from bulkup.engine.commit_context import (
    LiveMarker,
)
from bulkup.engine.completion import Completion
from bulkup.engine.control import Control
from bulkup.engine.event_log import EventLog
from bulkup.engine.final_hook import FinalHook
from bulkup.engine.gates import gates_of
from bulkup.engine.handler_choice import choose_handlers
from bulkup.engine.hints import Advice
from bulkup.engine.holding import Holding
from bulkup.engine.key_scan import KeySampling
from bulkup.engine.moved_entities import MoveWatch
from bulkup.engine.observing import observe
from bulkup.engine.pool.pool import WorkerPool
from bulkup.engine.progress import ProgressTracker
from bulkup.engine.range_role import RangeRole
from bulkup.engine.slow_handler import SlowHandler
from bulkup.engine.splits import Sampling
from bulkup.engine.steered import SteeredRun
from bulkup.engine.task import Surroundings, TakenRun, Task
from bulkup.engine.throttle.concurrency import Concurrency
from bulkup.engine.throttle.ramp import Warm
from bulkup.engine.throttle.rate import RateLimiter
from bulkup.engine.throttling import Throttle
from bulkup.engine.unwritten import UnwrittenChanges
from bulkup.engine.vitals import VitalsGauge
from bulkup.state.lease import Lease
from bulkup.state.markers import Markers
from bulkup.state.notes import Notes
from bulkup.state.record import LOOK_EVERY_S, RunRecord

COUNT_WITHIN_S = 10.0
"""How long to wait for a COUNT. If there are so few entities that a share of them matters, it is
answered much sooner."""


class RunnerParts:
    """The parts of one runner, and what they call back while others wait.

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
        if taken is not None and taken.began is not None:
            self._progress.began_at(taken.began)
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
        # Until recovery is done, this runner knows only what the last one knew.
        self._clean = taken.checkpoint.status().clean if taken and self._resumed else True
        self._only_end_left = False
        """Every entity is done, and Datastore may be told so: only the end of the run is left."""
        rpc.on_tick = self._tick
        rpc.on_retry = self._retrying
        rpc.retry_for(options.retry_for_s)

    def _handled_of(self, sure: bool) -> tuple[int, int | None]:
        """How many entities are handled, and how many there are, if that is known. `sure`: wait for
        the answer to COUNT if few are handled, because a share of few depends on it."""
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
        """Make the runner of a range adopt the rate, the failures and the stop of the whole run."""
        if role.max_rate() != self._rate_limiter.max_rate:
            self._rate_limiter.tune(role.max_rate())
        handled = self._already.handled + self._control.handled
        self._budget.failed_elsewhere = role.failed_elsewhere(handled, self._budget.failed)
        self._control.ended = role.stopped()

    def _tune(self, tuning: Tuning) -> None:
        """Raises UsageError."""
        options = self._options.tuned(tuning)
        self._throttle.tune(
            max_rate=options.max_rate if self._role is None else self._role.max_rate(),
            in_flight=options.in_flight,
            batch_size=options.batch_size,
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


def _known_counts(taken: TakenRun) -> Counts:
    """The counts of earlier runners. If the checkpoint was lost, the run record has approximate
    ones."""
    checkpoint, status = taken.checkpoint, taken.checkpoint.status()
    if status.clean and status.generation == taken.record.lease.generation - 1:
        return checkpoint.done()
    return max(checkpoint.done(), taken.record.counts, key=lambda counts: counts.handled)

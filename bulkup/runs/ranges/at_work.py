"""Works on one range: takes its lease, lets the engine work on it, and returns the result."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from itertools import count
from pathlib import Path

from bulkup.authoring.updater import Updater
from bulkup.core.clock import Clock
from bulkup.core.errors import BulkupError, Exit, HeldError, NotFoundError
from bulkup.core.events import EntityFailed, Event, Listener, Progress
from bulkup.core.model import Counts, RunState
from bulkup.datastore.call_error import CallError
from bulkup.datastore.rpc_errors import explained_error
from bulkup.datastore.user_client import UserClient
from bulkup.engine.execution import Execution
from bulkup.engine.options import AUTO_SHARDS, Options
from bulkup.engine.outcomes import Outcome, outcome_of_error
from bulkup.engine.splits import Sample, Sampling
from bulkup.engine.steered import CarriedSteering
from bulkup.engine.task import Surroundings, TakenRun, Task
from bulkup.runs.prepare import PreparedRun, checked_query, with_parameters
from bulkup.runs.ranges.role import Role
from bulkup.runs.ranges.view import RunView
from bulkup.runs.ranges.working import RangeProgress, WorkingRange
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.range_folders import range_checkpoint
from bulkup.state.range_ledger import RangeLedger
from bulkup.state.ranges import change_record
from bulkup.state.record import LEASE_S, Holder, RunRecord, StopOrder
from bulkup.state.run_records import RecordMovedOn
from bulkup.state.taking import take

SAMPLED_SHARDS = 8
"""The keys at which a range may be split are sampled as if for this many shards."""

SHARE_STEP_S = 0.1
SHARE_WITHIN_S = LEASE_S / 2
"""How long to wait for a share of the rate while holding a range. The range's lease is not renewed
meanwhile."""


class RangeEnd(str, Enum):
    """The result of working on a range."""

    FINISHED = "finished"
    """Every entity in it is handled, by this call or before."""
    HELD = "held"
    """Somebody else works on it, at least until `held_until`; or this worker has no share of the
    rate yet, and should ask again then."""
    STOPPED = "stopped"
    """It is not finished, and nobody works on it: the run was stopped (the failure budget, a
    cancel), this worker was stopped (`WorkingRange.stop`), or an error ended the work. What is done
    stays done, and the next call for this range continues it."""


@dataclass(frozen=True)
class RangeResult:
    range_id: str
    end: RangeEnd
    counts: Counts = field(default_factory=Counts)
    """The counts of the whole range, by everybody who has worked on it."""
    held_until: float = 0.0
    """Unix time by the server's clock; 0: nobody holds it."""
    why: str = ""
    """Why it is not finished: a sentence without a full stop."""
    run_is_over: bool = False
    """Nobody will work on the run again: it was stopped, cancelled or abandoned, or is finished.
    Do not ask for another range."""
    outcome: Outcome | None = None
    """With STOPPED: the outcome for a runner that was stopped in this way."""
    handled_here: int = 0
    """Entities that this call has handled."""
    one_too_many: EntityFailed | None = None
    """The failure that exceeded the budget. `counts` does not include it: its entity is not
    done."""


class RangeRunner:
    """Works on ranges of a run, one after the other, with one updater and one connection.

    `prepared.ledger` is the ledger of runs, and `ledger` that of ranges. Below `folder`, each range
    gets a folder with its checkpoint. `steered_in`: the folder of the run; None: the run is not
    steered by files on this machine.
    """

    def __init__(
        self,
        prepared: PreparedRun,
        ledger: RangeLedger,
        view: RunView,
        holder: Holder,
        folder: Path,
        *,
        steered_in: Path | None = None,
        listener: Listener = lambda event: None,
        continue_command: str = "",
    ) -> None:
        self._prepared = prepared
        self._ledger = ledger
        self._view = view
        self._holder = holder
        self._folder = folder
        self._steered_in = steered_in
        self._listener = listener
        self._continue_command = continue_command
        self._numbers = count(1)
        self._sample: Sample | None = None
        self._done: dict[str, Counts] = {}
        """What is done in each range that this process has worked on."""

    def done_in_others(self, range_id: str = "") -> Counts:
        """What is done in the other ranges that this process has worked on. The conductor may not
        know it yet."""
        return sum((done for other, done in self._done.items() if other != range_id), Counts())

    def sample(self) -> Sample:
        """Keys at which ranges may be split. Datastore is asked for them only once. Raises
        CallError."""
        if self._sample is None:
            self._sample = Sampling(self._prepared.rpc, self._prepared.query, SAMPLED_SHARDS).take()
        return self._sample

    def work_on(
        self, range_id: str, options: Options, working: WorkingRange | None = None
    ) -> RangeResult:
        """Work on a range until it is finished, or cannot be. Raises only bugs and
        KeyboardInterrupt."""
        working = working or WorkingRange()
        try:
            return self._work_on(range_id, options, working)
        except CallError as error:
            return self._error(range_id, explained_error(self._prepared.rpc, error))
        except BulkupError as error:
            return self._error(range_id, error)

    @staticmethod
    def _error(range_id: str, error: BulkupError) -> RangeResult:
        outcome = outcome_of_error(error)
        return RangeResult(range_id, RangeEnd.STOPPED, why=error.message, outcome=outcome)

    def _work_on(self, range_id: str, options: Options, working: WorkingRange) -> RangeResult:
        record = self._ledger.read(range_id)
        if record is None or record.part is None:
            why = f"there is no range {range_id}"
            return RangeResult(range_id, RangeEnd.STOPPED, why=why, run_is_over=self._view.is_over)
        if record.state.is_over:
            return RangeResult(range_id, RangeEnd.FINISHED, record.counts)
        if (stopped := self.stopped()) is not None:
            return replace(stopped, range_id=range_id, counts=record.counts)
        holder = replace(self._holder, runner=f"{self._holder.runner}.{next(self._numbers)}")
        with range_checkpoint(self._folder, record.run_info) as checkpoint:
            try:
                held = take(
                    self._ledger, record, holder, clock=self._clock,
                    stop=self._prepared.context.stop,
                )  # fmt: skip
            except (HeldError, NotFoundError):
                return self._of_another(range_id)
            if not self._wait_for_share(working):
                with suppress(
                    RecordMovedOn
                ):  # it took too long, and somebody else holds the range now
                    lease = replace(held.lease, until=0)
                    self._ledger.write(replace(held, lease=lease))
                stopped = self.stopped() or self._is_to_wait(working)
                return replace(stopped, range_id=range_id, counts=held.counts)
            return self._execute(checkpoint, held, options, working)

    @property
    def _clock(self) -> Clock:
        return self._prepared.context.clock

    def stopped(self) -> RangeResult | None:
        """Why no further range may begin; None if one may."""
        order, stop = self._view.stop, self._prepared.context.stop
        if self._view.is_over:
            outcome = Outcome(RunState.STOPPED, "the run has ended meanwhile", Exit.HELD)
        elif order is not None:
            outcome = Outcome(order.state, order.reason, Exit(order.exit_code))
        elif stop.signal is not None:
            code = Exit.SIGTERM if stop.signal.name == "SIGTERM" else Exit.SIGINT
            reason = f"interrupted by {stop.signal.name}"
            outcome = Outcome(RunState.INTERRUPTED, reason, code)
            return RangeResult("", RangeEnd.STOPPED, why=reason, outcome=outcome)
        elif stop.is_asked or self._view.record.steering.is_cancelled:
            by = self._view.record.steering.by
            reason = stop.cancelled or f"cancelled by {by}"
            outcome = Outcome(RunState.STOPPED, reason, Exit.CANCELLED)
        elif self._view.lost is not None:
            return self._error("", self._view.lost)
        else:
            return None
        return RangeResult(
            "", RangeEnd.STOPPED, why=outcome.reason, run_is_over=True, outcome=outcome
        )

    def _is_to_wait(self, working: WorkingRange) -> RangeResult:
        if working.why_stop:
            outcome = Outcome(RunState.STOPPED, working.why_stop, Exit.LIMIT)
            return RangeResult("", RangeEnd.STOPPED, why=working.why_stop, outcome=outcome)
        until = self._clock.unix() + 1.0
        return RangeResult(
            "", RangeEnd.HELD, held_until=until, why="waiting for a share of the rate"
        )

    def _wait_for_share(self, working: WorkingRange) -> bool:
        clock = self._clock
        give_up = clock.monotonic() + SHARE_WITHIN_S
        while not self._view.has_share():
            if self.stopped() is not None or working.why_stop or clock.monotonic() >= give_up:
                return False
            clock.sleep(SHARE_STEP_S)
        return True

    def _of_another(self, range_id: str) -> RangeResult:
        """The result for a range that somebody else took first."""
        record = self._ledger.read(range_id)
        if record is None:
            why = f"there is no range {range_id}"
            return RangeResult(range_id, RangeEnd.STOPPED, why=why, run_is_over=self._view.is_over)
        if record.state.is_over:
            return RangeResult(range_id, RangeEnd.FINISHED, record.counts)
        holder = record.lease.holder
        why = f"{holder.who} works on it" if holder else "somebody else works on it"
        return RangeResult(range_id, RangeEnd.HELD, record.counts, float(record.lease.until), why)

    # --- the work itself ---

    def _execute(
        self, checkpoint: Checkpoint, held: RunRecord, options: Options, working: WorkingRange
    ) -> RangeResult:
        prepared, run_info = self._prepared, held.run_info
        role = Role(
            self._view, working, self._ledger, self.sample,
            done_before=self.done_in_others(run_info.run_id),
        )  # fmt: skip
        taken = TakenRun(
            checkpoint, self._ledger, held,
            next_command=lambda: "",
            begin_successor=lambda record: None,
            continue_command=self._continue_command,
            role=role,
            steered_in=self._steered_in,
        )  # fmt: skip
        shards = options.shards or (AUTO_SHARDS if prepared.target.info.is_real else 1)
        sampling = Sampling(prepared.rpc, prepared.query, shards) if shards > 1 else None
        context = prepared.context

        last: EntityFailed | None = None

        def listen(event: Event) -> None:
            nonlocal last
            if isinstance(event, Progress):
                working.is_at(_progress(event))
            elif isinstance(event, EntityFailed):
                last = event
            self._listener(event)

        execution = Execution(
            Task(
                self._updater(), prepared.query, prepared.rpc, run_info,
                prepared.first_entity_bytes,
            ),
            Surroundings(
                options, listen, context.stop, context.clock, CarriedSteering(),
                context.observer,
            ),
            taken,
            sampling=sampling,
        )  # fmt: skip
        working.begin()
        policy = prepared.rpc.retry_policy
        try:
            report = execution.execute()
        finally:
            working.end()
            # An execution that ends in an outage sends its last calls only once. For the next
            # range, calls are retried again.
            prepared.rpc.retry_policy = policy
            # These callbacks look after the range's lease, which is over.
            prepared.rpc.on_tick, prepared.rpc.on_retry = _nothing, _nothing
        counts = checkpoint.done()
        outcome = Outcome(
            report.state, report.reason, report.exit_code, over_budget=bool(report.over_budget)
        )
        handled = execution.handled_here
        self._done[run_info.run_id] = counts
        if report.state is RunState.FINISHED:
            return RangeResult(run_info.run_id, RangeEnd.FINISHED, counts, handled_here=handled)
        if report.exit_code is Exit.HELD and not self._view.is_over:
            return replace(self._of_another(run_info.run_id), handled_here=handled)
        if report.over_budget:
            order = StopOrder(RunState.FAILED, report.reason, int(Exit.FAILED))
            self._order(order)
        stopped = self.stopped()
        return RangeResult(
            run_info.run_id, RangeEnd.STOPPED, counts, why=report.reason,
            run_is_over=report.over_budget or (stopped is not None and stopped.run_is_over),
            outcome=outcome, handled_here=handled,
            one_too_many=last if report.over_budget else None,
        )  # fmt: skip

    def _order(self, order: StopOrder) -> None:
        """Stop the run for all who work on it. Raises CallError, StateError."""

        def stopped(record: RunRecord) -> RunRecord:
            assert record.ranges is not None
            if record.ranges.stop is not None:
                return record
            ranges = replace(record.ranges, stop=order)
            return replace(record, state=order.state, reason=order.reason, ranges=ranges)

        change_record(self._prepared.ledger, self._view.record.run_info.run_id, stopped)
        self._view.renew_soon()

    def _updater(self) -> Updater:
        """The updater for one range. One with `async` handlers is closed when a range ends, so each
        range gets its own."""
        prepared = self._prepared
        if not prepared.updater._is_async:
            return prepared.updater
        updater = with_parameters(prepared.source, prepared.params).create()
        updater.client = UserClient.over(prepared.rpc, prepared.target.client)
        checked_query(updater, prepared.source, prepared.target, prepared.selection)
        return updater


def _progress(event: Progress) -> RangeProgress:
    shares = [one.share for one in event.vitals.shards] if event.vitals is not None else []
    known = [share for share in shares if share is not None]
    return RangeProgress(event.handled, sum(known) / len(known) if known else None)


def _nothing(*_: object) -> None:
    pass

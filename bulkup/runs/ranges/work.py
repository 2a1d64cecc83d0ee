"""Works on a run that is cut into ranges, alongside other processes, until all of it is done:
`bulkup run --ranges`, and `bulkup resume` of such a run."""

from __future__ import annotations

import random
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import replace

from bulkup.core.errors import BulkupError, Exit
from bulkup.core.events import (
    EntityFailed,
    Event,
    Progress,
    Report,
    RunEnded,
    RunStarted,
    Warned,
)
from bulkup.core.model import Counts, RunState
from bulkup.datastore.call_error import CallError
from bulkup.datastore.rpc_errors import explained_error
from bulkup.engine.options import Options
from bulkup.engine.outcomes import Outcome, outcome_of_error
from bulkup.runs.acquire import lock_folder, open_checkpoint
from bulkup.runs.prepare import PreparedRun
from bulkup.runs.ranges.at_work import RangeEnd, RangeRunner
from bulkup.runs.ranges.ending import ENDING_WITHIN_S, conclude_run, report_alone
from bulkup.runs.ranges.joining import join
from bulkup.runs.ranges.view import RunView, Times
from bulkup.runs.successor import foretell_successor
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.display import continue_command
from bulkup.state.files import sharing_ranges
from bulkup.state.holder import has_died, this_process
from bulkup.state.range_ledger import RangeLedger
from bulkup.state.ranges import ranges_of
from bulkup.state.record import RunRecord

JOINING_WITHIN_S = 30.0
"""How long to wait for the run's folder while other processes on this machine work on the run. Each
holds it only briefly, except at the end."""

LOOK_AGAIN_S = 3.0
"""The longest wait before looking again at ranges that others hold."""
STEP_S = 0.1

TIMES = Times()
"""How often this process looks at the whole run."""


def work_on_ranges(
    prepared: PreparedRun, record: RunRecord, *, checkpoint: Checkpoint | None = None
) -> Report:
    """Work on any range that is free, then on the next one, until all are finished, and end the
    run. `checkpoint`: the run's own, whose lock this process holds. The lock is released while this
    process works on ranges.

    Raises BulkupError when this process cannot take part.
    """
    with _opened(prepared, record, checkpoint) as own:
        record = join(prepared, record, own)
        folder = own.folder
        tell_start(prepared, record, own)
    if checkpoint is not None and checkpoint.lock is not None:
        checkpoint.lock.release()
    outcome, one_too_many = None, None
    with sharing_ranges(folder) as ranges_folder:
        holder, context = this_process(), prepared.context
        view = RunView(
            lambda: context.connect(prepared.target), prepared.target.info, record, holder,
            context.clock, folder=folder, times=TIMES,
        )  # fmt: skip
        with closing(view):
            listener = _RangeListener(prepared, view)
            runner = RangeRunner(
                prepared, RangeLedger.beside(prepared.ledger), view, holder,
                ranges_folder,
                steered_in=folder, listener=listener,
                continue_command=continue_command(record.run_info.run_id, context.typed_state_dir),
            )  # fmt: skip
            try:
                view.look()
                view.start()
                worker = _Worker(prepared, view, runner, listener)
                outcome = worker.work()
                one_too_many = worker.one_too_many
            except CallError as error:
                view.lost = explained_error(prepared.rpc, error)
                outcome = outcome_of_error(view.lost)
            except BulkupError as error:
                outcome = outcome_of_error(error)
            finally:
                view.is_working = False
                view.end_thread()
            if outcome is None:
                view.let_go(prepared.rpc, None, "")
            else:
                view.let_go(prepared.rpc, outcome.state, outcome.reason)
            last = view.record
            done = max(last.counts, runner.done_in_others(), key=lambda counts: counts.handled)
    prepared.rpc.on_tick = lambda: None
    if checkpoint is not None and checkpoint.lock is not None:
        _lock_again(prepared, checkpoint)
    try:
        return conclude_run(
            prepared, record.run_info.run_id, outcome, one_too_many, checkpoint=checkpoint
        )
    except CallError:
        if outcome is None:
            raise
        with _opened(prepared, record, checkpoint) as own:
            own.catch_up(done)
            return report_alone(prepared, last, own, outcome)


def waiting(prepared: PreparedRun, seconds: float) -> PreparedRun:
    """The same prepared run, but with a wait of at least `seconds` for its folder. Another process
    on this machine may hold the folder for a moment, or while it ends the run."""
    context = prepared.context
    return replace(prepared, context=replace(context, wait_s=max(context.wait_s, seconds)))


def _opened(
    prepared: PreparedRun, record: RunRecord, checkpoint: Checkpoint | None
) -> AbstractContextManager[Checkpoint]:
    if checkpoint is not None:
        return nullcontext(checkpoint)
    return open_checkpoint(record.run_info, waiting(prepared, JOINING_WITHIN_S))


def _lock_again(prepared: PreparedRun, checkpoint: Checkpoint) -> None:
    """Raises HeldError, StopAskedError, StateError."""
    context = waiting(prepared, ENDING_WITHIN_S).context
    checkpoint.lock = lock_folder(checkpoint.folder, context)


def tell_start(prepared: PreparedRun, record: RunRecord, checkpoint: Checkpoint) -> None:
    """Emit the start of the run, and the warnings known so far."""
    run_info, context = record.run_info, prepared.context
    context.listener(
        RunStarted(
            run_info.run_id, run_info.updater, run_info.description, run_info.target,
            run_info.params, dry_run=False, resumed=record.counts.handled > 0,
            already=record.counts, state_file=context.shown(checkpoint.path),
            selection=run_info.selection, query=prepared.shown_query,
        )
    )  # fmt: skip
    for warning in (*prepared.warnings, *foretell_successor(prepared)):
        context.listener(warning)
    prepared.warnings.clear()


class _RangeListener:
    """Passes on the events of a range as events of the run."""

    def __init__(self, prepared: PreparedRun, view: RunView) -> None:
        self._listener = prepared.context.listener
        self._monotonic = prepared.context.clock.monotonic
        self._started = self._monotonic()
        self._view = view
        self._record: RunRecord | None = None
        self._in_range = Counts()
        self._others = Counts()
        self._warned: set[str] = set()

    def __call__(self, event: Event) -> None:
        if isinstance(event, (RunStarted, RunEnded)):
            return
        if isinstance(event, Warned):
            if event.message in self._warned:
                return
            self._warned.add(event.message)
        elif isinstance(event, Progress):
            event = self._of_run(event)
        self._listener(event)

    def _of_run(self, event: Progress) -> Progress:
        """Use the counts of the run that the conductor wrote last, plus what this range has done
        since."""
        if self._view.record is not self._record:
            self._record, self._in_range = self._view.record, event.counts
        new = event.counts - self._in_range
        counts = self._view.record.counts
        if new.handled > 0:
            counts = counts + new
        handled = counts.handled + max(0, event.handled - event.counts.handled)
        return replace(
            event, counts=counts, total=self._view.record.total, handled=handled,
            elapsed_s=self._monotonic() - self._started,
        )  # fmt: skip

    def idle(self, why: str) -> None:
        """Report progress while no range is free."""
        record = self._view.record
        self._record = None
        self._listener(
            Progress(
                record.counts, record.total, self._monotonic() - self._started, 0.0,
                waiting=why, handled=record.counts.handled,
            )
        )  # fmt: skip


class _Worker:
    """Works on one range after the other."""

    def __init__(
        self, prepared: PreparedRun, view: RunView, runner: RangeRunner, listener: _RangeListener
    ) -> None:
        self._prepared = prepared
        self._context = prepared.context
        self._view = view
        self._runner = runner
        self._listener = listener
        self._ledger = RangeLedger.beside(prepared.ledger)
        self._clock = prepared.context.clock
        self._began = self._clock.monotonic()
        self._handled = 0
        self.one_too_many: EntityFailed | None = None
        """The failure that has stopped this process."""
        self._random = random.Random(view.worker)  # noqa: S311 - so that workers begin apart

    def work(self) -> Outcome | None:
        """Work until all ranges are finished (None), or until this process is to stop. Raises
        CallError, BulkupError."""
        while True:
            ranges = ranges_of(self._ledger, self._view.record)
            left = [one for one in ranges if not one.state.is_over]
            if not left:
                return None
            free = [one for one in left if self._is_free(one)]
            # In random order, so that workers seldom ask for the same range.
            self._random.shuffle(free)
            worked = False
            for record in free:
                result = self._runner.work_on(record.run_info.run_id, self._options())
                self._handled += result.handled_here
                if result.end is RangeEnd.STOPPED:
                    self.one_too_many = result.one_too_many
                    return result.outcome or Outcome(RunState.FAILED, result.why, Exit.FAILED)
                worked = worked or result.end is RangeEnd.FINISHED
            if not worked and (outcome := self._wait(len(left))) is not None:
                return outcome

    def _is_free(self, record: RunRecord) -> bool:
        holder = record.lease.holder
        now = self._clock.unix()
        return holder is None or not record.lease.is_held(now) or has_died(holder)

    def _options(self) -> Options:
        options = self._context.options
        if options.limit is not None:
            options = replace(options, limit=max(options.limit - self._handled, 1))
        if options.max_time_s is not None:
            elapsed = self._clock.monotonic() - self._began
            options = replace(options, max_time_s=max(options.max_time_s - elapsed, 0.0))
        return options

    def _wait(self, left: int) -> Outcome | None:
        """Wait a moment for others. Returns an outcome if this process is to stop."""
        noun = "range" if left == 1 else "ranges"
        self._listener.idle(f"waiting for {left:,} {noun} that others work on")
        until = self._clock.monotonic() + LOOK_AGAIN_S
        while self._clock.monotonic() < until:
            stopped = self._runner.stopped()
            if stopped is not None:
                return stopped.outcome
            if self._is_out_of_time():
                return Outcome(RunState.STOPPED, "time is up (--max-time)", Exit.LIMIT)
            self._clock.sleep(STEP_S)
        return None

    def _is_out_of_time(self) -> bool:
        most = self._context.options.max_time_s
        return most is not None and self._clock.monotonic() - self._began >= most

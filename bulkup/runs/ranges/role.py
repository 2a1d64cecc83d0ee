"""What the engine learns about the whole run while it works on a range."""

from __future__ import annotations

from collections.abc import Callable

from bulkup.core.errors import Exit, StateError
from bulkup.core.model import Counts, RunState
from bulkup.core.stop import Stopped
from bulkup.engine.scheduler import Scheduler
from bulkup.engine.splits import Sample
from bulkup.engine.steered import SteeringSource
from bulkup.engine.throttle.max_rate import MaxRate
from bulkup.runs.ranges.splitting import split_range
from bulkup.runs.ranges.view import RunView
from bulkup.runs.ranges.working import WorkingRange
from bulkup.state.range_ledger import RangeLedger


class Role:
    """The `RangeRole` of a range.

    `done_before`: what is done in the other ranges that this process has worked on, which the
    conductor may not know yet.
    """

    def __init__(
        self,
        view: RunView,
        working: WorkingRange,
        ledger: RangeLedger,
        sample: Callable[[], Sample],
        *,
        done_before: Counts,
    ) -> None:
        self._view = view
        self._working = working
        self._sample = sample
        self._ledger = ledger
        self._counts: Counts | None = None
        self._before = self._elsewhere = done_before

    @property
    def steering(self) -> SteeringSource:
        return self._view

    def max_rate(self) -> MaxRate:
        return self._view.max_rate()

    def failed_elsewhere(self, handled: int, failed: int) -> int:
        counts = self._view.record.counts
        if counts is not self._counts:
            self._counts = counts
            # Take both at the same moment: the failure budget may be a percentage of the entities
            # handled.
            self._elsewhere = Counts(
                handled=max(self._before.handled, counts.handled - handled),
                failed=max(self._before.failed, counts.failed - failed),
            )
        return self._elsewhere.failed

    def handled_of_run(self, here: int) -> tuple[int, int | None]:
        return self._elsewhere.handled + here, self._view.record.total

    def stopped(self) -> Stopped | None:
        if self._working.why_stop:
            return Stopped(RunState.STOPPED, self._working.why_stop, Exit.LIMIT)
        if (order := self._view.stop) is not None:
            return Stopped(order.state, order.reason, Exit(order.exit_code))
        if self._view.is_over:
            return Stopped(RunState.STOPPED, "the run has ended meanwhile", Exit.HELD)
        if isinstance(lost := self._view.lost, StateError):
            return Stopped(RunState.FAILED, lost.message, lost.exit_code)
        return None

    def split(self, scheduler: Scheduler) -> None:
        if self._working.request is not None:
            split_range(self._working, scheduler, self._ledger, self._sample)

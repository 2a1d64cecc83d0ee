"""What the engine is told of the whole run while it works on a range."""

from __future__ import annotations

from collections.abc import Callable

from bulkup.core.errors import Exit
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

    `failed_before`: how many entities have failed in the other ranges that this process has worked
    on, which the conductor may not know yet.
    """

    def __init__(
        self,
        view: RunView,
        working: WorkingRange,
        ledger: RangeLedger,
        sample: Callable[[], Sample],
        *,
        failed_before: int,
    ) -> None:
        self._failed_before = failed_before
        self._view = view
        self._working = working
        self._sample = sample
        self._ledger = ledger
        self._counts: Counts | None = None
        self._elsewhere = 0

    @property
    def steering(self) -> SteeringSource:
        return self._view

    def max_rate(self) -> MaxRate:
        return self._view.max_rate()

    def failed_elsewhere(self, here: int) -> int:
        counts = self._view.record.counts
        if counts is not self._counts:
            self._counts = counts
            self._elsewhere = max(self._failed_before, counts.failed - here)
        return self._elsewhere

    def handled_of_run(self, here: int) -> tuple[int, int | None]:
        record = self._view.record
        return max(record.counts.handled, here), record.total

    def stopped(self) -> Stopped | None:
        if self._working.why_stop:
            return Stopped(RunState.STOPPED, self._working.why_stop, Exit.LIMIT)
        if (order := self._view.stop) is not None:
            return Stopped(order.state, order.reason, Exit(order.exit_code))
        if self._view.is_over:
            return Stopped(RunState.STOPPED, "the run has ended meanwhile", Exit.HELD)
        return None

    def split(self, scheduler: Scheduler) -> None:
        if self._working.request is not None:
            split_range(self._working, scheduler, self._ledger, self._sample)

"""Answers requests to split a range while it is worked on."""

from __future__ import annotations

from collections.abc import Callable

from bulkup.engine.scheduler import Scheduler
from bulkup.engine.splits import Sample
from bulkup.runs.ranges.working import WorkingRange
from bulkup.state.range_ledger import RangeLedger


def split_range(
    working: WorkingRange, scheduler: Scheduler, ledger: RangeLedger, sample: Callable[[], Sample]
) -> None:
    """Answer the pending request, if there is one. Raises HeldError, CallError."""
    if working.request is not None and working.request.fraction > 0:
        sample()  # this may take long, and meanwhile the caller may give up
    request = working.take_request()
    if request is None:
        return
    new_range = None
    try:
        new_range = scheduler.split_tail(request.fraction, sample, ledger)
    finally:
        working.answer(request, new_range)

"""Splits a range that is worked on: ends it early, and inserts the range of the rest in the same
commit."""

from __future__ import annotations

from collections.abc import Callable

from bulkup.engine.scheduler import Scheduler
from bulkup.engine.splits import Sample
from bulkup.runs.ranges.working import SplitRequest, WorkingRange
from bulkup.state.lease import Lease
from bulkup.state.run_records import Ledger


def split_range(
    working: WorkingRange,
    scheduler: Scheduler,
    lease: Lease,
    ledger: Ledger,
    sample: Callable[[], Sample],
) -> None:
    """Answer the request that is there. Raises HeldError, CallError."""
    request = working.take_request()
    if request is None:
        return
    new_range = None
    try:
        new_range = _split(request, scheduler, lease, ledger, sample)
    finally:
        working.answer(request, new_range)


def _split(
    request: SplitRequest,
    scheduler: Scheduler,
    lease: Lease,
    ledger: Ledger,
    sample: Callable[[], Sample],
) -> str | None:
    return None

"""Begin and conclude a run that is cut into ranges. In between, others work on the ranges.

begun = begin(prepared, ranges=64)      # cuts the run, or finds the unfinished one of this work
if isinstance(begun, RunRecord):
    work = work_of(prepared, begun)     # for RangeWorkers, anywhere
    ...                                 # they work; meanwhile `look` reports progress
    report = conclude(prepared, begun)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bulkup.core.errors import UsageError
from bulkup.core.events import Report
from bulkup.core.model import Counts
from bulkup.runs.acquire import open_checkpoint
from bulkup.runs.prepare import PreparedRun
from bulkup.runs.ranges.ending import conclude_run
from bulkup.runs.ranges.joining import join
from bulkup.runs.ranges.unit import RangedWork
from bulkup.runs.ranges.work import JOINING_WITHIN_S, tell_start, waiting
from bulkup.runs.start import Cutting, start
from bulkup.state.files import sharing_ranges
from bulkup.state.range_ledger import RangeLedger
from bulkup.state.ranges import is_finished, ranges_of, total_of
from bulkup.state.record import RunRecord


@dataclass(frozen=True)
class RangesState:
    """The progress of a run's ranges, as far as Datastore knows it."""

    finished: int
    total: int
    """How many ranges there are by now."""
    counts: Counts
    entities: int | None
    """How many entities the query found at the start; None: not known."""
    holders: Sequence[str]
    """Who is working on a range now: user@host, one entry for each such range."""
    stop: str = ""
    """Why the run was stopped, as a sentence without a full stop; empty if it was not stopped."""
    is_over: bool = False
    """The run is finished, or was given up."""


class _Begun(Exception):
    def __init__(self, record: RunRecord) -> None:
        super().__init__()
        self.record = record


def begin(
    prepared: PreparedRun, *, ranges: int | None = None, fresh: bool = False
) -> RunRecord | Report:
    """Cut a run into ranges, or find the unfinished run of the same work, and cut that if it is not
    cut yet. `ranges`: about how many; None: as many as the query's size suggests. Emits RunStarted.

    Returns a report if there is nothing left to do. Raises BulkupError for a query that cannot be
    cut and for `--local` (use a server that others can reach), and what `start` raises.
    """

    def work(prepared: PreparedRun, record: RunRecord) -> Report:
        with open_checkpoint(record.run_info, waiting(prepared, JOINING_WITHIN_S)) as checkpoint:
            joined = join(prepared, record, checkpoint)
            with sharing_ranges(checkpoint.folder):  # this marks its folder as cut
                tell_start(prepared, joined, checkpoint)
        raise _Begun(joined)

    try:
        return start(prepared, fresh=fresh, cutting=Cutting(ranges, work))
    except _Begun as begun:
        return begun.record


def work_of(prepared: PreparedRun, record: RunRecord, *, ship: bool = True) -> RangedWork:
    """What workers in other processes need. `ship`: include the updater's file; otherwise the
    workers find it by its path or its dotted name. Raises UsageError when no other process can load
    the updater."""
    source, info = prepared.source, prepared.target.info
    if source.only_here:
        raise UsageError(
            f"other processes cannot load {source.name}, since {source.only_here}; move it to the "
            "top level of a file"
        )
    is_file = bool(source.path) and source.spec.startswith(os.sep)
    content = b""
    if ship and is_file:
        with open(source.path, "rb") as file:
            content = file.read()
    return RangedWork(
        run_id=record.run_info.run_id,
        spec=source.spec,
        checksum=source.checksum,
        target=info,
        address="" if info.is_real else prepared.rpc.address,
        params=dict(prepared.params),
        selection=prepared.selection,
        options=replace(prepared.context.options, limit=None, max_time_s=None, dry_run=False),
        source=content,
        file_name=os.path.basename(source.path) if is_file else "",
    )


def range_ids(prepared: PreparedRun, record: RunRecord) -> list[str]:
    """The ids of all ranges that the run has by now, in order. Raises CallError."""
    return [one.run_info.run_id for one in _ranges(prepared, record)]


def look(prepared: PreparedRun, record: RunRecord) -> RangesState:
    """The progress of the run's ranges. Raises CallError."""
    there = prepared.ledger.read(record.run_info.run_id) or record
    ranges = _ranges(prepared, record)
    assert there.ranges is not None
    now = prepared.context.clock.unix()
    stop = there.ranges.stop
    return RangesState(
        finished=sum(map(is_finished, ranges)),
        total=len(ranges),
        counts=there.counts if there.state.is_over else total_of(there.ranges, ranges),
        entities=there.total,
        holders=[
            one.lease.holder.who
            for one in ranges
            if one.lease.holder is not None and one.lease.is_held(now)
        ],
        stop=stop.reason if stop is not None else "",
        is_over=there.state.is_over,
    )


def _ranges(prepared: PreparedRun, record: RunRecord) -> list[RunRecord]:
    return ranges_of(RangeLedger.beside(prepared.ledger), record)


def conclude(prepared: PreparedRun, record: RunRecord) -> Report:
    """End the run if its ranges cover the query and each is finished: calls `check_after` and
    `finish`, begins the successor, delivers the report. Emits RunEnded.

    Otherwise the report says what is left, with exit code 1 (or the code of whatever stopped the
    run) and the command that resumes it. Only the records decide whether the run is finished.
    Raises BulkupError, CallError.
    """
    with prepared.context.stop.listening():
        return conclude_run(prepared, record.run_info.run_id)

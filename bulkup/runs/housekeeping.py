"""What a command cleans up in Datastore before its own work: markers, runs replaced by `--new`."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from bulkup.core.clock import Clock
from bulkup.core.errors import HeldError
from bulkup.core.model import RunState
from bulkup.core.records import RunInfo
from bulkup.core.stop import StopRequest
from bulkup.datastore.rpc import Rpc
from bulkup.state.holder import has_died, this_process
from bulkup.state.lease import without_markers
from bulkup.state.markers import Markers
from bulkup.state.range_ledger import RangeLedger
from bulkup.state.ranges import prefix_of, ranges_of
from bulkup.state.record import Holder, RunRecord
from bulkup.state.run_records import Ledger, RecordMovedOn
from bulkup.state.sweeping import after_late_copies, is_seen, may_sweep, seen_now
from bulkup.state.taking import take


def sweep_markers(ledger: Ledger, rpc: Rpc, records: Iterable[RunRecord]) -> None:
    """Delete the markers that interrupted runs had to leave behind.

    `records` come from `Ledger.to_sweep`. Raises CallError.
    """
    for record in list(records):
        if not may_sweep(record.layout, rpc.server_time):
            if not is_seen(record.layout, rpc.server_time):
                with suppress(RecordMovedOn):  # the next command does it
                    ledger.write(replace(record, layout=seen_now(record.layout, rpc.server_time)))
            continue
        markers = Markers(rpc, record.run_info.target.namespace, record.run_info.run_id)
        markers.remove_all()
        _remove_ranges(rpc, markers, record.run_info)
        if record.keep:
            with suppress(RecordMovedOn):  # another process swept it at the same time
                ledger.write(without_markers(record))
        else:
            ledger.remove(record)


def _remove_ranges(rpc: Rpc, markers: Markers, run_info: RunInfo) -> None:
    """Remove a run's ranges and their markers. The markers go first: without a range's record,
    nobody would know of its markers. A run that is not cut may have ranges, too, if the process
    that planned them died before they took effect."""
    prefix = prefix_of(run_info.run_id)
    markers.remove_of_ranges(prefix)
    ledger = RangeLedger(rpc, run_info.target)
    ledger.remove_all(ledger.between(prefix, prefix[:-1] + "\x7f"))


def _at_work(ledger: Ledger, record: RunRecord, now: float) -> Holder | None:
    """A holder that is working on a range of a run; None if nobody is, or if the run has no
    ranges."""
    if record.ranges is None:
        return None
    for one in ranges_of(RangeLedger.beside(ledger), record):
        holder = one.lease.holder
        if holder is not None and one.lease.is_held(now) and not has_died(holder):
            return holder
    return None


def abandon(
    ledger: Ledger, record: RunRecord, reason: str, *, clock: Clock, stop: StopRequest
) -> None:
    """End an unfinished run where it is. What it wrote stays.

    Raises HeldError, NotFoundError, CallError.
    """
    held = take(ledger, record, this_process(), clock=clock, stop=stop)
    other = _at_work(ledger, held, clock.unix())
    if other is not None:
        ledger.write(replace(held, lease=replace(held.lease, until=0)))
        raise HeldError(
            f"{other.who} (process {other.pid}) is working on a range of run "
            f"{record.run_info.run_id}; stop it (its work is safe) and try again"
        )
    ledger.write(
        replace(
            held,
            state=RunState.ABANDONED,
            reason=reason,
            ended=int(clock.unix()),
            lease=replace(held.lease, until=0),
            layout=after_late_copies(held.layout, ledger.server_time),
        ),
        over=True,
    )

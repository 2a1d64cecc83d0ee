"""Takes the lease on a run, once it is free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bulkup.core.clock import Clock
from bulkup.core.errors import HeldError, NotFoundError
from bulkup.core.model import RunState
from bulkup.core.stop import StopRequest
from bulkup.datastore.server_time import ServerTime
from bulkup.state.holder import has_died
from bulkup.state.lease import Change
from bulkup.state.markers import LATE_COPY_S
from bulkup.state.record import LEASE_S, Holder, LeaseTerms, RunRecord
from bulkup.state.run_records import Ledger, RecordMovedOn

WAIT_STEP_S = 2.0
"""How often a waiting runner checks whether the run is free."""


def take(
    ledger: Ledger,
    record: RunRecord,
    holder: Holder,
    *,
    clock: Clock,
    stop: StopRequest,
    change: Change = lambda record: record,
    wait_s: float = 0.0,
    on_wait: Callable[[str], None] = lambda _: None,
) -> RunRecord:
    """Make `holder` the runner of a run; returns the record as written.

    `change` is applied to the record that is written. Waits up to `wait_s` for another runner to
    end or to lose its lease, and calls `on_wait` once.
    Raises HeldError if the run is still held then, NotFoundError if the run ended meanwhile,
    CallError.
    """
    give_up = clock.monotonic() + wait_s
    told = False
    while True:
        now = clock.unix()
        other = record.lease.holder
        if other is None or not record.lease.is_held(now) or has_died(other):
            lease = LeaseTerms(holder, int(now + LEASE_S), record.lease.generation + 1)
            taken = replace(change(record), state=RunState.RUNNING, reason=None, lease=lease)
            try:
                return ledger.write(_fenced_by_our_clock(taken, ledger.server_time))
            except RecordMovedOn:
                pass  # somebody was faster; find out who
        elif clock.monotonic() >= give_up:
            raise HeldError(
                f"{other.who} (process {other.pid}) is working on run {record.run_info.run_id}, "
                f"last sign of life {record.lease.heard_ago_s(now):.0f} s ago; wait for it "
                "(--wait 10m), or stop it (its work is safe) and try again"
            )
        else:
            if not told:
                on_wait(f"waiting for {other.who} (process {other.pid}), who works on this run")
                told = True
            clock.sleep(WAIT_STEP_S)
            stop.raise_if_asked()
        record = still_open(ledger.read(record.run_info.run_id), record.run_info.run_id)


def _fenced_by_our_clock(record: RunRecord, time: ServerTime) -> RunRecord:
    """If the server does not report its time, the former runner set `fenced_until` by its own
    clock, which may be hours off. So wait for late copies from now on."""
    if time.is_known or not record.layout.fenced_until:
        return record
    fenced_until = int(time.now() + LATE_COPY_S) + 1
    return replace(record, layout=replace(record.layout, fenced_until=fenced_until))


def still_open(record: RunRecord | None, run_id: str) -> RunRecord:
    """The record, unless the run ended while somebody waited for it: it must not start again.

    Raises NotFoundError.
    """
    if record is None:
        raise NotFoundError(
            f"the run record of {run_id} has just been removed: its runner has finished the run "
            "(--no-record), or somebody has deleted it; `bulkup list` shows what is known here"
        )
    if record.state.is_over:
        holder = record.lease.holder
        who = holder.who if holder else "another runner"
        raise NotFoundError(
            f"run {run_id} has just ended ({record.state.value}, by {who}); "
            "there is nothing left to do"
        )
    return record

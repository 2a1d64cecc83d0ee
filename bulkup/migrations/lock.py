"""One `bulkup migrate` at a time works on a target, whatever folder it has.

The lock is a run record of its own with nothing but a lease. It keeps migrations from running
side by side, also those of two checkouts that differ. What keeps one migration from being applied
twice is the insert of its own record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from bulkup.core.clock import Clock
from bulkup.core.errors import BulkupError, HeldError, NotFoundError
from bulkup.core.model import Counts, RunState, TargetInfo
from bulkup.core.records import NoSource, RunInfo
from bulkup.core.stop import StopRequest
from bulkup.datastore.call_error import CallError
from bulkup.datastore.rpc import Rpc
from bulkup.state.holder import has_died, this_process
from bulkup.state.lease import WAIT_STEP_S, Lease, take
from bulkup.state.record import RunRecord
from bulkup.state.run_records import Ledger

LOCK_ID = "bulkup-migrate"
"""The id of its run record."""


@contextmanager
def locked(
    rpc: Rpc,
    target: TargetInfo,
    *,
    wait_s: float,
    on_wait: Callable[[str], None],
    stop: StopRequest,
    clock: Clock,
) -> Iterator[Lease]:
    """Hold the lock; whoever works must `tick` the lease.

    Raises HeldError, StopAskedError, CallError.
    """
    ledger = Ledger(rpc, target)
    record = _take(ledger, target, wait_s, on_wait, stop, clock)
    lease = Lease(ledger, record, clock=clock, refresh=lambda record: record)
    try:
        yield lease
    finally:
        # One try: when the server is away, or the lock is another's by now, it runs out.
        rpc.retry_for(0.0)
        with suppress(CallError, BulkupError):
            lease.give_back(RunState.FINISHED, None, Counts(), fenced_until=0)


def _take(
    ledger: Ledger,
    target: TargetInfo,
    wait_s: float,
    on_wait: Callable[[str], None],
    stop: StopRequest,
    clock: Clock,
) -> RunRecord:
    give_up = clock.monotonic() + wait_s
    said = False
    while True:
        record = ledger.read(LOCK_ID) or RunRecord(_run_info(target, clock), RunState.RUNNING)
        now, other = clock.unix(), record.lease.holder
        if other is None or not record.lease.is_held(now) or has_died(other):
            # Somebody may be faster, and at its end by now: look again.
            with suppress(HeldError, NotFoundError):
                return take(ledger, record, this_process(), clock=clock, stop=stop)
            continue
        doing = f" ({record.reason})" if record.reason else ""
        if clock.monotonic() >= give_up:
            heard = max(record.lease.heard_ago_s(now), 0)
            raise HeldError(
                f"{other.who} (process {other.pid}) applies migrations there{doing}, last heard "
                f"of {heard:.0f} s ago; wait for it with --wait 10m, or, when it is dead "
                f"for certain: bulkup unlock {LOCK_ID}"
            )
        if not said:
            on_wait(f"waiting for {other.who} (process {other.pid}), who migrates there{doing}")
            said = True
        clock.sleep(WAIT_STEP_S)
        stop.raise_if_asked()


def _run_info(target: TargetInfo, clock: Clock) -> RunInfo:
    source = NoSource("bulkup migrate", "held while migrations are applied")
    return RunInfo.new(LOCK_ID, source, {}, target, identity=LOCK_ID, clock=clock)

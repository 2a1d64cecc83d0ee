"""One `bulkup migrate` at a time works on a target, whatever folder it has.

The lock is a run record of its own with nothing but a lease. It keeps migrations from running
side by side, also those of two checkouts that differ. What keeps one migration from being applied
twice is the insert of its own record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from bulkup.clock import Clock
from bulkup.engine.lease import WAIT_STEP_S, Lease, has_died, take, this_process
from bulkup.engine.stop import StopRequest
from bulkup.errors import BulkupError, HeldError, NotFoundError
from bulkup.facts import Counts, RunState, TargetInfo
from bulkup.state.ledger import LEASE_S, Entry, Ledger
from bulkup.state.records import RunRecord
from bulkup.wire.client import Wire
from bulkup.wire.retries import CallError

LOCK_ID = "bulkup-migrate"
"""The id of its run record."""


@contextmanager
def locked(
    wire: Wire,
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
    ledger = Ledger(wire, target)
    entry = _take(ledger, target, wait_s, on_wait, stop, clock)
    lease = Lease(ledger, entry, clock=clock, facts=lambda: {"counts": Counts()})
    try:
        yield lease
    finally:
        # One try: when the server is away, or the lock is another's by now, it runs out.
        wire.patience.retry_for_s = 0.0
        with suppress(CallError, BulkupError):
            lease.give_back(RunState.FINISHED, "", Counts(), fenced_until=0, sweep_at=0)


def _take(
    ledger: Ledger,
    target: TargetInfo,
    wait_s: float,
    on_wait: Callable[[str], None],
    stop: StopRequest,
    clock: Clock,
) -> Entry:
    give_up = clock.monotonic() + wait_s
    said = False
    while True:
        entry = ledger.read(LOCK_ID) or Entry(_record(target, clock), RunState.RUNNING)
        now, other = clock.unix(), entry.holder
        if other is None or not entry.is_held(now) or has_died(other):
            # Somebody may be faster, and at its end by now: look again.
            with suppress(HeldError, NotFoundError):
                return take(ledger, entry, this_process(), clock=clock, stop=stop)
            continue
        doing = f" ({entry.reason})" if entry.reason else ""
        if clock.monotonic() >= give_up:
            heard = LEASE_S - (entry.lease_until - now)
            raise HeldError(
                f"{other.who} (process {other.pid}) applies migrations there{doing}, last heard "
                f"of {max(heard, 0):.0f} s ago; wait for it with --wait 10m, or, when it is dead "
                f"for certain: bulkup unlock {LOCK_ID}"
            )
        if not said:
            on_wait(f"waiting for {other.who} (process {other.pid}), who migrates there{doing}")
            said = True
        clock.sleep(WAIT_STEP_S)
        stop.raise_if_asked()


def _record(target: TargetInfo, clock: Clock) -> RunRecord:
    return RunRecord(
        run_id=LOCK_ID,
        updater="bulkup migrate",
        description="held while migrations are applied",
        spec="",
        source_path="",
        checksum="",
        params={},
        target=target,
        fingerprint="",
        identity=LOCK_ID,
        created=clock.now().isoformat(),
    )

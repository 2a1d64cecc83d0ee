"""The lock that lets one `bulkup migrate` at a time work on a target, whatever its folder.

The lock is a run record that consists of nothing but a lease. It keeps migrations from running side
by side, also from different checkouts. It does not prevent a migration from being applied twice:
the insert of the migration's own record does that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from bulkup.core.errors import BulkupError, HeldError, NotFoundError
from bulkup.core.events import Warned, WarningKind
from bulkup.core.model import Counts, RunState, TargetInfo
from bulkup.core.records import NoSource, RunInfo
from bulkup.datastore.call_error import CallError
from bulkup.datastore.rpc import Rpc
from bulkup.runs.context import RunContext
from bulkup.state.holder import has_died, this_process
from bulkup.state.lease import Lease
from bulkup.state.record import RunRecord
from bulkup.state.run_records import Ledger
from bulkup.state.taking import WAIT_STEP_S, take

LOCK_ID = "bulkup-migrate"
"""The id of the lock's run record."""


@contextmanager
def migrate_lock(rpc: Rpc, target: TargetInfo, context: RunContext) -> Iterator[Lease]:
    """Hold the lock. The block must `tick` the lease about every second.

    Raises HeldError, StopAskedError, CallError.
    """
    ledger = Ledger(rpc, target)
    record = _take(ledger, target, context)
    lease = Lease(ledger, record, clock=context.clock, refresh=lambda record: record)
    try:
        yield lease
    finally:
        # Try once. If the server is unavailable, the lease expires by itself. If another process
        # has taken the lock, it is no longer ours to release.
        rpc.try_once()
        with suppress(CallError, BulkupError):
            lease.give_back(RunState.FINISHED, None, Counts(), fenced_until=0)


def _take(ledger: Ledger, target: TargetInfo, context: RunContext) -> RunRecord:
    clock, stop = context.clock, context.stop
    deadline = clock.monotonic() + context.wait_s
    warned = False
    while True:
        record = ledger.read(LOCK_ID) or RunRecord(_lock_info(target, context), RunState.RUNNING)
        now, holder = clock.unix(), record.lease.holder
        if holder is None or not record.lease.is_held(now) or has_died(holder):
            # Another process may be faster, and may even have ended by now: read again.
            with suppress(HeldError, NotFoundError):
                return take(ledger, record, this_process(), clock=clock, stop=stop)
            continue
        action = f" ({record.reason})" if record.reason else ""
        if clock.monotonic() >= deadline:
            last_seen = max(record.lease.heard_ago_s(now), 0)
            raise HeldError(
                f"{holder.who} (process {holder.pid}) is applying migrations on this target"
                f"{action}, last seen {last_seen:.0f} s ago; wait for it with --wait 10m, or, if "
                f"you are certain that it is dead: bulkup unlock {LOCK_ID}"
            )
        if not warned:
            context.listener(
                Warned(
                    f"waiting for {holder.who} (process {holder.pid}), which is applying "
                    f"migrations on this target{action}",
                    WarningKind.WAITING,
                )
            )
            warned = True
        clock.sleep(WAIT_STEP_S)
        stop.raise_if_asked()


def _lock_info(target: TargetInfo, context: RunContext) -> RunInfo:
    source = NoSource("bulkup migrate", "held while migrations are applied")
    return RunInfo.new(LOCK_ID, source, {}, target, identity=LOCK_ID, created=context.clock.now())

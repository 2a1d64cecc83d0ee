"""What people set by hand in the ledger; each is recorded with who did it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from bulkup.core.clock import Clock
from bulkup.core.errors import HeldError, NotFoundError
from bulkup.core.model import RunState, TargetInfo
from bulkup.core.records import NoSource, Origin, RunInfo
from bulkup.migrations.folder import find
from bulkup.migrations.lock import LOCK_ID
from bulkup.migrations.plan import Plan, Row, Standing, run_id_of
from bulkup.state.holder import has_died, this_process
from bulkup.state.markers import LATE_COPY_S
from bulkup.state.record import Holder, LeaseTerms, MigrationInfo, RunRecord
from bulkup.state.run_records import Ledger, RecordMovedOn


def accept(ledger: Ledger, plan: Plan, names: Sequence[str]) -> list[str]:
    """`--accept-changed`: the code in the folder counts as what was applied.

    Gives the names that this changed something for. Raises NotFoundError, HeldError, CallError.
    """
    done = []
    for row in [plan.row(name) for name in names]:
        if row.standing is Standing.CHANGED:
            assert row.record is not None
            assert row.migration is not None
            marked = f"change accepted by {this_process().who}"
            assert row.record.migration is not None
            accepted = replace(row.record.migration, code=row.migration.code, marked=marked)
            _write(ledger, replace(row.record, migration=accepted))
            done.append(row.name)
    return done


def mark(
    ledger: Ledger,
    row: Row,
    *,
    applied: bool,
    target: TargetInfo,
    origin: Origin,
    clock: Clock,
) -> bool:
    """Let a migration count as applied, or as pending, whatever was done. False: it did already.

    Raises HeldError when a runner is at work on it, CallError.
    """
    context, now = this_process(), int(clock.unix())
    wanted = Standing.APPLIED if applied else Standing.PENDING
    if row.standing is wanted:
        return False
    if row.standing is Standing.RUNNING:
        assert row.record is not None
        holder = row.record.lease.holder
        assert holder is not None
        raise HeldError(
            f"{holder.who} (process {holder.pid}) works on {row.name}; stop "
            "it, or wait until it has ended"
        )
    if row.record is None:
        assert row.migration is not None
        first = _first(row, target, clock)
        record = RunRecord(first, RunState.FINISHED)
        code = row.migration.code
    else:
        record = row.record
        assert record.migration is not None
        code = row.migration.code if row.migration is not None else record.migration.code
        if not record.state.is_over:
            # Markers of its commits stay as long as a late copy of one may arrive.
            layout = replace(record.layout, sweep_at=int(now + LATE_COPY_S) + 1)
            record = replace(record, layout=layout)
    _write(
        ledger,
        replace(
            _without_holder(record, context),
            state=RunState.FINISHED if applied else RunState.ABANDONED,
            reason=None,
            ended=now,
            migration=MigrationInfo(
                row.name, code, f"{wanted.value} by {context.who}", origin=origin
            ),
        ),
        over=True,
    )
    return True


def _first(row: Row, target: TargetInfo, clock: Clock) -> RunInfo:
    """The record of a migration that was applied before there was a ledger."""
    assert row.migration is not None
    path = str(row.migration.path)
    source = NoSource(row.name, spec=path, path=path)
    run_id = run_id_of(row.name, target, row.attempt)
    return RunInfo.new(run_id, source, {}, target, identity=row.name, clock=clock)


def _without_holder(record: RunRecord, context: Holder) -> RunRecord:
    """Nobody works on it. A former runner that lives after all finds another's name there, and
    stops; the next one counts a runner more than it knows, and asks the markers what was done."""
    lease = LeaseTerms(context, until=0, generation=record.lease.generation + 1)
    return replace(record, lease=lease)


def _write(ledger: Ledger, record: RunRecord, *, over: bool = False) -> None:
    try:
        ledger.write(record, over=over)
    except RecordMovedOn:
        name = record.migration.name if record.migration else record.run_info.run_id
        raise HeldError(
            f"somebody else has just changed {name}; look at `bulkup status` and try again"
        ) from None


def find_held(ledger: Ledger, name: str, now: float) -> list[RunRecord]:
    """What `unlock` frees: the run (by id, or by the migration's name) when it is held, and the
    lock of `bulkup migrate` where the same process holds it. Raises NotFoundError, CallError."""
    record = ledger.read(name)
    if record is None and name != LOCK_ID:
        records = sorted(ledger.migrations(), key=_created)
        known = {r.migration.name: r for r in records if r.migration is not None}
        record = known[find(known, name)]
    if record is None or record.lease.holder is None or not record.lease.is_held(now):
        raise NotFoundError(f"nobody holds {name}; there is nothing to unlock")
    held = [record]
    lock = ledger.read(LOCK_ID) if name != LOCK_ID else None
    lock_holder = lock.lease.holder if lock is not None else None
    if lock is not None and lock_holder and _same_process(lock_holder, record.lease.holder):
        held.append(lock)
    return held


def _created(record: RunRecord) -> str:
    return record.run_info.created


def _same_process(one: Holder, other: Holder) -> bool:
    return (one.machine, one.pid, one.began) == (other.machine, other.pid, other.began)


def unlock(ledger: Ledger, held: Sequence[RunRecord], *, sure: Callable[[RunRecord], bool]) -> bool:
    """End the leases of a dead runner, when `sure` says so; False when it does not.

    Raises HeldError when one has moved on meanwhile, which shows that it lives; CallError.
    """
    if not sure(held[0]):
        return False
    context = this_process()
    for record in held:
        was = record.lease.holder
        assert was is not None
        reason = f"unlocked by {context.who}; {was.who} (process {was.pid}) held it"
        _write(ledger, replace(_without_holder(record, context), reason=reason))
    return True


def is_certainly_dead(record: RunRecord) -> bool:
    """It was a process of this machine, and is no more."""
    return record.lease.holder is not None and has_died(record.lease.holder)

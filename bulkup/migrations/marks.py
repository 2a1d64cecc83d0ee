"""What people set by hand in the ledger; each is recorded with who did it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from bulkup.clock import Clock
from bulkup.engine.lease import has_died, this_process
from bulkup.errors import HeldError, NotFoundError
from bulkup.facts import RunState, TargetInfo
from bulkup.migrations.folder import find
from bulkup.migrations.lock import LOCK_ID
from bulkup.migrations.plan import Plan, Row, Standing, run_id_of
from bulkup.state.ledger import Entry, Holder, Ledger, RecordMovedOn
from bulkup.state.markers import LATE_COPY_S
from bulkup.state.records import Origin, RunRecord


def accept(ledger: Ledger, plan: Plan, names: Sequence[str]) -> list[str]:
    """`--accept-changed`: the code in the folder counts as what was applied.

    Gives the names that this changed something for. Raises NotFoundError, HeldError, CallError.
    """
    done = []
    for row in [plan.row(name) for name in names]:
        if row.standing is Standing.CHANGED:
            assert row.entry is not None
            assert row.migration is not None
            marked = f"change accepted by {this_process().who}"
            _write(ledger, replace(row.entry, code=row.migration.code, marked=marked))
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
    me, now = this_process(), int(clock.unix())
    wanted = Standing.APPLIED if applied else Standing.PENDING
    if row.standing is wanted:
        return False
    if row.standing is Standing.RUNNING:
        assert row.entry is not None
        assert row.entry.holder is not None
        raise HeldError(
            f"{row.entry.holder.who} (process {row.entry.holder.pid}) works on {row.name}; stop "
            "it, or wait until it has ended"
        )
    if row.entry is None:
        assert row.migration is not None
        first = _first(row, target, clock)
        entry = Entry(first, RunState.FINISHED, migration=row.name, code=row.migration.code)
    else:
        entry = row.entry
        if row.migration is not None:
            entry = replace(entry, code=row.migration.code)
        if not entry.state.is_over:
            # Markers of its commits stay as long as a late copy of one may arrive.
            entry = replace(entry, sweep_at=int(now + LATE_COPY_S) + 1)
    _write(
        ledger,
        replace(
            _without_holder(entry, me),
            state=RunState.FINISHED if applied else RunState.ABANDONED,
            reason="",
            marked=f"{wanted.value} by {me.who}",
            origin=origin,
            ended=now,
        ),
        over=True,
    )
    return True


def _first(row: Row, target: TargetInfo, clock: Clock) -> RunRecord:
    """The record of a migration that was applied before there was a ledger."""
    assert row.migration is not None
    return RunRecord(
        run_id=run_id_of(row.name, target, row.attempt),
        updater=row.name,
        description="",
        spec=str(row.migration.path),
        source_path=str(row.migration.path),
        checksum="",
        params={},
        target=target,
        fingerprint="",
        identity=row.name,
        created=clock.now().isoformat(),
    )


def _without_holder(entry: Entry, me: Holder) -> Entry:
    """Nobody works on it. A former runner that lives after all finds another's name there, and
    stops; the next one counts a runner more than it knows, and asks the markers what was done."""
    return replace(entry, holder=me, generation=entry.generation + 1, lease_until=0)


def _write(ledger: Ledger, entry: Entry, *, over: bool = False) -> None:
    try:
        ledger.write(entry, over=over)
    except RecordMovedOn:
        raise HeldError(
            f"somebody else has just changed {entry.migration or entry.record.run_id}; look at "
            "`bulkup status` and try again"
        ) from None


def find_held(ledger: Ledger, name: str, now: float) -> list[Entry]:
    """What `unlock` frees: the run (by id, or by the migration's name) when it is held, and the
    lock of `bulkup migrate` where the same process holds it. Raises NotFoundError, CallError."""
    entry = ledger.read(name)
    if entry is None and name != LOCK_ID:
        known = {e.migration: e for e in sorted(ledger.migrations(), key=_created)}
        entry = known[find(known, name)]
    if entry is None or entry.holder is None or not entry.is_held(now):
        raise NotFoundError(f"nobody holds {name}; there is nothing to unlock")
    held = [entry]
    lock = ledger.read(LOCK_ID) if name != LOCK_ID else None
    if lock is not None and lock.holder is not None and _same_process(lock.holder, entry.holder):
        held.append(lock)
    return held


def _created(entry: Entry) -> str:
    return entry.record.created


def _same_process(one: Holder, other: Holder) -> bool:
    return (one.machine, one.pid, one.began) == (other.machine, other.pid, other.began)


def unlock(ledger: Ledger, held: Sequence[Entry], *, sure: Callable[[Entry], bool]) -> bool:
    """End the leases of a dead runner, when `sure` says so; False when it does not.

    Raises HeldError when one has moved on meanwhile, which shows that it lives; CallError.
    """
    if not sure(held[0]):
        return False
    me = this_process()
    for entry in held:
        was = entry.holder
        assert was is not None
        reason = f"unlocked by {me.who}; {was.who} (process {was.pid}) held it"
        _write(ledger, replace(_without_holder(entry, me), reason=reason))
    return True


def is_certainly_dead(entry: Entry) -> bool:
    """It was a process of this machine, and is no more."""
    return entry.holder is not None and has_died(entry.holder)

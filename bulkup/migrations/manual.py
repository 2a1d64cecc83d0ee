"""Changes that people make to the ledger by hand. Each records who made it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from bulkup.authoring.source_files import printable, suggest
from bulkup.core.clock import Clock
from bulkup.core.errors import HeldError, NotFoundError, UsageError
from bulkup.core.model import RunState, TargetInfo
from bulkup.core.records import NoSource, Origin, RunInfo
from bulkup.migrations.folder import find_name
from bulkup.migrations.lock import LOCK_ID
from bulkup.migrations.status import (
    FolderStatus,
    MigrationEntry,
    MigrationStatus,
    mark_command,
    moved,
    run_id_of,
)
from bulkup.state.holder import has_died, this_process
from bulkup.state.record import Holder, LeaseTerms, MigrationInfo, RunRecord
from bulkup.state.run_records import Ledger, RecordMovedOn
from bulkup.state.sweeping import after_late_copies


def accept_changed(ledger: Ledger, status: FolderStatus, names: Sequence[str]) -> None:
    """`--accept-changed`: record the code in the folder as the code that was applied.

    Names of migrations that have not changed are ignored. Raises NotFoundError, HeldError,
    CallError.
    """
    for entry in [status.entry(name) for name in names]:
        if entry.status is MigrationStatus.CHANGED:
            assert entry.record is not None
            assert entry.record.migration is not None
            assert entry.file is not None
            marked = _marked(entry.record, f"change accepted by {this_process().who}")
            migration = replace(entry.record.migration, code=entry.file.code, marked=marked)
            _write(ledger, replace(entry.record, migration=migration))


def mark(
    ledger: Ledger,
    status: FolderStatus,
    entry: MigrationEntry,
    *,
    applied: bool,
    origin: Origin,
    clock: Clock,
) -> bool:
    """Mark a migration as applied or pending. Returns False if it already is.

    Raises HeldError while a process executes it, CallError.
    """
    wanted = MigrationStatus.APPLIED if applied else MigrationStatus.PENDING
    if entry.status is wanted:
        return False
    if entry.status is MigrationStatus.RENAMED:
        raise UsageError(moved(status, entry))
    if entry.status is MigrationStatus.RUNNING:
        assert entry.record is not None
        runner = entry.record.lease.holder
        assert runner is not None
        raise HeldError(
            f"{runner.who} (process {runner.pid}) is applying {entry.name}; stop it, or wait until "
            "it has ended"
        )
    holder, now = this_process(), int(clock.unix())
    record = _record_to_mark(entry, status.target, clock)
    if not record.state.is_over:
        # The markers of its commits stay as long as a late copy of a commit may arrive.
        layout = after_late_copies(record.layout, ledger.server_time)
        record = replace(record, layout=layout)
    _write(
        ledger,
        replace(
            _released(record, holder),
            state=RunState.FINISHED if applied else RunState.ABANDONED,
            reason=None,
            ended=now,
            migration=MigrationInfo(
                entry.name,
                _code_of(entry),
                f"{wanted.value} by {holder.who}",
                origin,
                record.migration.former if record.migration is not None else (),
            ),
        ),
        over=True,
    )
    return True


def rename(ledger: Ledger, status: FolderStatus, entry: MigrationEntry, new_name: str) -> str:
    """Give a migration whose file was renamed its new name in the ledger; return that name.

    All its records get it, in one commit. Their ids stay, so an unfinished migration keeps its
    markers and its checkpoint, and is resumed. Raises NotFoundError, UsageError, HeldError,
    CallError.
    """
    if entry.status is MigrationStatus.RUNNING:
        raise HeldError(f"a process is applying {entry.name}; wait until it has ended")
    if entry.status is not MigrationStatus.MISSING:
        raise UsageError(
            f"{entry.name} is {entry.status.value}, and its file is in the folder; rename the file "
            "first, and then the migration"
        )
    new = status.entry(new_name)
    was_this_one = new.status is MigrationStatus.RENAMED and new.record == entry.record
    if new.name in status.records or not (was_this_one or new.status is MigrationStatus.PENDING):
        raise UsageError(
            f"the ledger already has a migration {new.name} ({new.status.value}); to forget "
            f"{entry.name} instead: {mark_command(status, entry.name, '--pending')}"
        )
    renamed = []
    for record in status.records[entry.name]:
        assert record.migration is not None
        former = (*record.migration.former, entry.name)
        marked = _marked(record, f"renamed from {entry.name} by {this_process().who}")
        migration = replace(record.migration, name=new.name, former=former, marked=marked)
        renamed.append(replace(record, migration=migration))
    try:
        ledger.write_together(renamed)
    except RecordMovedOn:
        raise _just_changed(entry.name) from None
    return new.name


_STATE_MARKS = ("applied by ", "pending by ")


def _marked(record: RunRecord, mark: str) -> str:
    """The new mark, followed by the last one that explains the record's state, if there is one."""
    earlier = record.migration.marked if record.migration is not None else None
    last = (earlier or "").split("; ")[-1]
    return f"{mark}; {last}" if last.startswith(_STATE_MARKS) else mark


def _record_to_mark(entry: MigrationEntry, target: TargetInfo, clock: Clock) -> RunRecord:
    if entry.record is not None:
        return entry.record
    # The migration was applied before there was a ledger.
    assert entry.file is not None
    path = str(entry.file.path)
    source = NoSource(entry.name, spec=path, path=path)
    run_id = run_id_of(entry.name, target, entry.attempt)
    run_info = RunInfo.new(run_id, source, {}, target, identity=entry.name, created=clock.now())
    return RunRecord(run_info, RunState.FINISHED)


def _code_of(entry: MigrationEntry) -> str:
    if entry.file is not None:
        return entry.file.code
    assert entry.record is not None
    assert entry.record.migration is not None
    return entry.record.migration.code


def _released(record: RunRecord, holder: Holder) -> RunRecord:
    """The record without a lease, with `holder` as its last holder.

    If the former process is still alive after all, it finds another holder in the record and stops.
    The next process finds a generation that its checkpoint does not know, so it reads from the
    markers what is done.
    """
    lease = LeaseTerms(holder, until=0, generation=record.lease.generation + 1)
    return replace(record, lease=lease)


def _write(ledger: Ledger, record: RunRecord, *, over: bool = False) -> None:
    try:
        ledger.write(record, over=over)
    except RecordMovedOn:
        name = record.migration.name if record.migration else record.run_info.run_id
        raise _just_changed(name) from None


def _just_changed(name: str) -> HeldError:
    return HeldError(
        f"another process has just changed {name}; look at `bulkup status` and try again"
    )


def find_held(ledger: Ledger, name: str, there: Iterable[str] = ()) -> list[RunRecord]:
    """The records that `unlock` releases: the run with this id or migration name, and the migrate
    lock if the same process holds it. `there`: names of migrations in the folder, which need not
    have started.

    Raises NotFoundError, UsageError, CallError.
    """
    record = ledger.read(name)
    if record is None and name != LOCK_ID:
        records = sorted(ledger.migrations(), key=lambda record: record.run_info.created)
        latest = {r.migration.name: r for r in records if r.migration is not None}
        try:
            full_name = find_name({*latest, *there}, name)
        except NotFoundError:
            raise NotFoundError(
                f"there is no run or migration {printable(name)} on this target"
                f"{suggest(name, latest)}; `bulkup list` shows runs, `bulkup status` migrations"
            ) from None
        record = latest.get(full_name)
        if record is None:
            raise NotFoundError(
                f"there is no run or migration {printable(name)} on this target; {full_name} is in "
                "the folder, but was not started here"
            )
    if (
        record is None
        or record.lease.holder is None
        or not record.lease.is_held(ledger.server_time.now())
    ):
        raise NotFoundError(f"no process holds {name}; there is nothing to unlock")
    held = [record]
    lock = ledger.read(LOCK_ID) if name != LOCK_ID else None
    lock_holder = lock.lease.holder if lock is not None else None
    if lock is not None and lock_holder and _same_process(lock_holder, record.lease.holder):
        held.append(lock)
    return held


def _same_process(one: Holder, other: Holder) -> bool:
    return (one.machine, one.pid, one.began) == (other.machine, other.pid, other.began)


def unlock(
    ledger: Ledger, held: Sequence[RunRecord], *, confirm: Callable[[RunRecord], bool]
) -> bool:
    """Release a dead process's lock on a run, if `confirm` returns True. Returns False if nothing
    was done.

    Raises HeldError if the record has changed meanwhile, which shows that the process is alive;
    CallError.
    """
    if not confirm(held[0]):
        return False
    holder = this_process()
    for record in held:
        former = record.lease.holder
        assert former is not None
        reason = f"unlocked by {holder.who}; {former.who} (process {former.pid}) held it"
        _write(ledger, replace(_released(record, holder), reason=reason))
    return True


def holder_has_died(record: RunRecord) -> bool:
    """Whether the holder was a process on this machine that has ended."""
    return record.lease.holder is not None and has_died(record.lease.holder)

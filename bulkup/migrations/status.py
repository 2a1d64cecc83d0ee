"""The folder beside the ledger: the status of each migration on a target, and what to apply."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from bulkup.core.errors import MismatchError, NotFoundError, StateError, UsageError
from bulkup.core.model import RunState, TargetInfo
from bulkup.migrations.folder import MigrationFile, find_name
from bulkup.state.holder import has_died
from bulkup.state.record import RunRecord


class MigrationStatus(str, Enum):
    """The status of a migration on a target."""

    APPLIED = "applied"
    PENDING = "pending"
    RUNNING = "running"
    """A process holds it."""
    INTERRUPTED = "interrupted"
    """It was started, and its process was stopped or killed. It resumes where it was."""
    FAILED = "failed"
    """It was started, and an error or too many failures ended it. It resumes where it was."""
    CHANGED = "changed"
    """It is applied, but the code in the folder is not the code that was applied."""
    MISSING = "missing"
    """The ledger has it, the folder does not."""

    def __str__(self) -> str:
        return self.value  # the same on every Python version


_TO_APPLY = (
    MigrationStatus.PENDING,
    MigrationStatus.RUNNING,
    MigrationStatus.INTERRUPTED,
    MigrationStatus.FAILED,
)


@dataclass(frozen=True)
class MigrationEntry:
    """One migration, as the folder and the ledger have it."""

    name: str
    status: MigrationStatus
    attempt: int
    """1, and one more each time it was marked pending after it had started."""
    file: MigrationFile | None = None
    """None: it is missing."""
    record: RunRecord | None = None
    """None: it was not started, or was marked pending since."""

    @property
    def needs_applying(self) -> bool:
        return self.status in _TO_APPLY

    @property
    def is_stuck(self) -> bool:
        """Started and unfinished, but the file that would finish it is missing."""
        missing = self.status is MigrationStatus.MISSING
        return missing and self.record is not None and not self.record.state.is_over


def base_id(name: str, target: TargetInfo) -> str:
    """The run id of a migration's first attempt.

    Every process makes the same one, so the insert of the run record lets only one of them start
    the migration. It contains the target because a state directory has the runs of several targets
    side by side.
    """
    where = repr((target.project, target.database, target.namespace))
    return f"{name}-{hashlib.sha256(where.encode()).hexdigest()[:6]}"


def run_id_of(name: str, target: TargetInfo, attempt: int) -> str:
    base = base_id(name, target)
    return base if attempt == 1 else f"{base}.{attempt}"


class _Position(NamedTuple):
    attempt: int
    link: int
    """0: the migration's own run; 1, 2, ...: its successors."""


class _Latest(NamedTuple):
    position: _Position
    record: RunRecord


_SUFFIX = re.compile(r"(?:\.([1-9][0-9]*))?(?:\+([1-9][0-9]*))?")


def _position(run_id: str, base: str) -> _Position:
    """Raises StateError for a record that no version of bulkup has written."""
    # Only the length of the base counts: the database may be a copy of another project's.
    found = _SUFFIX.fullmatch(run_id[len(base) :])
    if found is None:
        raise StateError(
            f"the run record {run_id} says that it applied a migration, but its id is not that of "
            "one; bulkup has not written it, so delete it"
        )
    return _Position(int(found[1] or 1), int(found[2] or 0))


class FolderStatus:
    """All migrations of a folder and of a target's ledger, in the order of the folder."""

    def __init__(
        self,
        folder: Sequence[MigrationFile],
        records: Iterable[RunRecord],
        target: TargetInfo,
        now: float,
    ) -> None:
        # The last successor has the status of a migration with a chain.
        latest: dict[str, _Latest] = {}
        for record in records:
            assert record.migration is not None  # `Ledger.migrations` returns only these
            name = record.migration.name
            position = _position(record.run_info.run_id, base_id(name, target))
            known = latest.get(name)
            if known is None or position > known.position:
                latest[name] = _Latest(position, record)
        entries = [_entry(file.name, file, latest.pop(file.name, None), now) for file in folder]
        missing = (_entry(name, None, latest[name], now) for name in sorted(latest))
        entries += [entry for entry in missing if entry.status is not MigrationStatus.PENDING]
        self.entries = tuple(entries)

    def entry(self, name: str) -> MigrationEntry:
        """The entry with this name or unambiguous prefix. Raises NotFoundError, UsageError."""
        full_name = find_name([entry.name for entry in self.entries], name)
        return next(entry for entry in self.entries if entry.name == full_name)

    @property
    def all_applied(self) -> bool:
        """Everything is applied, with the code that is in the folder."""
        return all(entry.status is MigrationStatus.APPLIED for entry in self.entries)

    def check_consistent(self) -> None:
        """Raises MismatchError when the ledger contradicts the folder."""
        for entry in self.entries:
            if entry.status is MigrationStatus.CHANGED:
                raise MismatchError(
                    f"{entry.name} was changed after it was applied; restore it, accept the change "
                    f"if its effect is the same (--accept-changed {entry.name}), or apply it again "
                    f"(bulkup mark {entry.name} --pending)"
                )
            if entry.is_stuck:
                raise MismatchError(
                    f"{entry.name} was started but not finished, and its file is missing; restore "
                    f"the file, or mark the migration: bulkup mark {entry.name} --applied or "
                    "--pending"
                )

    def to_apply(self, up_to: str | None = None, only: str | None = None) -> list[MigrationEntry]:
        """The migrations to apply, in order. Raises NotFoundError, UsageError."""
        entries = [entry for entry in self.entries if entry.file is not None]
        if up_to is not None:
            entries = entries[: entries.index(self._entry_with_file(up_to)) + 1]
        if only is not None:
            entry = self._entry_with_file(only)
            self._check_predecessors(entry)
            entries = [entry]
        return [entry for entry in entries if entry.needs_applying]

    def _entry_with_file(self, name: str) -> MigrationEntry:
        entry = self.entry(name)
        if entry.file is None:
            raise NotFoundError(f"the file of {entry.name} is missing; restore it")
        return entry

    def _check_predecessors(self, entry: MigrationEntry) -> None:
        assert entry.file is not None
        for name in entry.file.after:
            predecessor = self.entry(name)
            if predecessor.status is not MigrationStatus.APPLIED:
                raise UsageError(
                    f"{entry.name} comes after {name}, which is {predecessor.status.value}; apply "
                    f"that first: bulkup migrate --only {name}"
                )


def _entry(
    name: str, file: MigrationFile | None, latest: _Latest | None, now: float
) -> MigrationEntry:
    if latest is None:
        return MigrationEntry(name, MigrationStatus.PENDING, 1, file)
    attempt, record = latest.position.attempt, latest.record
    if record.state is RunState.ABANDONED:
        return MigrationEntry(name, MigrationStatus.PENDING, attempt + 1, file)
    return MigrationEntry(name, _status(file, record, now), attempt, file, record)


def _status(file: MigrationFile | None, record: RunRecord, now: float) -> MigrationStatus:
    holder = record.lease.holder
    if holder and record.lease.is_held(now) and not has_died(holder):
        return MigrationStatus.RUNNING
    if file is None:
        return MigrationStatus.MISSING
    if record.state is RunState.FINISHED:
        same_code = record.migration is not None and record.migration.code == file.code
        return MigrationStatus.APPLIED if same_code else MigrationStatus.CHANGED
    if record.state is RunState.FAILED:
        return MigrationStatus.FAILED
    return MigrationStatus.INTERRUPTED

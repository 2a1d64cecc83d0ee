"""Compares folder and ledger: the status of each migration on a target, and what to apply."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from bulkup.authoring.source_files import listed, printable
from bulkup.core.errors import (
    MismatchError,
    NotFoundError,
    PendingError,
    StateError,
    UsageError,
)
from bulkup.core.model import RunState, TargetInfo
from bulkup.migrations.folder import MigrationFile, MigrationFolder, find_name
from bulkup.state.holder import has_died
from bulkup.state.record import RunRecord


class MigrationStatus(str, Enum):
    """The status of a migration on a target."""

    APPLIED = "applied"
    PENDING = "pending"
    RUNNING = "running"
    """A process holds it."""
    INTERRUPTED = "interrupted"
    """It was started, and its process was stopped or killed. It resumes where it stopped."""
    FAILED = "failed"
    """It was started, and an error or too many failures ended it. It resumes where it stopped."""
    CHANGED = "changed"
    """It is applied, but the code in the folder is not the code that was applied."""
    MISSING = "missing"
    """The ledger has it, the folder does not."""
    RENAMED = "renamed"
    """The folder has it under an old name. The ledger has it under the name it was given later."""

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
    """One migration, with what the folder and the ledger know about it."""

    name: str
    status: MigrationStatus
    attempt: int
    """1, and one more each time it was marked pending after it had started."""
    file: MigrationFile | None = None
    """None: it is missing."""
    record: RunRecord | None = None
    """None: it was not started, or has been marked pending since. For a renamed migration, this is
    the record under its later name."""
    same_code: tuple[str, ...] = ()
    """For a missing migration: the files that have its code under another name."""

    @property
    def needs_applying(self) -> bool:
        return self.status in _TO_APPLY

    @property
    def is_gone(self) -> bool:
        """Applied, but its file is missing."""
        missing = self.status is MigrationStatus.MISSING
        return missing and self.record is not None and self.record.state.is_over

    @property
    def is_stuck(self) -> bool:
        """Started and unfinished, but the file that would finish it is missing."""
        missing = self.status is MigrationStatus.MISSING
        return missing and self.record is not None and not self.record.state.is_over


def base_id(name: str, target: TargetInfo) -> str:
    """The run id of a migration's first attempt.

    Every process computes the same id, so the insert of the run record lets only one of them start
    the migration. It contains the target because a state directory may hold runs of several
    targets.
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
    """The position that a run id stands for. Raises StateError for an id that no version of bulkup
    has written."""
    # Skip the base by its length only: in a copy of another project's database, its hash is that
    # of the other project.
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
        folder: MigrationFolder,
        records: Iterable[RunRecord],
        target: TargetInfo,
        now: float,
    ) -> None:
        self.target = target
        self.records: dict[str, list[RunRecord]] = {}
        """All records of each migration, by its name: those of each attempt, and of each link of
        its chain."""
        # A migration with a chain has the status of its last successor.
        latest: dict[str, _Latest] = {}
        for record in records:
            assert record.migration is not None  # `Ledger.migrations` returns only these
            name = record.migration.name
            self.records.setdefault(name, []).append(record)
            position = _position(
                record.run_info.run_id, base_id(record.migration.first_name, target)
            )
            known = latest.get(name)
            if known is None or position > known.position:
                latest[name] = _Latest(position, record)
        self.folder = folder = folder.with_known(latest)
        later_names = _later_names(latest)
        entries = [
            _renamed(file, latest[later_names[file.name]].record)
            if file.name in later_names
            else _entry(file.name, file, latest.get(file.name), now)
            for file in folder
        ]
        names = {file.name for file in folder}
        pending = [e for e in entries if e.file and (e.status in _UNKNOWN_CODE)]
        missing = (_entry(name, None, latest[name], now) for name in sorted(set(latest) - names))
        entries += [
            replace(entry, same_code=self._with_code_of(entry, pending))
            for entry in missing
            if entry.status is not MigrationStatus.PENDING
        ]
        self.entries = tuple(entries)

    def _with_code_of(
        self, missing: MigrationEntry, pending: Iterable[MigrationEntry]
    ) -> tuple[str, ...]:
        assert missing.record is not None
        assert missing.record.migration is not None
        code = missing.record.migration.code
        found = [e.name for e in pending if e.file is not None and e.file.code == code]
        return tuple(found or self.folder.others_with_code(code))

    def entry(self, name: str) -> MigrationEntry:
        """The entry with this name or unambiguous prefix. Raises NotFoundError, UsageError."""
        full_name = find_name([entry.name for entry in self.entries], name)
        return next(entry for entry in self.entries if entry.name == full_name)

    @property
    def all_applied(self) -> bool:
        """Whether every migration is applied, with the code that is in the folder."""
        return not self.holds_unnumbered_only and all(
            entry.status is MigrationStatus.APPLIED for entry in self.entries
        )

    @property
    def holds_unnumbered_only(self) -> bool:
        """Whether no file name begins with digits, although some files seem to define updaters."""
        return not self.folder.has_numbered and bool(self.folder.updaters_without_number)

    def check_consistent(self, accepted: Iterable[str] = ()) -> None:
        """Check that the ledger does not contradict the folder. `accepted`: names of migrations
        that may have changed.

        Raises MismatchError, PendingError, UsageError if it does.
        """
        may_change = {self.entry(name).name for name in accepted}
        if self.holds_unnumbered_only:
            raise UsageError(unnumbered(self.folder))
        gone = [entry for entry in self.entries if entry.is_gone]
        if gone:
            sentences = [moved(self, entry) for entry in gone]
            steps = [rename_command(self, entry) for entry in gone if entry.same_code]
            raise PendingError(
                sentences[0], details="\n".join(sentences[1:]), next_steps=[s for s in steps if s]
            )
        for entry in self.entries:
            if entry.status is MigrationStatus.RENAMED:
                raise PendingError(moved(self, entry))
            if entry.status is MigrationStatus.CHANGED and entry.name not in may_change:
                raise MismatchError(
                    f"{entry.name} was changed after it was applied; restore it, accept the change "
                    f"if its effect is the same (bulkup migrate --accept-changed {entry.name}), or "
                    f"apply it again (bulkup mark {entry.name} --pending)"
                )
            if entry.is_stuck:
                raise MismatchError(
                    f"{entry.name} was started but not finished, and its file is missing"
                    f"{renamed_to(self, entry)}; restore the file, or mark the migration as "
                    f"applied (bulkup mark {entry.name} --applied) or as pending "
                    f"(bulkup mark {entry.name} --pending)"
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


_UNKNOWN_CODE = (MigrationStatus.PENDING, MigrationStatus.RENAMED)


def _later_names(latest: Mapping[str, _Latest]) -> dict[str, str]:
    """The name that a migration has in the ledger, by each of its former names."""
    found: dict[str, str] = {}
    for name, (_, record) in latest.items():
        assert record.migration is not None
        found |= {former: name for former in record.migration.former if former not in latest}
    return found


def _renamed(file: MigrationFile, record: RunRecord) -> MigrationEntry:
    return MigrationEntry(file.name, MigrationStatus.RENAMED, 1, file, record)


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


# --- what to do when folder and ledger disagree ---


def unnumbered(folder: MigrationFolder) -> str:
    """The message about updaters that are not migrations, because their names do not begin with
    digits."""
    names = folder.updaters_without_number
    example = printable(names[0])
    one = len(names) == 1
    return (
        f"{printable(str(folder.path))} holds {'an updater' if one else f'{len(names)} updaters'} "
        f"whose name{' does' if one else 's do'} not begin with a number, so "
        f"{'it is not a migration' if one else 'they are not migrations'} ({listed(names)}); "
        f"rename {example}.py to {folder.next_number}_{example}.py to make it one, or "
        f"_{example}.py if it is none"
    )


def moved(status: FolderStatus, entry: MigrationEntry) -> str:
    """The message about a migration whose file is missing, or whose former file is back."""
    if entry.status is MigrationStatus.RENAMED:
        assert entry.record is not None
        assert entry.record.migration is not None
        return (
            f"{entry.name} was renamed to {entry.record.migration.name} in the ledger, and its "
            "file is here again; delete it, or give it a new name to apply it again"
        )
    return (
        f"{entry.name} is applied, but its file is missing{renamed_to(status, entry)}; restore the "
        f"file, or forget the migration if you deleted it on purpose: "
        f"{mark_command(status, entry.name, '--pending')}"
    )


def renamed_to(status: FolderStatus, entry: MigrationEntry) -> str:
    """What to type when the file of a missing migration was renamed."""
    if not entry.same_code:
        command = mark_command(status, entry.name, "--renamed-to", "NAME")
        return f"; if it was renamed: {command}"
    name, command = entry.same_code[0], rename_command(status, entry)
    if not command:
        return f", and {printable(name)}.py has its code; if it was renamed, give it a number again"
    return f", and {name} has its code; if it was renamed: {command}"


def rename_command(status: FolderStatus, entry: MigrationEntry) -> str:
    """The command that renames a missing migration to the file with its code; empty if that file
    has no number."""
    name = entry.same_code[0]
    has_number = name[0] in "0123456789"
    return mark_command(status, entry.name, "--renamed-to", name) if has_number else ""


def mark_command(status: FolderStatus, *words: str) -> str:
    target, folder = status.target, status.folder.path
    options = {
        "--in": "" if folder == Path("updaters") else str(folder),
        "--local": target.local,
        "--database": target.database,
        "--namespace": target.namespace,
    }
    typed = [word for option, value in options.items() if value for word in (option, value)]
    return printable(shlex.join(["bulkup", "mark", *words, *typed]))

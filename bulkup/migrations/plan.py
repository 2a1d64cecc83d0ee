"""Files and ledger side by side: where each migration stands, and what is to be done."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from bulkup.core.errors import MismatchError, NotFoundError, UsageError
from bulkup.core.model import RunState, TargetInfo
from bulkup.migrations.folder import Migration, find
from bulkup.state.holder import has_died
from bulkup.state.record import RunRecord


class Standing(str, Enum):
    """Where a migration stands on a target."""

    APPLIED = "applied"
    PENDING = "pending"
    RUNNING = "running"
    """A runner holds it."""
    INTERRUPTED = "interrupted"
    """Begun; its runner was stopped or killed. It goes on where it was."""
    FAILED = "failed"
    """Begun, and an error or too many failures ended it. It goes on where it was."""
    CHANGED = "changed"
    """Its code is not the code that was applied."""
    MISSING = "missing"
    """The ledger knows it, and its file is not there."""

    def __str__(self) -> str:
        return self.value  # on every Python the same


_TO_DO = (Standing.PENDING, Standing.RUNNING, Standing.INTERRUPTED, Standing.FAILED)


@dataclass(frozen=True)
class Row:
    name: str
    standing: Standing
    attempt: int
    """1, and one more each time it was marked pending after it had begun."""
    migration: Migration | None = None
    """Its file, when it is there."""
    record: RunRecord | None = None
    """Its record, when it has begun and was not marked pending since."""

    @property
    def is_to_do(self) -> bool:
        return self.standing in _TO_DO

    @property
    def half_done(self) -> bool:
        """Begun, not finished, and nothing here can finish it."""
        missing = self.standing is Standing.MISSING
        return missing and self.record is not None and not self.record.state.is_over


def base_id(name: str, target: TargetInfo) -> str:
    """The run id of a migration's first attempt: the same for every runner, so that the insert
    of its record excludes. It has the target in it for the state directory's sake, where the
    runs of several targets lie side by side."""
    where = repr((target.project, target.database, target.namespace))
    return f"{name}-{hashlib.sha256(where.encode()).hexdigest()[:6]}"


def run_id_of(name: str, target: TargetInfo, attempt: int) -> str:
    base = base_id(name, target)
    return base if attempt == 1 else f"{base}.{attempt}"


def _place_of(record: RunRecord, base: str) -> tuple[int, int]:
    """Which attempt a record is of, and which link of its chain."""
    attempt, _, link = record.run_info.run_id[len(base) :].removeprefix(".").partition("+")
    return int(attempt or 1), int(link or 0)


class Plan:
    """All migrations of a folder and of a target, in the order of the folder."""

    def __init__(
        self,
        folder: Sequence[Migration],
        entries: Iterable[RunRecord],
        target: TargetInfo,
        now: float,
    ) -> None:
        # Of a migration with successors the last one says where it stands.
        latest: dict[str, tuple[tuple[int, int], RunRecord]] = {}
        for record in entries:
            assert record.migration is not None  # `Ledger.migrations` asks for these alone
            name = record.migration.name
            place = _place_of(record, base_id(name, target))
            if place > latest.get(name, ((0, 0), record))[0]:
                latest[name] = place, record
        rows = [_row(m.name, m, latest.pop(m.name, None), now) for m in folder]
        gone = (_row(name, None, latest[name], now) for name in sorted(latest))
        self.rows = (*rows, *(row for row in gone if row.standing is not Standing.PENDING))

    @property
    def names(self) -> list[str]:
        return [row.name for row in self.rows]

    def row(self, given: str) -> Row:
        """The row that a name, or the beginning of one, means. Raises NotFoundError, UsageError."""
        name = find(self.names, given)
        return next(row for row in self.rows if row.name == name)

    @property
    def is_done(self) -> bool:
        """Everything is applied, and as it is in the folder."""
        return all(row.standing is Standing.APPLIED for row in self.rows)

    def check(self) -> None:
        """Refuse to go on where what was done does not fit the folder. Raises MismatchError."""
        for row in self.rows:
            if row.standing is Standing.CHANGED:
                raise MismatchError(
                    f"{row.name} was changed after it was applied; restore it, or, when its "
                    f"effect is the same, accept it with --accept-changed {row.name} (to apply "
                    f"it again: bulkup mark {row.name} --pending)"
                )
            if row.half_done:
                raise MismatchError(
                    f"{row.name} was begun and not finished, and its file is not there; restore "
                    f"it, or say what shall count: bulkup mark {row.name} --applied or --pending"
                )

    def to_do(self, to: str | None = None, only: str | None = None) -> list[Row]:
        """What is to be applied, in order. Raises NotFoundError, UsageError, MismatchError."""
        rows = [row for row in self.rows if row.migration is not None]
        if to is not None:
            rows = rows[: rows.index(self._there(to)) + 1]
        if only is not None:
            row = self._there(only)
            self._ready(row)
            rows = [row]
        return [row for row in rows if row.is_to_do]

    def _there(self, given: str) -> Row:
        row = self.row(given)
        if row.migration is None:
            raise NotFoundError(f"the file of {row.name} is not there; restore it")
        return row

    def _ready(self, row: Row) -> None:
        assert row.migration is not None
        for name in row.migration.after:
            before = self.row(name)
            if before.standing is not Standing.APPLIED:
                raise UsageError(
                    f"{row.name} comes after {name}, which is {before.standing.value}; "
                    f"apply that first: bulkup migrate --only {name}"
                )


def _row(
    name: str,
    migration: Migration | None,
    found: tuple[tuple[int, int], RunRecord] | None,
    now: float,
) -> Row:
    if found is None:
        return Row(name, Standing.PENDING, 1, migration)
    (attempt, _), record = found
    if record.state is RunState.ABANDONED:
        return Row(name, Standing.PENDING, attempt + 1, migration)
    return Row(name, _live_markers(migration, record, now), attempt, migration, record)


def _live_markers(migration: Migration | None, record: RunRecord, now: float) -> Standing:
    holder = record.lease.holder
    if holder and record.lease.is_held(now) and not has_died(holder):
        return Standing.RUNNING
    if migration is None:
        return Standing.MISSING
    if record.state is RunState.FINISHED:
        same = record.migration is not None and record.migration.code == migration.code
        return Standing.APPLIED if same else Standing.CHANGED
    return Standing.FAILED if record.state is RunState.FAILED else Standing.INTERRUPTED

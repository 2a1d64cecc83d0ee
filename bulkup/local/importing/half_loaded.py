"""The file beside FILE that is being filled, and how it becomes FILE.

FILE-loading is a file of the embedded Datastore, except for the mark in its header, which keeps
others from opening it. Each batch is one transaction, which also records the load's progress. So
whenever the process ends, even by a power failure, data and progress agree, and the next load
resumes there. The last transaction replaces the mark, and then the whole file is renamed to FILE,
so FILE never holds an incomplete load.

All entities get the same version, the time when the load began: nobody can have seen some of them
without the others.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from bulkup.core.errors import StateError, UsageError
from bulkup.local.catalog import Catalog
from bulkup.local.encoding import Partition
from bulkup.local.file import (
    half_loaded_path,
    is_whole,
    lock,
    mark_whole,
    open_file,
    open_half_loaded,
)
from bulkup.local.importing.index import insert_entries
from bulkup.local.importing.report import KindCount, LoadReport
from bulkup.local.indexing import Entries
from bulkup.local.keys import may_be_allocated, reserve_id
from bulkup.local.pending import Record
from bulkup.local.rows import Change, Rows
from bulkup.local.sql import stored_rows

_NOTES = "CREATE TABLE import(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"
"""Holds `identity` and `version`. A half-loaded file also has `progress`, and `indexed` once its
index exists; a whole one has `report`."""
_SIDE_FILES = ("", "-wal", "-shm", "-journal")


class New(NamedTuple):
    """An entity to load."""

    partition: Partition
    kind: str
    path: bytes
    key: Any
    body: bytes
    entries: Entries
    irregular: bool
    """Whether a commit would refuse it."""


class Found(Enum):
    """What an earlier attempt left behind."""

    NOTHING = 0
    SAME = 1
    ANOTHER = 2
    """A load of another export, or with other options. It was deleted."""


class HalfLoadedFile:
    """Fills a new file; a context manager. It holds the lock of FILE.

    Raises StateError if FILE is open elsewhere or cannot be opened.
    """

    def __init__(self, path: str | os.PathLike[str], *, clock: Callable[[], int]) -> None:
        self.path = Path(os.path.realpath(path))
        self.beside = half_loaded_path(self.path)
        self._clock = clock
        self._lock_file = lock(self.path)
        self._db: sqlite3.Connection | None = None
        self.progress: dict[str, Any] | None = None
        """As saved with the last batch; None if there is none yet."""
        self.whole: LoadReport | None = None
        """The report of a complete load whose process was killed just before FILE-loading was
        renamed."""
        self.is_finished = False

    def __enter__(self) -> HalfLoadedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        os.ftruncate(self._lock_file, 0)  # the next holder must not be taken for this one
        os.close(self._lock_file)

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    # -- FILE ----------------------------------------------------------------------------------

    def earlier_load(self, identity: str, *, replace: bool) -> LoadReport | None:
        """The report of the load that made FILE as it is now; None if FILE may be created or
        replaced.

        Raises UsageError if FILE holds anything else, unless `replace` is set.
        """
        if not self.path.exists() or self.path.stat().st_size == 0:
            return None
        db = open_file(self.path)
        try:
            holds, version = db.execute(
                "SELECT EXISTS(SELECT 1 FROM entities) OR EXISTS(SELECT 1 FROM log), value "
                "FROM meta WHERE name = 'last_version'"
            ).fetchone()
            notes = _notes(db)
        except sqlite3.Error as error:
            raise StateError(f"{self.path} is damaged ({error}); use another file") from error
        finally:
            db.close()
        same = notes.get("identity") == identity
        if same and notes["version"] == str(version) and "report" in notes:
            return LoadReport.from_json(json.loads(notes["report"]))
        if replace or not holds:
            return None
        what = "holds this export and what was written since" if same else "exists already"
        raise UsageError(
            f"{self.path} {what}; load into a new file, or add --replace to put the export in its "
            "place"
        )

    # -- FILE-loading --------------------------------------------------------------------------

    def begin(self, identity: str) -> Found:
        """Open FILE-loading, and take `progress` from it if it belongs to the same load.

        Raises StateError, and deletes nothing, if it is not certain that a load made FILE-loading.
        """
        found = Found.NOTHING
        if self.beside.exists():
            found = self._open_earlier(identity)
            if found is Found.SAME:
                return found
            self.discard()
        try:
            self._open()
            with self._transaction() as db:
                db.execute(_NOTES)
                self._version = self._clock()
                _note(db, identity=identity, version=str(self._version))
                db.execute(
                    "UPDATE meta SET value = ? WHERE name = 'last_version'", (self._version,)
                )
        except BaseException:
            self.discard()
            raise
        return found

    def _open_earlier(self, identity: str) -> Found:
        try:
            self._open()
            if self._noted.get("identity") == identity:
                if "progress" in self._noted:
                    self.progress = json.loads(self._noted["progress"])
                if "report" in self._noted:
                    self.whole = LoadReport.from_json(json.loads(self._noted["report"]))
                return Found.SAME
            assert self._db is not None
            if not is_whole(self._db):
                return Found.ANOTHER if self._noted else Found.NOTHING
        except (sqlite3.Error, ValueError, LookupError, TypeError) as error:
            raise StateError(
                f"{self.beside} cannot be read ({error}); delete or rename it, then load again"
            ) from error
        raise StateError(f"{self.beside} is in the way of this load; rename it, then load again")

    def _open(self) -> None:
        self._db = open_half_loaded(self.beside)
        self._catalog = Catalog(self._db)
        self._noted = _notes(self._db)
        self._version = int(self._noted.get("version", 0))

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        assert self._db is not None
        self._catalog.begin()
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._catalog.undo()
            raise

    def write(self, batch: Sequence[New], progress: Callable[[int], dict[str, Any]]) -> None:
        """Write a batch together with its progress. `progress` is called with the number of
        repeated keys: those already in the file, or more than once in the batch. The last entity of
        a key wins."""
        with self._transaction() as db:
            places = [self._place(new.partition, new.kind) for new in batch]
            found = {
                (kind, new.path): (part, new)
                for (part, kind), new in zip(places, batch, strict=True)
            }
            repeated = len(batch) - len(found) + self._remove(db, list(found))
            rows = Rows(self._catalog, db, with_entries=False)
            for (kind, path), (part, new) in found.items():
                record = Record(kind, path, self._version, new.body)
                rows.add(Change(record, self._version, None, new.entries, None))
                if new.irregular:
                    self._catalog.mark_irregular(kind)
                self._reserve(db, part, new.key)
            rows.flush()
            self.progress = progress(repeated)
            _note(db, progress=json.dumps(self.progress))

    def _place(self, partition: Partition, name: str) -> tuple[int, int]:
        part = self._catalog.intern_part(partition)
        return part, self._catalog.intern_kind(part, name)

    def _reserve(self, db: sqlite3.Connection, part: int, key: Any) -> None:
        """Reserve the ids of an entity and its ancestors, so that no new entity gets one."""
        for number, element in enumerate(key.path, 1):
            if may_be_allocated(element.id, self._catalog.next_id):
                ancestor = type(key)(path=key.path[:number])
                reserve_id(db, part, ancestor)

    @staticmethod
    def _remove(db: sqlite3.Connection, places: Sequence[tuple[int, bytes]]) -> int:
        """Remove the entities at some places; returns how many there were."""
        count = 0
        for kind in {kind for kind, _ in places}:
            paths = [path for number, path in places if number == kind]
            for _, stored in list(stored_rows(db, kind, paths, whole=False)):
                db.execute("DELETE FROM entities WHERE eid = ?", (stored[0],))
                count += 1
        return count

    def kinds(self) -> tuple[KindCount, ...]:
        """The number of entities of each kind."""
        assert self._db is not None
        counted = self._db.execute(
            "SELECT namespace, name, n FROM partitions "
            "JOIN kinds ON kinds.part = partitions.id "
            "JOIN (SELECT kind, count(*) AS n FROM entities GROUP BY kind) ON kind = kinds.id "
            "ORDER BY namespace, name"
        )
        return tuple(KindCount(*row) for row in counted)

    def make_index(self) -> None:
        """Make the index of what was written. Nothing more can be written after that."""
        assert self._db is not None
        if "indexed" in self._noted or self.whole is not None:
            return
        # Appended pages then go straight into the file, not into SQLite's log first.
        self._db.execute("PRAGMA journal_mode = DELETE")
        with self._transaction() as db:
            insert_entries(db, self.path.parent)
            _note(db, indexed="yes")
        self._db.execute("PRAGMA journal_mode = WAL")

    def finish(self, report: LoadReport) -> None:
        """Turn FILE-loading into FILE."""
        assert self._db is not None
        if self.whole is None:
            with self._transaction() as db:
                _note(db, report=json.dumps(report.to_json()))
                db.execute("DELETE FROM import WHERE name IN ('progress', 'indexed')")
                mark_whole(db)
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._close()
        self._take_the_name()
        self.is_finished = True

    def _take_the_name(self) -> None:
        if self.path.exists() and self.path.stat().st_size:
            # Empty the old file's log, which may hold commits: it must not be taken for the new
            # file's.
            old = open_file(self.path)
            old.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            old.close()
        for path in (self.path, self.beside):
            for suffix in _SIDE_FILES[1:]:
                path.with_name(path.name + suffix).unlink(missing_ok=True)
        self.beside.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def discard(self) -> None:
        """Delete FILE-loading."""
        self._close()
        self.progress = None
        for suffix in _SIDE_FILES:
            self.beside.with_name(self.beside.name + suffix).unlink(missing_ok=True)


def _note(db: sqlite3.Connection, **notes: str) -> None:
    db.executemany("INSERT OR REPLACE INTO import VALUES (?, ?)", notes.items())


def _notes(db: sqlite3.Connection) -> dict[str, str]:
    """The notes in a file; empty if nothing was imported into it."""
    there = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'import'").fetchone()
    return dict(db.execute("SELECT name, value FROM import")) if there else {}

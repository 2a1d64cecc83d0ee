"""What is stored: versions and clock, snapshots, the single writer.

Every commit has a **version**: its time in microseconds, raised if necessary above every earlier
version, even across restarts and when clocks go backwards. An entity's version is that of the
commit that wrote it, so version, update time and read time are one number.

    entities       live entities, one row each; `body` is the serialized Entity
    entities_past  earlier states, with the version that ended each
    entries        index rows, one per indexed value (array element, nested property): the slot and
                   the value at which a query finds the entity. An entry is valid from `since`
                   on; a past one has in `until` the version that ended it.

An entity's row repeats its entries, by slot, in `packed` (JSON, with the encoded values in
hexadecimal, which keeps their order). Queries read an entity's other sort values from it, and
writes read the entries that they change. The past is kept for an hour (`read_time`, transactions),
then deleted (housekeeping.py).

    log            commits whose rows have not been written yet (pending.py)

Code that needs rows reads in `reading()`, which writes pending rows first. `reading_keys()` does
not; it returns the pending states of the requested keys.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bulkup.core.errors import StateError
from bulkup.local.catalog import Catalog
from bulkup.local.file import connect, lock, open_file
from bulkup.local.messages import MICROS
from bulkup.local.pending import Pending, Place, Record, State, decode, encode
from bulkup.local.rows import write_pending
from bulkup.local.sharing import note_holder

HISTORY_MICROS = 3600 * MICROS
"""How far back `read_time` reaches: the documented hour."""
_CHECKPOINT_ROWS = 15_000
"""Entities and entries written before a checkpoint. Updates spread over a large kind dirty a page
each, so this is reached before `_LOG_PAGES`. A higher number means less work, because pages that
every commit writes are moved only once."""

_DEFERRED_AFTER = 2
"""Commits without a query between them, after which further commits are deferred. Where queries and
commits alternate, deferring would mean doing the work twice."""
_PENDING_BYTES = 64 << 20
_PENDING_COMMITS = 20_000
"""Above either limit, a commit first writes the rows of older commits, for twice as many entities
as the last deferred commit had. This bounds memory, and how long the first query after a long load
waits."""
_ROWS_TOGETHER = 4_000
"""Entities whose pending rows are written in one transaction: enough that neighbours in an index
share pages."""
_IDLE_ROWS = 250
"""The same while the server is idle: few, so that an arriving request does not wait long."""


def now_micros() -> int:
    return time.time_ns() // 1000


class Snapshot(NamedTuple):
    """A read transaction of SQLite."""

    db: sqlite3.Connection
    version: int
    """The snapshot holds every commit up to this version, and no new commit will get a version up
    to it. Usually this is the present, which is no commit's version; later commits get higher
    versions."""
    last: int
    """Version of the last commit in the snapshot."""
    pending: dict[Place, State]
    """States of the requested keys whose rows are pending. They override the rows."""


class LookedUp(NamedTuple):
    """What a lookup read. Clients that change entities usually look them up just before."""

    last: int
    """`Snapshot.last` of the lookup."""
    states: dict[Place, tuple[int, int, bytes | None]]
    """Version, creation version, body; the body is None where there was no entity."""


class Storage:
    """One open file. Raises StateError when it cannot be opened; the message says why.

    Reads run inside `reading()`, each on its own connection. Writes run inside `writing()`, one at
    a time, on one connection.
    """

    def __init__(
        self, path: str | Path, *, clock: Callable[[], int] = now_micros, may_defer: bool = True
    ) -> None:
        """`may_defer`: rows of commits may be written later, which takes memory until then."""
        self.path = Path(os.path.realpath(path))
        self._may_defer = may_defer
        self.clock = clock
        self._lock_file = lock(self.path)
        try:
            self._write = open_file(self.path)
            try:
                self._read_state()
            except BaseException:
                self._write.close()
                raise
        except BaseException:
            os.close(self._lock_file)
            raise
        self._readers: list[sqlite3.Connection] = []
        """Idle connections, the one used last at the end. Not one per thread: threads come and go
        with clients."""
        self._writer = threading.Lock()
        self._clock_lock = threading.Lock()
        self._writing_version = 0
        self._pending_lock = threading.Lock()
        """Held while changing `pending`, and while reading from it what a snapshot of SQLite
        lacks."""
        self.last_lookup = LookedUp(0, {})
        self._since_query = 0
        self._deferred_rows = 0
        """Rows of the last commit that was deferred."""
        self._wrote_at = time.monotonic()
        self._floor = self.last_version
        self._opened_at = self.last_version
        self._kind_versions: dict[int, int] = {}
        self._rows_written = 0
        self.wants_checkpoint = threading.Event()
        """Set when `checkpoint` has something to do."""

    def _read_state(self) -> None:
        """Raises StateError for a damaged file."""
        self.pending = Pending()
        try:
            self.catalog = Catalog(self._write)
            self.last_version = self._stored_version()
            for version, records in self._write.execute("SELECT * FROM log ORDER BY version"):
                self.pending.add(version, list(decode(records)))
        except (sqlite3.DatabaseError, ValueError, TypeError, LookupError) as error:
            raise StateError(
                f"{self.path} is damaged ({error}); restore it from a copy, or load its data into "
                "a new file"
            ) from error

    def _stored_version(self) -> int:
        row = self._write.execute("SELECT value FROM meta WHERE name = 'last_version'").fetchone()
        return int(row[0])

    def close(self) -> None:
        """Close everything. The file alone then holds all data. No call may be in progress."""
        for connection in self._readers:
            connection.close()
        with self._writer:
            self._write.close()
        os.ftruncate(self._lock_file, 0)  # the next holder must not be taken for this one
        os.close(self._lock_file)

    def announce(self, port: int) -> None:
        """Let commands that only read the file find its server (`sharing.py`)."""
        note_holder(self._lock_file, port)

    # -- reading -------------------------------------------------------------------------------

    @contextmanager
    def reader(self) -> Iterator[sqlite3.Connection]:
        """A connection for reading. A transaction begun on it ends with the block."""
        try:
            db = self._readers.pop()
        except IndexError:
            db = connect(self.path)
            db.execute("PRAGMA query_only = ON")
        try:
            yield db
        finally:
            try:
                if db.in_transaction:
                    db.execute("ROLLBACK")
            except sqlite3.Error:
                db.close()
                raise
            self._readers.append(db)

    @contextmanager
    def reading(self, *, to_commit: bool = False) -> Iterator[Snapshot]:
        """A snapshot with every row, stable until the block ends. `to_commit`: this read is for a
        commit and does not count as a query."""
        if not to_commit:
            self._since_query = 0
        with self.reader() as db:
            snapshot, complete = self._begin(db)
            if not complete:
                db.execute("ROLLBACK")
                # Hold the writer's lock, or more could enter the log before the snapshot is taken.
                with self._writer:
                    self._write_pending()
                    snapshot, _ = self._begin(db)
            yield snapshot

    @contextmanager
    def reading_keys(self, places: Callable[[], Iterable[Place]] = tuple) -> Iterator[Snapshot]:
        """A snapshot for reading some keys. Its rows may lack what is pending; the pending states
        of these keys are in `Snapshot.pending`."""
        with self.reader() as db:
            with self._pending_lock:
                snapshot, complete = self._begin(db)
                if not complete:
                    pending = self.pending.at(places(), snapshot.version)
                    snapshot = snapshot._replace(pending=pending)
            yield snapshot

    def _begin(self, db: sqlite3.Connection) -> tuple[Snapshot, bool]:
        """A snapshot, and whether it has the rows of every commit in it."""
        present = self.present()
        db.execute("BEGIN")
        last, complete = db.execute(
            "SELECT value, NOT EXISTS (SELECT 1 FROM log) FROM meta WHERE name = 'last_version'"
        ).fetchone()
        return Snapshot(db, max(present, last), last, {}), bool(complete)

    def present(self) -> int:
        """A version that no commit has; later commits get higher ones."""
        with self._clock_lock:
            if self._writing_version:
                return self._writing_version - 1
            self._floor = floor = max(self._floor, self.clock())
            return floor

    def snapshot_version(self) -> int:
        """The version at which a transaction that begins now reads."""
        with self.reading_keys() as snapshot:
            return snapshot.version

    # -- writing -------------------------------------------------------------------------------

    @contextmanager
    def writing(self, *, with_rows: bool = True) -> Iterator[tuple[sqlite3.Connection, int]]:
        """The writer's connection, in a transaction, and the version of what it writes.

        When the block ends normally, the transaction is committed, and is on disk when this
        returns; an exception rolls it back. `with_rows`: write pending rows first. False is for
        callers that read no rows, or that read `pending` too.
        """
        with self._writer:
            if with_rows:
                self._write_pending()
            elif self.pending.size > _PENDING_BYTES or len(self.pending) > _PENDING_COMMITS:
                # Before the commit, not after it: if this fails, the commit has written nothing.
                self._write_pending(2 * max(1, self._deferred_rows))
            with self._clock_lock:
                version = max(self.clock(), self._floor + 1, self.last_version + 1)
                self._floor = version
                self._writing_version = version
            try:
                with self._transaction() as db:
                    yield db, version
                    db.execute("UPDATE meta SET value = ? WHERE name = 'last_version'", (version,))
                self.last_version = version
            except BaseException:
                with self._pending_lock:
                    self.pending.take_back(version)
                raise
            finally:
                with self._clock_lock:
                    self._writing_version = 0
            self._wrote_at = time.monotonic()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction of the writer, which is on disk when the block has ended."""
        db = self._write
        self.catalog.begin()
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            # SQLite may have rolled back by itself when the disk is full.
            if db.in_transaction:
                db.execute("ROLLBACK")
            self.catalog.undo()
            raise

    def kind_version(self, kind: int) -> int:
        """A version after which no entity of the kind was written. Valid for the writer, and for a
        snapshot taken before this call."""
        return self._kind_versions.get(kind, self._opened_at)

    def note_written(self, kinds: Iterable[int], version: int, rows: int) -> None:
        """Note what a commit wrote."""
        self._kind_versions.update(dict.fromkeys(kinds, version))
        self._count(rows)

    def _count(self, rows: int) -> None:
        self._rows_written += rows
        if self._rows_written > _CHECKPOINT_ROWS:
            self.wants_checkpoint.set()

    def checkpoint(self) -> None:
        """Move SQLite's write-ahead log into the file, alongside readers and the writer."""
        self.wants_checkpoint.clear()
        self._rows_written = 0
        with self.reader() as db:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    # -- deferring -----------------------------------------------------------------------------

    def defers(self) -> bool:
        """Whether a commit that begins now may defer its rows. Each call counts as a commit."""
        self._since_query += 1
        return self._may_defer and self._since_query > _DEFERRED_AFTER

    def defer(self, version: int, records: list[Record]) -> None:
        """Write what a commit changes into the log. Call this inside `writing(with_rows=False)`."""
        with self._pending_lock:
            self.pending.add(version, records)
        self._deferred_rows = len(records)
        self._write.execute("INSERT INTO log VALUES (?, ?)", (version, encode(records)))

    def write_pending_if_idle(self, seconds: float) -> bool:
        """Write the rows of a few pending commits if nobody has written for `seconds`. True while
        there may be more to do."""
        if not self.pending or time.monotonic() - self._wrote_at < seconds:
            return False
        with self._writer:
            self._write_pending(_IDLE_ROWS)
        return True

    def _write_pending(self, rows: int | None = None) -> None:
        """Write the rows of pending commits, oldest first: those of all, or of at least `rows`
        entities. The caller holds the writer's lock and is in no transaction."""
        while self.pending and (rows is None or rows > 0):
            some = self.pending.oldest(min(rows or _ROWS_TOGETHER, _ROWS_TOGETHER))
            with self._transaction() as db:
                written = write_pending(self.catalog, db, some)
                db.execute("DELETE FROM log WHERE version <= ?", (some[-1][0],))
            with self._pending_lock:
                self.pending.drop(len(some))
            self._count(written)
            if rows is not None:
                rows -= sum(len(records) for _, records in some)

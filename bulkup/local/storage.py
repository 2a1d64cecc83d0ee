"""What is stored: versions and clock, snapshots, the one writer, the past.

Every commit has a **version**: its time in microseconds, made larger than every version before
it, also across restarts and clocks that go backwards. An entity's version is that of the commit
that wrote it, so version, update time and read time are one number.

    entities       what is live now, one row an entity; `body` is the serialized Entity
    entities_past  what was, with the version that ended it
    entries        index rows, one per indexed value (array element, nested property): where in
                   its slot an entity is. A row holds from `since` on; one of the past has the
                   version that ended it in `until`.

An entity's row has its entries a second time, by slot, in `packed` (JSON, with the encoded values
in hexadecimal, which keeps their order): so a query finds an entity's other sort values, and a
write the entries that it changes. The past is kept for an hour (`read_time`, transactions), then
swept.

    log            commits whose rows are not made yet (pending.py); nothing else knows of them

Who looks at rows does so in `reading()`, which makes those rows first. `reading_keys()` does not,
and says what is pending instead.

Foreign numbers are interned: `partitions`, `kinds` of a partition, `slots` (the properties of a
kind). A slot is `multi` once one entity had several values there; it saves the others a look.
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

from bulkup.local.encoding import Partition
from bulkup.local.file import connect, lock, open_file
from bulkup.local.messages import MICROS
from bulkup.local.packing import unpack
from bulkup.local.pending import Pending, Place, Record, State, decode, encode
from bulkup.local.rows import settle

HISTORY_MICROS = 3600 * MICROS
"""How far back `read_time` reaches: the documented hour."""
_CHECKPOINT_ROWS = 15_000
"""Entities and entries written; updates all over a large kind dirty a page for nearly each, so this
comes before `_LOG_PAGES`. Less often is less work: pages that every commit writes move once."""
_SWEEP_ROWS = 500
"""Past entities swept in one transaction: a few milliseconds for the writers behind it."""

_DEFERRED_AFTER = 2
"""Commits without a query between them, after which further ones are deferred. Where queries and
commits take turns, to defer would be to do the work twice."""
_PENDING_BYTES = 64 << 20
_PENDING_COMMITS = 20_000
"""Beyond either, who commits first makes rows of older commits, twice as many as the last one had:
this bounds memory, and how long the first query after a long load waits."""
_SETTLE_ROWS = 4_000
"""Entities whose rows are made in one transaction: enough that neighbours in an index meet."""
_IDLE_SETTLE_ROWS = 250
"""The same where nobody waits for it: few, for those who come meanwhile."""


def now_micros() -> int:
    return time.time_ns() // 1000


class Snapshot(NamedTuple):
    """A read transaction of SQLite."""

    db: sqlite3.Connection
    version: int
    """It holds every commit up to this version, and there will never be others up to it. It is
    usually the present, which no commit has; later ones are numbered above it."""
    last: int
    """Version of the last commit it holds."""
    pending: dict[Place, State]
    """What keys asked for hold whose rows are not made yet: this, not what their rows say."""


class Read(NamedTuple):
    """What a lookup read: who changes entities looks them up first, most often."""

    last: int
    """Of its snapshot."""
    states: dict[Place, tuple[int, int, bytes | None]]
    """Version, created, body; the body is None where there was nothing."""


class Storage:
    """One open file. Raises StateError when it cannot be opened; the message says why.

    Reads run inside `reading()`, each on a connection of its own; writes one at a time, on one
    connection, inside `writing()`.
    """

    def __init__(
        self, path: str | Path, *, clock: Callable[[], int] = now_micros, may_defer: bool = True
    ) -> None:
        """`may_defer`: rows of commits may be made later, which takes memory until then."""
        self.path = Path(os.path.realpath(path))
        self._may_defer = may_defer
        self.clock = clock
        self._lock_file = lock(self.path)
        try:
            self._write = open_file(self.path)
        except BaseException:
            os.close(self._lock_file)
            raise
        self._readers: list[sqlite3.Connection] = []
        """Those that are free, the one used last at the end. Not one for each thread: threads come
        and go with clients."""
        self._writer = threading.Lock()
        self._clock_lock = threading.Lock()
        self._writing_version = 0
        self._interned = False
        self.pending = Pending()
        self._pending_lock = threading.Lock()
        """Held to change `pending`, and to take from it what a snapshot of SQLite lacks."""
        self.last_lookup = Read(0, {})
        self._since_query = 0
        self._deferred_rows = 0
        """Of the last commit that was deferred."""
        self._wrote_at = time.monotonic()
        self._load()
        for version, records in self._write.execute("SELECT * FROM log ORDER BY version"):
            self.pending.add(version, list(decode(records)))
        self._opened_at = self.last_version
        self._kind_versions: dict[int, int] = {}
        self._rows_written = 0
        self.wants_checkpoint = threading.Event()
        """Set when `checkpoint` has something to do."""

    def _load(self) -> None:
        """Read what is kept in memory; also after a rollback, which may have undone some of it."""
        db = self._write
        self.partitions: dict[Partition, int] = {
            Partition(project, database, namespace): number
            for number, project, database, namespace in db.execute("SELECT * FROM partitions")
        }
        self.kinds: dict[tuple[int, str], int] = {
            (part, name): number for number, part, name in db.execute("SELECT * FROM kinds")
        }
        self.slots: dict[tuple[int, str], int] = {}
        self.multi: set[int] = set()
        for number, kind, prop, multi in db.execute("SELECT * FROM slots"):
            self.slots[kind, prop] = number
            if multi:
                self.multi.add(number)
        meta = dict(db.execute("SELECT name, value FROM meta"))
        self.last_version: int = meta["last_version"]
        self.next_id: int = meta["next_id"]
        self._floor: int = max(self.last_version, getattr(self, "_floor", 0))
        self.next_eid: int = 1 + max(
            db.execute("SELECT coalesce(max(eid), 0) FROM entities").fetchone()[0],
            db.execute("SELECT coalesce(max(eid), 0) FROM entities_past").fetchone()[0],
        )

    def close(self) -> None:
        """Close everything; the file alone is then complete. Nothing may be running."""
        for connection in self._readers:
            connection.close()
        with self._writer:
            self._write.close()
        os.close(self._lock_file)

    # -- reading -------------------------------------------------------------------------------

    @contextmanager
    def reader(self) -> Iterator[sqlite3.Connection]:
        """A connection for reading; a transaction begun on it ends when this is left."""
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

    def is_busy(self) -> bool:
        """Somebody is writing, or a reader may have to make rows first."""
        return self._writer.locked() or bool(self.pending)

    @contextmanager
    def reading(self, *, to_commit: bool = False) -> Iterator[Snapshot]:
        """What is stored, held still until this is left. `to_commit`: this is not a query."""
        if not to_commit:
            self._since_query = 0
        with self.reader() as db:
            snapshot, complete = self._begin(db)
            if not complete:
                db.execute("ROLLBACK")
                # As the only writer, lest more comes into the log before the snapshot is taken.
                with self._writer:
                    self._settle()
                    snapshot, _ = self._begin(db)
            yield snapshot

    @contextmanager
    def reading_keys(self, places: Callable[[], Iterable[Place]] = tuple) -> Iterator[Snapshot]:
        """What is stored of some keys. The snapshot's rows may lack what is pending; of these
        keys, it is in `pending`."""
        with self.reader() as db:
            with self._pending_lock:
                snapshot, complete = self._begin(db)
                if not complete:
                    pending = self.pending.at(places(), snapshot.version)
                    snapshot = snapshot._replace(pending=pending)
            yield snapshot

    def _begin(self, db: sqlite3.Connection) -> tuple[Snapshot, bool]:
        """A snapshot, and whether it has rows of every commit in it."""
        present = self.present()
        db.execute("BEGIN")
        last, complete = db.execute(
            "SELECT value, NOT EXISTS (SELECT 1 FROM log) FROM meta WHERE name = 'last_version'"
        ).fetchone()
        return Snapshot(db, max(present, last), last, {}), bool(complete)

    def present(self) -> int:
        """A version that no commit has; later ones are numbered above it."""
        with self._clock_lock:
            if self._writing_version:
                return self._writing_version - 1
            self._floor = floor = max(self._floor, self.clock())
            return floor

    def snapshot(self) -> int:
        """The version that reads of a transaction beginning now are made at."""
        with self.reading_keys() as snapshot:
            return snapshot.version

    # -- writing -------------------------------------------------------------------------------

    @contextmanager
    def writing(self, *, settled: bool = True) -> Iterator[tuple[sqlite3.Connection, int]]:
        """The only writer, in a transaction, and the version of what it writes.

        Left normally it is committed, and on the disk when this returns; left by an exception it
        is rolled back. `settled`: the rows are made of what was pending; False for those who look
        at no rows, or at `pending` too.
        """
        with self._writer:
            if settled:
                self._settle()
            elif self.pending.size > _PENDING_BYTES or len(self.pending) > _PENDING_COMMITS:
                # Now, not afterwards: should it fail, nothing of this commit is written.
                self._settle(2 * max(1, self._deferred_rows))
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
        """A transaction of the writer's, on the disk when this is left."""
        db = self._write
        next_id, next_eid = self.next_id, self.next_eid
        self._interned = False
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
            db.execute("COMMIT")
        except BaseException:
            # A full disk may have rolled back already.
            if db.in_transaction:
                db.execute("ROLLBACK")
            self.next_id, self.next_eid = next_id, next_eid
            if self._interned:
                self._load()
            raise

    def kind(self, partition: Partition, name: str) -> int | None:
        """Number of a kind, if there is or was an entity of it."""
        part = self.partitions.get(partition)
        return None if part is None else self.kinds.get((part, name))

    def kind_version(self, kind: int) -> int:
        """No entity of the kind was written after this version, as far as a snapshot taken before
        this is asked, or the only writer, can tell."""
        return self._kind_versions.get(kind, self._opened_at)

    def written(self, kinds: Iterable[int], version: int, rows: int) -> None:
        """Take note of what a commit wrote."""
        self._kind_versions.update(dict.fromkeys(kinds, version))
        self._count(rows)

    def _count(self, rows: int) -> None:
        self._rows_written += rows
        if self._rows_written > _CHECKPOINT_ROWS:
            self.wants_checkpoint.set()

    def intern_part(self, partition: Partition) -> int:
        """Number of a partition, new if need be; only inside `writing()`, as the next two."""
        number = self.partitions.get(partition)
        if number is None:
            number = self._insert(
                "INSERT INTO partitions(project, database, namespace) VALUES (?, ?, ?)", partition
            )
            self.partitions[partition] = number
        return number

    def intern_kind(self, part: int, name: str) -> int:
        number = self.kinds.get((part, name))
        if number is None:
            number = self._insert("INSERT INTO kinds(part, name) VALUES (?, ?)", (part, name))
            self.kinds[part, name] = number
        return number

    def intern_slot(self, kind: int, prop: str) -> int:
        number = self.slots.get((kind, prop))
        if number is None:
            number = self._insert(
                "INSERT INTO slots(kind, prop, multi) VALUES (?, ?, 0)", (kind, prop)
            )
            self.slots[kind, prop] = number
        return number

    def mark_multi(self, slot: int) -> None:
        if slot not in self.multi:
            self._interned = True
            self._write.execute("UPDATE slots SET multi = 1 WHERE id = ?", (slot,))
            self.multi.add(slot)

    def _insert(self, sql: str, values: tuple[object, ...]) -> int:
        self._interned = True
        number = self._write.execute(sql, values).lastrowid
        assert number is not None
        return number

    # -- deferring -----------------------------------------------------------------------------

    def defers(self) -> bool:
        """Whether a commit that begins now need not make its rows; it counts as one."""
        self._since_query += 1
        return self._may_defer and self._since_query > _DEFERRED_AFTER

    def defer(self, version: int, records: list[Record]) -> None:
        """Write what a commit changes into the log; inside `writing(settled=False)`."""
        with self._pending_lock:
            self.pending.add(version, records)
        self._deferred_rows = len(records)
        self._write.execute("INSERT INTO log VALUES (?, ?)", (version, encode(records)))

    def settle_if_idle(self, seconds: float) -> bool:
        """Make rows of a few pending commits, if nobody has written for so long; True while there
        may be more to do."""
        if not self.pending or time.monotonic() - self._wrote_at < seconds:
            return False
        with self._writer:
            self._settle(_IDLE_SETTLE_ROWS)
        return True

    def _settle(self, rows: int | None = None) -> None:
        """Make the rows of pending commits, the oldest first: of all, or of at least so many
        entities. Only for who holds the writer's lock, outside of a transaction."""
        while self.pending and (rows is None or rows > 0):
            some = self.pending.oldest(min(rows or _SETTLE_ROWS, _SETTLE_ROWS))
            with self._transaction() as db:
                written = settle(self, db, some)
                db.execute("DELETE FROM log WHERE version <= ?", (some[-1][0],))
            with self._pending_lock:
                self.pending.drop(len(some))
            self._count(written)
            if rows is not None:
                rows -= sum(len(records) for _, records in some)

    # -- sweeping ------------------------------------------------------------------------------

    def checkpoint(self) -> None:
        """Move what is in the write-ahead log into the file, beside readers and the writer."""
        self.wants_checkpoint.clear()
        self._rows_written = 0
        with self.reader() as db:
            db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def sweep(self) -> bool:
        """Forget a little of what is older than the history; True while there is more of it."""
        horizon = self.clock() - HISTORY_MICROS
        # Rows are in the order in which they became the past.
        with self.reader() as db:
            oldest = db.execute("SELECT until FROM entities_past ORDER BY rowid LIMIT 1").fetchone()
        if oldest is None or oldest[0] > horizon:
            return False
        with self.writing() as (db, _):
            rows = db.execute(
                "SELECT rowid, path, until, packed FROM entities_past ORDER BY rowid LIMIT ?",
                (_SWEEP_ROWS,),
            ).fetchall()
            for rowid, path, until, packed in rows:
                if until > horizon:
                    return False
                db.executemany(
                    "DELETE FROM entries WHERE slot = ? AND value = ? AND path = ? AND until <= ?",
                    [(slot, value, path, until) for slot, value in unpack(packed)],
                )
                db.execute("DELETE FROM entities_past WHERE rowid = ?", (rowid,))
        return len(rows) == _SWEEP_ROWS

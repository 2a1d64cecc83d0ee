"""Transactions: optimistic, with snapshot reads.

This is the OPTIMISTIC concurrency mode that the service documents. A transaction reads the database
as it was when it began and holds no locks. Its commit checks everything that it has read; if any of
that has changed, the commit is ABORTED and writes nothing. This includes queries: an entity that
entered or left a range that the transaction has read (a phantom) is a conflict; an entity beyond
the last result that the transaction received is not. So a forgotten transaction blocks nobody, and
one of several conflicting transactions always commits.

Reads inside a transaction do not show its own writes, which only come with the commit. A commit
ends its transaction even when it fails. Rolling back a transaction that has ended is allowed.
"""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from bulkup.local.cursors import Position
from bulkup.local.encoding import Partition
from bulkup.local.messages import MICROS
from bulkup.local.plan import Select
from bulkup.local.query import Request
from bulkup.local.query_rows import bind
from bulkup.local.sql import execute
from bulkup.local.status import aborted, invalid
from bulkup.local.storage import Storage

IDLE_MICROS = 60 * MICROS
LIFE_MICROS = 270 * MICROS
"""Documented: a transaction expires after 60 s without use, and 270 s after it began."""


@dataclass
class Transaction:
    """An open transaction and what it has read."""

    id: bytes
    snapshot: int
    read_only: bool
    began: int
    used: int
    keys: set[tuple[Partition, str, bytes]] = field(default_factory=set)
    queries: list[tuple[Request, Position | None]] = field(default_factory=list)
    """Each with the position where reading stopped; None at the end of the query."""

    def read_key(self, partition: Partition, kind: str, path: bytes) -> None:
        if not self.read_only:
            self.keys.add((partition, kind, path))

    def read_query(self, request: Request, end: Position | None) -> None:
        if not self.read_only:
            self.queries.append((request, end))


class Transactions:
    """The open transactions of a server. Ids from another server, or from this one before a
    restart, are recognized and refused."""

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._server = secrets.token_bytes(8)
        self._count = 0
        self._open: dict[bytes, Transaction] = {}

    def begin(self, snapshot: int, *, read_only: bool) -> Transaction:
        now = self._clock()
        with self._lock:
            for old in [one for one in self._open.values() if _expired(one, now)]:
                del self._open[old.id]
            self._count += 1
            name = self._server + self._count.to_bytes(8, "big")
            transaction = Transaction(name, snapshot, read_only, now, now)
            self._open[name] = transaction
        return transaction

    def get(self, name: bytes) -> Transaction:
        """An open transaction, for reading. Raises INVALID_ARGUMENT for any other id."""
        now = self._clock()
        with self._lock:
            transaction = self._open.get(name)
            if transaction is None or _expired(transaction, now):
                self._open.pop(name, None)
                raise invalid("The referenced transaction has expired or is no longer valid.")
            transaction.used = now
            return transaction

    def end(self, name: bytes) -> Transaction:
        """Like `get`, but ends the transaction: for commits."""
        transaction = self.get(name)
        with self._lock:
            if self._open.pop(name, None) is None:
                raise invalid("The referenced transaction has expired or is no longer valid.")
        return transaction

    def check_id(self, name: bytes) -> None:
        """Raises INVALID_ARGUMENT for an id that this server never issued."""
        ours = len(name) == 16 and name[:8] == self._server
        if not ours or int.from_bytes(name[8:], "big") > self._count:
            raise invalid("The referenced transaction has expired or is no longer valid.")

    def rollback(self, name: bytes) -> None:
        """Raises INVALID_ARGUMENT for an id that this server never issued."""
        self.check_id(name)
        with self._lock:
            self._open.pop(name, None)


def _expired(transaction: Transaction, now: int) -> bool:
    return now - transaction.used > IDLE_MICROS or now - transaction.began > LIFE_MICROS


def check_conflicts(transaction: Transaction, storage: Storage, db: sqlite3.Connection) -> None:
    """Raise ABORTED when something that the transaction read has changed; inside `writing()`."""
    snapshot = transaction.snapshot
    if storage.last_version <= snapshot:
        return
    for partition, kind_name, path in transaction.keys:
        kind = storage.catalog.kind(partition, kind_name)
        if kind is None or storage.kind_version(kind) <= snapshot:
            continue
        row = execute(
            db,
            "SELECT EXISTS (SELECT 1 FROM entities WHERE kind = ?1 AND path = ?2 "
            "AND version > ?3) OR EXISTS (SELECT 1 FROM entities_past WHERE kind = ?1 "
            "AND path = ?2 AND until > ?3)",
            (kind, path, snapshot),
        ).fetchone()
        if row[0]:
            raise aborted()
    for request, end in transaction.queries:
        if _query_changed(request, end, storage, db, snapshot):
            raise aborted()


def _query_changed(
    request: Request,
    end: Position | None,
    storage: Storage,
    db: sqlite3.Connection,
    snapshot: int,
) -> bool:
    """Whether an entity written since the snapshot is in the range that was read, in its old or its
    new state."""
    for at in (snapshot, None):
        plan = bind(request, storage.catalog, at)
        if plan is None:
            continue
        kind = plan.source.kind
        if kind is not None and storage.kind_version(kind) <= snapshot:
            continue
        plan.changed_since = snapshot
        statement = Select(plan, db, request.window.start, end or request.window.end).sql(1)
        if statement is None:
            continue
        sql, values = statement
        if execute(db, sql, values).fetchone() is not None:
            return True
    return False

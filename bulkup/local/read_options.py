"""`ReadOptions` and `TransactionOptions`: the moment at which a request reads."""

from __future__ import annotations

from typing import Any, NamedTuple

import grpc

from bulkup.local import messages as m
from bulkup.local.status import RpcError, invalid
from bulkup.local.storage import HISTORY_MICROS, Snapshot, Storage
from bulkup.local.transactions import Transaction, Transactions


class Read(NamedTuple):
    """How one request reads."""

    at: int | None
    """Version to read at; None reads the live entities."""
    time: int
    """The read time that the response reports; 0 for none."""
    transaction: Transaction | None = None
    started: bytes = b""
    """Id of the transaction that this request began."""

    def started_field(self) -> bytes:
        """Field 5 of the responses that can begin a transaction."""
        return m.field(5, self.started) if self.started else b""


def reads_present(options: Any) -> bool:
    """Whether a request reads the present, outside any transaction."""
    return options.WhichOneof("consistency_type") in (None, "read_consistency")


class ReadClock:
    """Finds the moment at which requests read, and begins transactions."""

    def __init__(self, storage: Storage, transactions: Transactions) -> None:
        self._storage = storage
        self._transactions = transactions

    def read(self, options: Any, snapshot: Snapshot) -> Read:
        which = options.WhichOneof("consistency_type")
        if which is None:
            return Read(None, snapshot.version)
        if which == "read_consistency":
            if options.read_consistency == m.ReadOptions.EVENTUAL:
                # The read is strong anyway; the reference says that the response then has no read
                # time.
                return Read(None, 0)
            return Read(None, snapshot.version)
        if which == "read_time":
            time = self._read_time(options.read_time, snapshot)
            return Read(_at(time, snapshot), time)
        if which == "new_transaction":
            transaction = self.begin(options.new_transaction, snapshot)
            started = transaction.id
        else:
            transaction = self._transactions.get(options.transaction)
            started = b""
        time = transaction.snapshot
        return Read(_at(time, snapshot), time, transaction, started)

    def begin(self, options: Any, snapshot: Snapshot) -> Transaction:
        """Begin a transaction with the given `TransactionOptions`."""
        read_only = options.WhichOneof("mode") == "read_only"
        if options.read_write.previous_transaction:
            self._transactions.check_id(options.read_write.previous_transaction)
        time = snapshot.version
        if read_only and options.read_only.HasField("read_time"):
            time = self._read_time(options.read_only.read_time, snapshot)
        return self._transactions.begin(time, read_only=read_only)

    def _read_time(self, stamp: Any, snapshot: Snapshot) -> int:
        if stamp.nanos % 1000:
            raise invalid("The read_time must be a timestamp of microsecond precision.")
        time = m.micros_of(stamp)
        if time <= 0:
            raise invalid("The read_time must be after the epoch.")
        if time > snapshot.version:
            raise invalid("The read_time must not be in the future.")
        if time < self._storage.clock() - HISTORY_MICROS:
            raise RpcError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "The requested 'read_time' is too old: it must be within the past one hour "
                "(the embedded Datastore has no point-in-time recovery).",
            )
        return time


def _at(time: int, snapshot: Snapshot) -> int | None:
    return None if snapshot.last <= time else time

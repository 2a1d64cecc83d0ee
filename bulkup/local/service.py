"""The calls of google.datastore.v1.Datastore: bytes in, bytes out."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from bulkup.local import messages as m
from bulkup.local.aggregation import run_aggregation
from bulkup.local.encoding import Partition, encode_path, key_message
from bulkup.local.keys import allocate_id, reserve_id
from bulkup.local.limits import (
    MAX_LOOKUP_KEYS,
    check_key,
    check_project,
    check_request_size,
    checked_place,
    partition_of,
)
from bulkup.local.masks import Mask
from bulkup.local.metadata import is_metadata, run_metadata
from bulkup.local.mutations import check_entities, check_mutations
from bulkup.local.pending import Place, State
from bulkup.local.queries import PAGE_BYTES, check_query, run_page
from bulkup.local.sql import by_paths
from bulkup.local.status import RpcError, invalid, unimplemented
from bulkup.local.storage import HISTORY_MICROS, Read, Snapshot, Storage
from bulkup.local.transactions import Transaction, Transactions, check_conflicts
from bulkup.local.writes import Known, Writer

SERVICE = "google.datastore.v1.Datastore"
_log = logging.getLogger(__name__)
_MISSING = State(0, 0, None)
_GQL = (
    "The embedded Datastore does not understand GQL; send a structured query, or use an emulator "
    "of Google's."
)


class Service:
    """Answers calls on one file. Methods take and return serialized messages."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.transactions = Transactions(storage.clock)

    def methods(self) -> dict[str, Callable[[bytes], bytes]]:
        """By name. They raise RpcError, and nothing else."""
        calls = {
            "Lookup": self.lookup,
            "RunQuery": self.run_query,
            "RunAggregationQuery": self.run_aggregation_query,
            "BeginTransaction": self.begin_transaction,
            "Commit": self.commit,
            "Rollback": self.rollback,
            "AllocateIds": self.allocate_ids,
            "ReserveIds": self.reserve_ids,
        }
        return {name: _guarded(call) for name, call in calls.items()}

    # -- reading -------------------------------------------------------------------------------

    def lookup(self, raw: bytes) -> bytes:
        request = _parse(m.LookupRequest, raw)
        if len(request.keys) > MAX_LOOKUP_KEYS:
            raise invalid(
                f"cannot get more than {MAX_LOOKUP_KEYS} keys in a single call: {len(request.keys)}"
            )
        mask = Mask(request.property_mask.paths) if request.HasField("property_mask") else None
        project, database = request.project_id, request.database_id
        keys: dict[tuple[str, bytes], tuple[Partition, str, Any]] = {}
        for key in request.keys:
            path, kind = checked_place(key, complete=True, reserved_ok=True)
            partition = partition_of(key.partition_id, project, database)
            keys[partition.namespace, path] = partition, kind, key

        places: list[Place] = []

        def placed() -> list[Place]:
            numbers: dict[tuple[Partition, str], int] = {}
            number, last_partition, last_kind = 0, None, None
            for (_, path), (partition, kind, _) in keys.items():
                if kind is not last_kind or partition is not last_partition:
                    last_partition, last_kind = partition, kind
                    if (partition, kind) not in numbers:
                        numbers[partition, kind] = self.storage.kind(partition, kind) or 0
                    number = numbers[partition, kind]
                places.append((number, path))
            return places

        # As of another moment than now only rows tell it.
        now = request.read_options.WhichOneof("consistency_type") in (None, "read_consistency")
        with self.storage.reading_keys(placed) if now else self.storage.reading() as snapshot:
            read = self._read(request.read_options, snapshot)
            pending = snapshot.pending
            asked = places or placed()
            if pending:
                asked = [place for place in asked if place not in pending]
            rows = by_paths(snapshot.db, asked, read.at)
            out = []
            states: dict[Place, tuple[int, int, bytes | None]] = {}
            size = 0
            for place, (partition, kind, key) in zip(places, keys.values(), strict=True):
                if size > PAGE_BYTES:
                    # The official clients ask for these again by themselves.
                    out.append(m.field(3, key.SerializeToString()))
                    continue
                if read.transaction is not None:
                    read.transaction.read_key(partition, kind, place[1])
                state = pending.get(place) or next(rows) or _MISSING
                version, created, body = state
                states[place] = state
                if body is None:
                    key.partition_id.project_id = partition.project
                    result = m.field(1, m.field(1, key.SerializeToString()))
                    result += m.number_field(4, read.time)
                    out.append(m.field(2, result))
                    size += len(result)
                else:
                    if mask is not None:
                        body = mask.select(m.Entity.FromString(body)).SerializeToString()
                    size += m.add_found(out, body, version, created)
        if now:
            self.storage.last_lookup = Read(snapshot.last, states)
        out.append(m.field(5, read.started) if read.started else b"")
        if read.time:
            out.append(m.field(7, m.timestamp(read.time)))
        return b"".join(out)

    def run_query(self, raw: bytes) -> bytes:
        request = _parse(m.RunQueryRequest, raw)
        if request.WhichOneof("query_type") == "gql_query":
            raise unimplemented(_GQL)
        if request.WhichOneof("query_type") is None:
            raise invalid("one of fields Query.query and Query.gql_query must be set")
        partition = partition_of(request.partition_id, request.project_id, request.database_id)
        mask = Mask(request.property_mask.paths) if request.HasField("property_mask") else None
        query = check_query(request.query, partition, mask)
        with self.storage.reading() as snapshot:
            read = self._read(request.read_options, snapshot)
            if is_metadata(query.kind):
                batch = run_metadata(query, self.storage, snapshot.db, read.time)
            else:
                page = run_page(query, self.storage, snapshot.db, read.at, read.time)
                batch = page.batch
                if read.transaction is not None:
                    read.transaction.read_query(query, page.end)
        return m.field(1, batch) + (m.field(5, read.started) if read.started else b"")

    def run_aggregation_query(self, raw: bytes) -> bytes:
        request = _parse(m.RunAggregationQueryRequest, raw)
        if request.WhichOneof("query_type") == "gql_query":
            raise unimplemented(_GQL)
        if not request.aggregation_query.HasField("nested_query"):
            raise invalid("one of fields Query.query and Query.gql_query must be set")
        partition = partition_of(request.partition_id, request.project_id, request.database_id)
        query = check_query(request.aggregation_query.nested_query, partition)
        with self.storage.reading() as snapshot:
            read = self._read(request.read_options, snapshot)
            batch = run_aggregation(
                request.aggregation_query, query, self.storage, snapshot.db, read.at, read.time
            )
            if read.transaction is not None:
                read.transaction.read_query(query, None)
        return m.field(1, batch) + (m.field(5, read.started) if read.started else b"")

    def _read(self, options: Any, snapshot: Snapshot) -> _Read:
        """At which moment a request reads, and in which transaction."""
        which = options.WhichOneof("consistency_type")
        if which is None:
            return _Read(None, snapshot.version)
        if which == "read_consistency":
            if options.read_consistency == m.ReadOptions.EVENTUAL:
                # Strong all the same; the reference says that it then tells no time.
                return _Read(None, 0)
            return _Read(None, snapshot.version)
        if which == "read_time":
            time = self._read_time(options.read_time, snapshot)
            return _Read(_at(time, snapshot), time)
        if which == "new_transaction":
            transaction = self._begin(options.new_transaction, snapshot)
            started = transaction.id
        else:
            transaction = self.transactions.get(options.transaction)
            started = b""
        time = transaction.snapshot
        return _Read(_at(time, snapshot), time, transaction, started)

    def _read_time(self, stamp: Any, snapshot: Snapshot) -> int:
        if stamp.nanos % 1000:
            raise invalid("The read_time must be a timestamp of microsecond precision.")
        time = m.micros_of(stamp)
        if time <= 0:
            raise invalid("The read_time must be after the epoch.")
        if time > snapshot.version:
            raise invalid("The read_time must not be in the future.")
        if time < self.storage.clock() - HISTORY_MICROS:
            raise RpcError(
                grpc.StatusCode.FAILED_PRECONDITION,
                "The requested 'read_time' is too old: it must be within the past one hour "
                "(the embedded Datastore has no point-in-time recovery).",
            )
        return time

    # -- transactions --------------------------------------------------------------------------

    def begin_transaction(self, raw: bytes) -> bytes:
        request = _parse(m.BeginTransactionRequest, raw)
        with self.storage.reading_keys() as snapshot:
            transaction = self._begin(request.transaction_options, snapshot)
        return m.field(1, transaction.id)

    def _begin(self, options: Any, snapshot: Snapshot) -> Transaction:
        read_only = options.WhichOneof("mode") == "read_only"
        if options.read_write.previous_transaction:
            self.transactions.check_id(options.read_write.previous_transaction)
        time = snapshot.version
        if read_only and options.read_only.HasField("read_time"):
            time = self._read_time(options.read_only.read_time, snapshot)
        return self.transactions.begin(time, read_only=read_only)

    def rollback(self, raw: bytes) -> bytes:
        request = _parse(m.RollbackRequest, raw)
        self.transactions.rollback(request.transaction)
        return b""

    # -- writing -------------------------------------------------------------------------------

    def commit(self, raw: bytes) -> bytes:
        check_request_size(len(raw))
        request = _parse(m.CommitRequest, raw)
        selector = request.WhichOneof("transaction_selector")
        transactional = request.mode != m.CommitRequest.NON_TRANSACTIONAL
        if transactional and selector is None:
            raise invalid("transactional commit requires a transaction")
        if not transactional and selector is not None:
            raise invalid("non-transaction commit cannot specify a transaction")
        single_use = request.single_use_transaction
        if selector == "single_use_transaction" and single_use.WhichOneof("mode") == "read_only":
            raise invalid("single_use_transaction in a commit request must be READ_WRITE.")
        transaction = None
        if selector == "transaction":
            transaction = self.transactions.end(request.transaction)
            if transaction.read_only and request.mutations:
                raise invalid("Cannot modify entities in a read-only transaction.")
        operations = check_mutations(
            request.mutations,
            request.project_id,
            request.database_id,
            transactional=transactional,
        )
        if not operations and (transaction is None or transaction.read_only):
            return m.field(8, m.timestamp(self.storage.snapshot())) if transactional else b""
        deferring = transaction is None and self.storage.defers()
        known = Known(self.storage, operations, deferring=deferring)
        check_entities(operations, known.bodies, deferring=deferring)
        failure: RpcError | None = None
        with self.storage.writing(settled=not deferring) as (db, version):
            if transaction is not None:
                check_conflicts(transaction, self.storage, db)
            writer = Writer(self.storage, db, version, known)
            for operation in operations:
                try:
                    writer.apply(operation)
                except RpcError as error:
                    if transactional:
                        raise
                    failure = error
                    break
            writer.finish()
            # Still the only writer: the next one checks its conflicts by this.
            self.storage.written(writer.kinds, version, writer.rows)
        if failure is not None:
            raise failure
        out = list(writer.results())
        out.append(m.number_field(4, writer.index_updates))
        if transactional:
            out.append(m.field(8, m.timestamp(version)))
        return b"".join(out)

    def allocate_ids(self, raw: bytes) -> bytes:
        request = _parse(m.AllocateIdsRequest, raw)
        partitions = []
        for key in request.keys:
            check_key(key, complete=False)
            if key.path[-1].WhichOneof("id_type") is not None:
                raise invalid("The keys to allocate ids for must be incomplete.")
            partitions.append(
                partition_of(key.partition_id, request.project_id, request.database_id)
            )
        answer = m.AllocateIdsResponse()
        with self.storage.writing(settled=False) as (db, _):
            for key, partition in zip(request.keys, partitions, strict=True):
                part = self.storage.intern_part(partition)
                key.path[-1].id = allocate_id(self.storage, db, part)
                answer.keys.append(key_message(partition, encode_path(key.path)))
        return bytes(answer.SerializeToString())

    def reserve_ids(self, raw: bytes) -> bytes:
        request = _parse(m.ReserveIdsRequest, raw)
        if not request.keys:
            raise RpcError(
                grpc.StatusCode.FAILED_PRECONDITION, "List of Ids to reserve cannot be empty."
            )
        partitions = []
        for key in request.keys:
            check_key(key, complete=True)
            partitions.append(
                partition_of(key.partition_id, request.project_id, request.database_id)
            )
        with self.storage.writing(settled=False) as (db, _):
            for key, partition in zip(request.keys, partitions, strict=True):
                reserve_id(db, self.storage.intern_part(partition), key)
        return b""


class _Read:
    """How one request reads."""

    def __init__(
        self,
        at: int | None,
        time: int,
        transaction: Transaction | None = None,
        started: bytes = b"",
    ) -> None:
        self.at = at
        """Version to read at; None: what is live."""
        self.time = time
        """What the answer says; 0: nothing."""
        self.transaction = transaction
        self.started = started
        """Id of the transaction that this request began."""


def _at(time: int, snapshot: Snapshot) -> int | None:
    return None if snapshot.last <= time else time


def _parse(message: Any, raw: bytes) -> Any:
    try:
        request = message.FromString(raw)
    except DecodeError as error:
        raise invalid("Error parsing protocol message.") from error
    if not request.project_id:
        raise invalid("The request must name a project_id.")
    check_project(request.project_id)
    if request.database_id == "(default)":
        raise invalid("The default database is named by an empty database_id, not '(default)'.")
    return request


def _guarded(call: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Make statuses of errors; what nobody foresaw is logged, and INTERNAL."""

    def answer(raw: bytes) -> bytes:
        try:
            return call(raw)
        except RpcError:
            raise
        except sqlite3.Error as error:
            raise _storage_failure(error) from error
        except Exception as error:
            _log.exception("%s failed", call.__name__)
            raise RpcError(grpc.StatusCode.INTERNAL, f"{type(error).__name__}: {error}") from error

    return answer


def _storage_failure(error: sqlite3.Error) -> RpcError:
    text = str(error)
    if "full" in text:
        return RpcError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "The disk is full. Nothing of this request was written; make room and try again.",
        )
    _log.error("SQLite failed: %s", text)
    if "malformed" in text or "not a database" in text:
        return RpcError(
            grpc.StatusCode.DATA_LOSS, f"The file of the embedded Datastore is damaged: {text}"
        )
    return RpcError(
        grpc.StatusCode.INTERNAL, f"The file of the embedded Datastore cannot be used: {text}"
    )

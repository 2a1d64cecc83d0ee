"""The calls of google.datastore.v1.Datastore: bytes in, bytes out."""

from __future__ import annotations

from typing import Any

import grpc

from bulkup.local import messages as m
from bulkup.local.aggregation import check_aggregation, run_aggregation
from bulkup.local.commit import run_commit
from bulkup.local.encoding import Partition, encode_path, key_message
from bulkup.local.explain import Explanation
from bulkup.local.keys import allocate_id, reserve_id
from bulkup.local.limits import check_key, check_request_size, partition_of
from bulkup.local.lookup import run_lookup
from bulkup.local.masks import Mask
from bulkup.local.metadata import is_metadata, run_metadata
from bulkup.local.query import Request, check_query
from bulkup.local.query_page import run_page
from bulkup.local.read_options import ReadClock
from bulkup.local.requests import Call, guarded, parse
from bulkup.local.status import RpcError, invalid, unimplemented
from bulkup.local.storage import Storage
from bulkup.local.transactions import Transactions

SERVICE = "google.datastore.v1.Datastore"
_GQL = (
    "The embedded Datastore does not understand GQL; send a structured query, or use one of "
    "Google's emulators."
)


class Service:
    """Answers calls on one file. Methods take and return serialized messages."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.transactions = Transactions(storage.clock)
        self._clock = ReadClock(storage, self.transactions)

    def methods(self) -> dict[str, Call]:
        """The calls by name. They raise RpcError and nothing else."""
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
        return {name: guarded(call) for name, call in calls.items()}

    # -- reading -------------------------------------------------------------------------------

    def lookup(self, raw: bytes) -> bytes:
        return run_lookup(parse(m.LookupRequest, raw), self.storage, self._clock)

    def run_query(self, raw: bytes) -> bytes:
        request = parse(m.RunQueryRequest, raw)
        if request.WhichOneof("query_type") == "gql_query":
            raise unimplemented(_GQL)
        if request.WhichOneof("query_type") is None:
            raise invalid("one of fields Query.query and Query.gql_query must be set")
        partition = partition_of(request.partition_id, request.project_id, request.database_id)
        mask = Mask(request.property_mask.paths) if request.HasField("property_mask") else None
        query = check_query(request.query, partition, mask)
        explanation = _explanation(request, query)
        with self.storage.reading() as snapshot:
            read = self._clock.read(request.read_options, snapshot)
            if explanation is not None and not explanation.analyze:
                return explanation.of_plan() + read.started_field()
            if is_metadata(query.kind):
                batch = run_metadata(query, self.storage.catalog, snapshot.db, read.time)
            else:
                page = run_page(query, self.storage.catalog, snapshot.db, read.at, read.time)
                batch = page.batch
                if read.transaction is not None:
                    read.transaction.read_query(query, page.end)
        explained = b"" if explanation is None else explanation.of_query(batch)
        return m.field(1, batch) + read.started_field() + explained

    def run_aggregation_query(self, raw: bytes) -> bytes:
        request = parse(m.RunAggregationQueryRequest, raw)
        if request.WhichOneof("query_type") == "gql_query":
            raise unimplemented(_GQL)
        aggregated = request.aggregation_query
        if not aggregated.HasField("nested_query"):
            raise invalid("one of fields Query.query and Query.gql_query must be set")
        partition = partition_of(request.partition_id, request.project_id, request.database_id)
        query = check_query(aggregated.nested_query, partition)
        explanation = _explanation(request, query)
        with self.storage.reading() as snapshot:
            read = self._clock.read(request.read_options, snapshot)
            check_aggregation(aggregated, query)
            if explanation is not None and not explanation.analyze:
                return explanation.of_plan() + read.started_field()
            found = run_aggregation(
                aggregated, query, self.storage.catalog, snapshot.db, read.at, read.time
            )
            explained = b""
            if explanation is not None:
                explained = explanation.of_aggregation(found.entities())
            if read.transaction is not None:
                read.transaction.read_query(query, None)
        return m.field(1, found.batch) + read.started_field() + explained

    # -- transactions --------------------------------------------------------------------------

    def begin_transaction(self, raw: bytes) -> bytes:
        request = parse(m.BeginTransactionRequest, raw)
        with self.storage.reading_keys() as snapshot:
            transaction = self._clock.begin(request.transaction_options, snapshot)
        return m.field(1, transaction.id)

    def rollback(self, raw: bytes) -> bytes:
        request = parse(m.RollbackRequest, raw)
        self.transactions.rollback(request.transaction)
        return b""

    # -- writing -------------------------------------------------------------------------------

    def commit(self, raw: bytes) -> bytes:
        check_request_size(len(raw))
        return run_commit(parse(m.CommitRequest, raw), self.storage, self.transactions)

    def allocate_ids(self, raw: bytes) -> bytes:
        request = parse(m.AllocateIdsRequest, raw)
        partitions = _partitions(request, complete=False)
        if any(key.path[-1].WhichOneof("id_type") is not None for key in request.keys):
            raise invalid("The keys to allocate ids for must be incomplete.")
        answer = m.AllocateIdsResponse()
        catalog = self.storage.catalog
        with self.storage.writing(with_rows=False) as (db, _):
            for key, partition in zip(request.keys, partitions, strict=True):
                part = catalog.intern_part(partition)
                key.path[-1].id = allocate_id(catalog, db, part)
                answer.keys.append(key_message(partition, encode_path(key.path)))
        return bytes(answer.SerializeToString())

    def reserve_ids(self, raw: bytes) -> bytes:
        request = parse(m.ReserveIdsRequest, raw)
        if not request.keys:
            raise RpcError(
                grpc.StatusCode.FAILED_PRECONDITION, "List of Ids to reserve cannot be empty."
            )
        partitions = _partitions(request, complete=True)
        with self.storage.writing(with_rows=False) as (db, _):
            for key, partition in zip(request.keys, partitions, strict=True):
                reserve_id(db, self.storage.catalog.intern_part(partition), key)
        return b""


def _explanation(request: Any, query: Request) -> Explanation | None:
    """None if the request does not ask for one."""
    if not request.HasField("explain_options"):
        return None
    return Explanation(request.explain_options, query)


def _partitions(request: Any, *, complete: bool) -> list[Partition]:
    """The partition of each key. Raises INVALID_ARGUMENT for keys that are not valid."""
    partitions = []
    for key in request.keys:
        check_key(key, complete=complete)
        partitions.append(partition_of(key.partition_id, request.project_id, request.database_id))
    return partitions

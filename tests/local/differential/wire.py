"""Raw requests to one Datastore server, and its answers.

The official client hides what servers disagree about (conflict flags, versions, the reason why a
page ended), so the differential tests send protobuf over a channel of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc
from google.cloud.datastore_v1.types import aggregation_result as _aggregation_result
from google.cloud.datastore_v1.types import datastore as _datastore
from google.cloud.datastore_v1.types import entity as _entity
from google.cloud.datastore_v1.types import query as _query

Key = _entity.Key.pb()
Value = _entity.Value.pb()
Entity = _entity.Entity.pb()
ArrayValue = _entity.ArrayValue.pb()
PartitionId = _entity.PartitionId.pb()

Query = _query.Query.pb()
Filter = _query.Filter.pb()
PropertyFilter = _query.PropertyFilter.pb()
CompositeFilter = _query.CompositeFilter.pb()
AggregationQuery = _query.AggregationQuery.pb()
EntityResult = _query.EntityResult.pb()
QueryResultBatch = _query.QueryResultBatch.pb()
AggregationResultBatch = _aggregation_result.AggregationResultBatch.pb()

Mutation = _datastore.Mutation.pb()
PropertyMask = _datastore.PropertyMask.pb()
PropertyTransform = _datastore.PropertyTransform.pb()
ReadOptions = _datastore.ReadOptions.pb()
TransactionOptions = _datastore.TransactionOptions.pb()

METHODS = (
    "Lookup", "RunQuery", "RunAggregationQuery", "BeginTransaction", "Commit", "Rollback",
    "AllocateIds", "ReserveIds",
)  # fmt: skip
REQUESTS = {m: getattr(_datastore, f"{m}Request").pb() for m in METHODS}
RESPONSES = {m: getattr(_datastore, f"{m}Response").pb() for m in METHODS}

CALL_TIMEOUT_S = 30
"""A server that takes longer hangs. The Firestore emulator waits 2 s for a lock, then aborts."""

MAX_RECEIVE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Reply:
    """A server's answer to one request. `body` is None unless `code` is OK."""

    code: str
    message: str
    body: Any


class Wire:
    """One server; failures show its answers under its name."""

    def __init__(self, name: str, host: str) -> None:
        self.name = name
        self.host = host
        self._channel = grpc.insecure_channel(
            host, options=[("grpc.max_receive_message_length", MAX_RECEIVE_BYTES)]
        )
        self._calls = {
            method: self._channel.unary_unary(
                f"/google.datastore.v1.Datastore/{method}",
                request_serializer=REQUESTS[method].SerializeToString,
                response_deserializer=RESPONSES[method].FromString,
            )
            for method in METHODS
        }

    def call(self, method: str, request: Any) -> Reply:
        try:
            body = self._calls[method](request, timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            return Reply(error.code().name, error.details() or "", None)
        return Reply("OK", "", body)

    def send(self, method: str, payload: bytes) -> Reply:
        """Send bytes that are not a message of the API, to see how the server refuses them."""
        call = self._channel.unary_unary(
            f"/google.datastore.v1.Datastore/{method}",
            request_serializer=None,
            response_deserializer=None,
        )
        try:
            body = call(payload, timeout=CALL_TIMEOUT_S)
        except grpc.RpcError as error:
            return Reply(error.code().name, error.details() or "", None)
        return Reply("OK", "", body)

    def close(self) -> None:
        self._channel.close()

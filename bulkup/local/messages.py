"""The raw protobuf classes of Datastore v1, and splicing of serialized messages.

The public `google.cloud.datastore_v1` types are proto-plus wrappers, which cost about ten times as
much per entity; `pb()` returns the class underneath. Responses are assembled from the stored bytes
of entities, so that a read neither parses nor serializes them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from google.cloud.datastore_v1.types import datastore as _datastore
from google.cloud.datastore_v1.types import entity as _entity
from google.cloud.datastore_v1.types import query as _query
from google.cloud.datastore_v1.types import query_profile as _query_profile

AllocateIdsRequest: Any = _datastore.AllocateIdsRequest.pb()
AllocateIdsResponse: Any = _datastore.AllocateIdsResponse.pb()
BeginTransactionRequest: Any = _datastore.BeginTransactionRequest.pb()
BeginTransactionResponse: Any = _datastore.BeginTransactionResponse.pb()
CommitRequest: Any = _datastore.CommitRequest.pb()
CommitResponse: Any = _datastore.CommitResponse.pb()
LookupRequest: Any = _datastore.LookupRequest.pb()
LookupResponse: Any = _datastore.LookupResponse.pb()
Mutation: Any = _datastore.Mutation.pb()
MutationResult: Any = _datastore.MutationResult.pb()
PropertyTransform: Any = _datastore.PropertyTransform.pb()
ReadOptions: Any = _datastore.ReadOptions.pb()
ReserveIdsRequest: Any = _datastore.ReserveIdsRequest.pb()
ReserveIdsResponse: Any = _datastore.ReserveIdsResponse.pb()
RollbackRequest: Any = _datastore.RollbackRequest.pb()
RollbackResponse: Any = _datastore.RollbackResponse.pb()
RunAggregationQueryRequest: Any = _datastore.RunAggregationQueryRequest.pb()
RunAggregationQueryResponse: Any = _datastore.RunAggregationQueryResponse.pb()
RunQueryRequest: Any = _datastore.RunQueryRequest.pb()
RunQueryResponse: Any = _datastore.RunQueryResponse.pb()
TransactionOptions: Any = _datastore.TransactionOptions.pb()

Entity: Any = _entity.Entity.pb()
Key: Any = _entity.Key.pb()
Value: Any = _entity.Value.pb()

CompositeFilter: Any = _query.CompositeFilter.pb()
EntityResult: Any = _query.EntityResult.pb()
Filter: Any = _query.Filter.pb()
PropertyFilter: Any = _query.PropertyFilter.pb()
PropertyOrder: Any = _query.PropertyOrder.pb()
Query: Any = _query.Query.pb()
QueryResultBatch: Any = _query.QueryResultBatch.pb()

ExplainMetrics: Any = _query_profile.ExplainMetrics.pb()

MICROS = 1_000_000
_ONE_BYTE = [bytes((number,)) for number in range(0x80)]


def varint(number: int) -> bytes:
    """A non-negative integer as protobuf writes it."""
    if number < 0x80:
        return _ONE_BYTE[number]
    if number < 0x4000:
        return bytes((number & 0x7F | 0x80, number >> 7))
    out = []
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited field: a submessage, a string or bytes. `number` < 16."""
    return bytes((number << 3 | 2,)) + varint(len(payload)) + payload


def number_field(number: int, value: int) -> bytes:
    """A varint field; zero is left out, as in proto3. `number` < 16."""
    return bytes((number << 3,)) + varint(value) if value else b""


def timestamp(micros: int) -> bytes:
    """A serialized google.protobuf.Timestamp."""
    seconds, rest = divmod(micros, MICROS)
    out = b""
    if seconds:
        out = b"\x08" + varint(seconds & 0xFFFF_FFFF_FFFF_FFFF)
    if rest:
        out += b"\x10" + varint(rest * 1000)
    return out


def micros_of(stamp: Any) -> int:
    """A google.protobuf.Timestamp in microseconds, rounded down."""
    return int(stamp.seconds) * MICROS + int(stamp.nanos) // 1000


def add_found(out: list[bytes], body: bytes, version: int, created: int) -> int:
    """Add a stored entity to the pieces of a LookupResponse; returns the size of its result.

    The body is copied only once, when the pieces are joined.
    """
    times = _result_times(version, created)
    head, size = _found_head(len(body), len(times))
    out += (head, body, times)
    return size


@lru_cache(maxsize=16384)
def _found_head(body: int, times: int) -> tuple[bytes, int]:
    entity = b"\x0a" + varint(body)
    size = len(entity) + body + times
    return b"\x0a" + varint(size) + entity, size


def stored_result(body: bytes, version: int, created: int) -> bytes:
    """The fields of a stored entity's EntityResult, without its cursor."""
    return b"\x0a" + varint(len(body)) + body + _result_times(version, created)


@lru_cache(maxsize=1024)  # entities of one commit share them
def _result_times(version: int, created: int) -> bytes:
    return b"\x20" + varint(version) + field(5, timestamp(version)) + field(6, timestamp(created))


@lru_cache(maxsize=1024)
def mutation_times(version: int, created: int) -> bytes:
    """The update and create time of a MutationResult."""
    return field(6, timestamp(version)) + field(7, timestamp(created))

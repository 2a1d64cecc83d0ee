"""The messages of `google.datastore.v1`, as raw upb classes and never as proto-plus ones: wrapping
a single key costs more than everything else bulkup does with an entity.

This is the only file that imports `google.cloud.datastore_v1`.
"""

from __future__ import annotations

from typing import Any, TypeAlias

from google.cloud.datastore_v1.types import datastore as _datastore
from google.cloud.datastore_v1.types import entity as _entity
from google.cloud.datastore_v1.types import query as _query

Pb: TypeAlias = Any
"""A raw upb message. No type checker knows these classes: protobuf makes them at run time."""

EntityPb: Any = _entity.Entity.pb()
KeyPb: Any = _entity.Key.pb()
ValuePb: Any = _entity.Value.pb()

QueryPb: Any = _query.Query.pb()
EntityResultPb: Any = _query.EntityResult.pb()
QueryResultBatchPb: Any = _query.QueryResultBatch.pb()
FULL: Any = _query.EntityResult.ResultType.FULL
AND: Any = _query.CompositeFilter.Operator.AND
OR: Any = _query.CompositeFilter.Operator.OR
Operator: Any = _query.PropertyFilter.Operator
Direction: Any = _query.PropertyOrder.Direction
MoreResults: Any = _query.QueryResultBatch.MoreResultsType

Mutation: Any = _datastore.Mutation.pb()
CommitRequest: Any = _datastore.CommitRequest.pb()
CommitResponse: Any = _datastore.CommitResponse.pb()
RunQueryRequest: Any = _datastore.RunQueryRequest.pb()
RunQueryResponse: Any = _datastore.RunQueryResponse.pb()
RunAggregationQueryRequest: Any = _datastore.RunAggregationQueryRequest.pb()
RunAggregationQueryResponse: Any = _datastore.RunAggregationQueryResponse.pb()
LookupRequest: Any = _datastore.LookupRequest.pb()
LookupResponse: Any = _datastore.LookupResponse.pb()
AllocateIdsRequest: Any = _datastore.AllocateIdsRequest.pb()
AllocateIdsResponse: Any = _datastore.AllocateIdsResponse.pb()

"""A raw client for tests: the calls of the API as keyword arguments, against any server."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
import pytest

from bulkup.local import messages as m

NOT_FINISHED = m.QueryResultBatch.NOT_FINISHED
FAIL = m.Mutation.FAIL
SERVER_VALUE = m.Mutation.SERVER_VALUE
_CALLS = {
    "Lookup": m.LookupResponse,
    "RunQuery": m.RunQueryResponse,
    "RunAggregationQuery": m.RunAggregationQueryResponse,
    "BeginTransaction": m.BeginTransactionResponse,
    "Commit": m.CommitResponse,
    "Rollback": m.RollbackResponse,
    "AllocateIds": m.AllocateIdsResponse,
    "ReserveIds": m.ReserveIdsResponse,
}


class Rpc:
    """One channel to a server; errors are `grpc.RpcError`."""

    def __init__(self, host: str, project: str = "p", namespace: str = "", database: str = ""):
        self.project = project
        self.namespace = namespace
        self.database = database
        self.channel = grpc.insecure_channel(
            host, options=[("grpc.max_receive_message_length", -1)]
        )
        self._calls = {
            name: self.channel.unary_unary(f"/google.datastore.v1.Datastore/{name}", None, None)
            for name in _CALLS
        }

    def close(self) -> None:
        self.channel.close()

    def call(self, name: str, request: Any, timeout: float = 30) -> Any:
        request.project_id = request.project_id or self.project
        request.database_id = request.database_id or self.database
        raw = self._calls[name](request.SerializeToString(), timeout=timeout)
        return _CALLS[name].FromString(raw)

    def key(self, *path: Any) -> Any:
        """`key("A", 1, "B", "x")`; a last kind without id makes the key incomplete."""
        key = m.Key()
        key.partition_id.project_id = self.project
        key.partition_id.namespace_id = self.namespace
        key.partition_id.database_id = self.database
        for at in range(0, len(path), 2):
            element = key.path.add(kind=path[at])
            ident = path[at + 1] if at + 1 < len(path) else None
            if isinstance(ident, str):
                element.name = ident
            elif ident is not None:
                element.id = ident
        return key

    def entity(self, *path: Any, **properties: Any) -> Any:
        entity = m.Entity(key=self.key(*path))
        for name, one in properties.items():
            entity.properties[name].CopyFrom(to_value(one))
        return entity

    def commit(
        self,
        mutations: Iterable[Any],
        *,
        transaction: bytes = b"",
        transactional: bool = True,
        timeout: float = 30,
    ) -> Any:
        """Commit in `transaction`, in a single-use transaction, or without one."""
        request = m.CommitRequest(mode=1 if transactional else 2, mutations=mutations)
        if transaction:
            request.transaction = transaction
        elif transactional:
            request.single_use_transaction.read_write.SetInParent()
        return self.call("Commit", request, timeout)

    def put(self, *entities: Any) -> Any:
        return self.commit([m.Mutation(upsert=entity) for entity in entities])

    def delete(self, *keys: Any) -> Any:
        return self.commit([m.Mutation(delete=key) for key in keys])

    def begin(self, *, read_only: bool = False) -> bytes:
        request = m.BeginTransactionRequest()
        if read_only:
            request.transaction_options.read_only.SetInParent()
        return bytes(self.call("BeginTransaction", request).transaction)

    def rollback(self, transaction: bytes) -> None:
        self.call("Rollback", m.RollbackRequest(transaction=transaction))

    def lookup(self, *keys: Any, transaction: bytes = b"", **fields: Any) -> Any:
        request = m.LookupRequest(keys=keys, **fields)
        if transaction:
            request.read_options.transaction = transaction
        return self.call("Lookup", request)

    def get(self, key: Any, transaction: bytes = b"") -> Any | None:
        """The EntityResult, or None if there is none."""
        found = self.lookup(key, transaction=transaction).found
        return found[0] if found else None

    def run(self, query: Any, transaction: bytes = b"", **fields: Any) -> Any:
        """One batch."""
        request = m.RunQueryRequest(query=query, **fields)
        request.partition_id.project_id = self.project
        request.partition_id.namespace_id = self.namespace
        request.partition_id.database_id = self.database
        if transaction:
            request.read_options.transaction = transaction
        return self.call("RunQuery", request).batch

    def all(self, query: Any, transaction: bytes = b"") -> list[Any]:
        """All results of a query, paged as the official client does."""
        asked = m.Query()
        asked.CopyFrom(query)
        results: list[Any] = []
        while True:
            batch = self.run(asked, transaction)
            results += batch.entity_results
            if batch.more_results != NOT_FINISHED:
                return results
            asked.start_cursor = batch.end_cursor
            asked.offset -= batch.skipped_results
            if asked.HasField("limit"):
                asked.limit.value -= len(batch.entity_results)


def to_value(one: Any) -> Any:
    """The Value of a Python value; a Value is returned unchanged."""
    if isinstance(one, m.Value):
        return one
    out = m.Value()
    if one is None:
        out.null_value = 0
    elif isinstance(one, bool):
        out.boolean_value = one
    elif isinstance(one, int):
        out.integer_value = one
    elif isinstance(one, float):
        out.double_value = one
    elif isinstance(one, str):
        out.string_value = one
    elif isinstance(one, bytes):
        out.blob_value = one
    elif isinstance(one, list):
        out.array_value.SetInParent()
        out.array_value.values.extend(to_value(each) for each in one)
    elif isinstance(one, dict):
        out.entity_value.SetInParent()
        for name, each in one.items():
            out.entity_value.properties[name].CopyFrom(to_value(each))
    elif isinstance(one, m.Key):
        out.key_value.CopyFrom(one)
    else:
        raise TypeError(f"no Value for {one!r}")
    return out


def unindexed(one: Any) -> Any:
    out = m.Value()
    out.CopyFrom(to_value(one))
    out.exclude_from_indexes = True
    return out


OPS = {
    "=": m.PropertyFilter.EQUAL,
    "<": m.PropertyFilter.LESS_THAN,
    "<=": m.PropertyFilter.LESS_THAN_OR_EQUAL,
    ">": m.PropertyFilter.GREATER_THAN,
    ">=": m.PropertyFilter.GREATER_THAN_OR_EQUAL,
    "!=": m.PropertyFilter.NOT_EQUAL,
    "in": m.PropertyFilter.IN,
    "not in": m.PropertyFilter.NOT_IN,
    "under": m.PropertyFilter.HAS_ANCESTOR,
}


def where(name: str, op: str, one: Any) -> Any:
    """A filter on one property."""
    filter_ = m.Filter()
    filter_.property_filter.property.name = name
    filter_.property_filter.op = OPS[op]
    filter_.property_filter.value.CopyFrom(to_value(one))
    return filter_


def both(*filters: Any) -> Any:
    out = m.Filter()
    out.composite_filter.op = m.CompositeFilter.AND
    out.composite_filter.filters.extend(filters)
    return out


def either(*filters: Any) -> Any:
    out = m.Filter()
    out.composite_filter.op = m.CompositeFilter.OR
    out.composite_filter.filters.extend(filters)
    return out


def query(
    kind: str | None = "K",
    filter_: Any = None,
    order: Iterable[str] = (),
    *,
    project: Iterable[str] = (),
    distinct: Iterable[str] = (),
    limit: int | None = None,
    offset: int = 0,
    start: bytes = b"",
    end: bytes = b"",
) -> Any:
    """A Query; `-name` orders descending."""
    out = m.Query(offset=offset, start_cursor=start, end_cursor=end)
    if kind is not None:
        out.kind.add(name=kind)
    if filter_ is not None:
        out.filter.CopyFrom(filter_)
    for name in order:
        one = out.order.add()
        one.property.name = name.lstrip("-")
        one.direction = 2 if name.startswith("-") else 1
    for name in project:
        out.projection.add().property.name = name
    for name in distinct:
        out.distinct_on.add(name=name)
    if limit is not None:
        out.limit.value = limit
    return out


def idents(results: Iterable[Any]) -> list[Any]:
    """Id or name of each result."""
    return [one.entity.key.path[-1].id or one.entity.key.path[-1].name for one in results]


def refused(call: Any, *arguments: Any, **more: Any) -> tuple[grpc.StatusCode, str]:
    """What a call is refused with: code and message."""
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **more)
    return caught.value.code(), caught.value.details() or ""

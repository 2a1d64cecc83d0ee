"""Where a query may be split into shards: a sample of its keys.

The service and most emulators keep the property `__scatter__` for some of the entities; ordering by
it gives keys that are as good as random. If that gives none, the query is counted and keys at equal
distances are read.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import Any

from bulkup.datastore.call import Call
from bulkup.datastore.call_error import CallError
from bulkup.datastore.keys import key_of
from bulkup.datastore.messages import Direction, MoreResults, Operator, QueryPb
from bulkup.datastore.rpc import Rpc, count_of
from bulkup.engine.scan import QueryPlan

KEYS_PER_SHARD = 32
"""Keys in a sample, per shard: single keys are spread unevenly, and several show how much each
shard has left. The App Engine mapreduce library and Beam use the same number."""

MAX_SAMPLE = 1000

PROBED_PER_SHARD = 4
MIN_PROBED_ENTITIES = 500
"""Below this, splitting costs more than it gains."""


Order = tuple[Any, ...]
"""Compares in Datastore's order of keys."""


def key_order(key: Any) -> Order:
    """A sort key: by kind, then ids before names; an ancestor before its descendants."""
    order: list[Any] = []
    for element in key.path:
        is_name = element.WhichOneof("id_type") == "name"
        order.append(
            (element.kind.encode(), is_name, element.name.encode() if is_name else element.id)
        )
    return tuple(order)


def why_not_split(query: QueryPlan) -> str | None:
    """Why a query cannot be split by keys; None if it can."""
    if query.ranged:
        return f"it orders or ranges on {', '.join(sorted(query.ranged))}"
    if any(order.direction == Direction.DESCENDING for order in query.pb.order):
        return "it reads the keys in descending order"
    if len(query.pb.kind) != 1:
        return "it has no kind"
    return None


class Sample:
    """Some keys of a query, in order."""

    def __init__(self, keys: Sequence[Any]) -> None:
        ordered = sorted((key_order(key), key.SerializeToString()) for key in keys)
        self._orders = [order for order, _ in ordered]
        self._keys = [key for _, key in ordered]

    def inside(self, after: bytes, upto: bytes) -> Sequence[bytes]:
        """The keys greater than `after` and less than `upto`, serialized; empty: no bound."""
        first = bisect_right(self._orders, key_order(key_of(after))) if after else 0
        last = bisect_left(self._orders, key_order(key_of(upto))) if upto else len(self._keys)
        return self._keys[first:last]


class Scatter:
    """Keys of a query's kind that have the property `__scatter__`, in its order: as good as random.

    Creating it sends the request; `take` waits for the answer.
    """

    def __init__(self, rpc: Rpc, query: QueryPlan, wanted: int) -> None:
        self._rpc = rpc
        self._namespace = query.namespace
        self._wanted = wanted
        # Of the whole kind: a filter together with this order would need an index of its own.
        self._pb = QueryPb()
        self._pb.kind.extend(query.pb.kind)
        self._pb.order.add(direction=Direction.ASCENDING).property.name = "__scatter__"
        self._pb.projection.add().property.name = "__key__"
        self._first = self._request(wanted)

    def _request(self, wanted: int) -> Call[Any]:
        self._pb.limit.value = wanted
        return self._rpc.run_query(self._pb, self._namespace)

    def take(self) -> list[Any]:
        """The first `wanted` keys; fewer if fewer entities have the property. Raises CallError."""
        keys: list[Any] = []
        call = self._first
        while True:
            try:
                batch = call.result().batch
            except CallError as error:
                if not error.cannot_run_query:
                    raise
                return keys  # a server without this property: the run can do without it
            keys.extend(result.entity.key for result in batch.entity_results)
            over = batch.more_results == MoreResults.NO_MORE_RESULTS
            if over or not batch.entity_results or len(keys) >= self._wanted:
                return keys
            self._pb.start_cursor = batch.end_cursor
            call = self._request(self._wanted - len(keys))


class Sampling:
    """A sample of keys to split a query at, into `shards` that are worked on at once.

    Creating it sends the request; `take` waits for the answer.
    """

    def __init__(self, rpc: Rpc, query: QueryPlan, shards: int) -> None:
        self._rpc = rpc
        self._query = query
        self.shards = shards
        self._wanted = min(MAX_SAMPLE, shards * KEYS_PER_SHARD)
        self._scatter = Scatter(rpc, query, self._wanted)

    def take(self) -> Sample:
        """Raises CallError."""
        keys = self._scatter.take()
        ancestor = _ancestor(self._query.pb.filter)
        if ancestor is not None:
            keys = [key for key in keys if key_order(key)[: len(ancestor)] == ancestor]
        return Sample(keys or _probed(self._rpc, self._query, self.shards * PROBED_PER_SHARD))


def _ancestor(part: Any) -> Order | None:
    kind = part.WhichOneof("filter_type")
    if kind == "composite_filter":
        for inner in part.composite_filter.filters:
            found = _ancestor(inner)
            if found is not None:
                return found
    elif kind and part.property_filter.op == Operator.HAS_ANCESTOR:
        return key_order(part.property_filter.value.key_value)
    return None


def _probed(rpc: Rpc, query: QueryPlan, wanted: int) -> list[Any]:
    """Keys of the query at equal distances; none if the server cannot count."""
    try:
        total = count_of(rpc.count(query.pb, query.namespace).result())
    except CallError as error:
        if not error.cannot_run_query:
            raise
        return []
    if total < MIN_PROBED_ENTITIES:
        return []
    pb = QueryPb()
    pb.CopyFrom(query.pb)
    del pb.projection[:]
    pb.projection.add().property.name = "__key__"
    keys: list[Any] = []
    step = total // (wanted + 1)
    for _ in range(wanted):
        found = _skip(rpc, query, pb, step)
        if found is None:
            break
        keys.append(found)
    return keys


def _skip(rpc: Rpc, query: QueryPlan, pb: Any, offset: int) -> Any:
    """Skip `offset` results and return the next key, with the cursor after it; None if there are no
    more."""
    pb.limit.value = 1
    left = offset
    while True:
        pb.offset = left
        batch = rpc.run_query(pb, query.namespace).result().batch
        left -= batch.skipped_results
        for result in batch.entity_results:
            pb.start_cursor = result.cursor
            return result.entity.key
        if not batch.skipped_results or batch.more_results != MoreResults.NOT_FINISHED:
            return None
        pb.start_cursor = batch.skipped_cursor or batch.end_cursor

"""Which entities a plan handles: all of them, or some that are drawn one by one.

Two ways give every entity the same chance, whatever its content and its neighbours, so that no
cluster of similar entities weighs more than it should:

- `__scatter__` is a hash of the key, kept for some of a kind's entities. The first ones in its
  order are a random sample of the kind. Only for a query by kind alone, of a server that keeps it
  for enough entities.
- Otherwise all keys of the query are read, and some of them drawn. Keys cost no entity reads (they
  are small operations), and are read about ten times as fast as entities.

Runs of neighbours from a few random places would be faster for a large query with filters. But
neighbours are often alike (one tenant, one month), so their number says little about how much is
known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from random import Random
from typing import Any

from bulkup.core.plan import Drawn, Total
from bulkup.datastore.call_error import CallError
from bulkup.datastore.keys import key_bytes
from bulkup.datastore.messages import EntityPb, KeyPb, QueryPb
from bulkup.datastore.pages import PageEntity, PageResult
from bulkup.datastore.rpc import Rpc, count_of
from bulkup.engine.dry_run import SeenKeys
from bulkup.engine.scan import QueryPlan
from bulkup.engine.splits import Scatter, key_order, why_not_split
from bulkup.state.kinds import OWN_KINDS

LOOKED_UP_AT_ONCE = 200
"""Entities may have 1 MiB, and a page of them is kept in memory."""

KEYS_PER_PAGE = 1000
CHECK_EVERY = 300


@dataclass(frozen=True)
class Sample:
    """The keys that were drawn, in the order in which a run would reach them."""

    drawn: Drawn
    keys: Sequence[Any]
    total: int
    """Entities that match."""
    total_is: Total


Check = Callable[[], None]
"""Called now and then; raises Stopped when the user has asked to stop."""


def count(rpc: Rpc, query: QueryPlan, check: Check) -> int | None:
    """How many entities match; None where the server cannot count, or not in one attempt.

    A kindless query also matches entities of bulkup's own, which a run leaves out.
    """
    if query.is_kindless:
        return None
    call = rpc.count(query.pb, query.namespace)
    while True:
        rpc.arrived.clear()
        if call.done():
            break
        rpc.wait()
        check()
    try:
        return count_of(call.first_answer())
    except CallError as error:
        if error.lacks_permission:
            raise
        return None


def draw(
    rpc: Rpc, query: QueryPlan, wanted: int, total: int | None, random: Random, check: Check
) -> Sample:
    """Draw keys. `total`: from `count`. Raises CallError."""
    if is_plain_kind(query):
        known = (total, Total.COUNTED) if total is not None else _by_statistics(rpc, query)
        if known is not None:
            keys = Scatter(rpc, query, wanted).take()
            if len(keys) >= wanted:
                keys = sorted(keys[:wanted], key=key_order)
                return Sample(Drawn.SCATTER, keys, max(known[0], wanted + 1), known[1])
    return _from_all_keys(rpc, query, wanted, random, check)


def is_plain_kind(query: QueryPlan) -> bool:
    """Whether the query is for a kind, without conditions and orders. For any other query, all keys
    are read."""
    return why_not_split(query) is None and not query.pb.filter.WhichOneof("filter_type")


def _from_all_keys(rpc: Rpc, query: QueryPlan, wanted: int, random: Random, check: Check) -> Sample:
    """Reservoir sampling: of all keys seen so far, each is kept with the same chance."""
    pb = QueryPb()
    pb.CopyFrom(query.pb)
    if not query.keys_only:
        pb.projection.add().property.name = "__key__"
    pb.limit.value = KEYS_PER_PAGE
    kept: list[tuple[int, Any]] = []
    total = 0
    # A query that orders or ranges on a property returns an entity once for each array element.
    with SeenKeys() if query.ranged else nullcontext() as seen:
        for result in rpc.results(pb, query.namespace):
            key = result.entity.key
            if query.is_kindless and key.path[-1].kind in OWN_KINDS:
                continue
            if seen is not None and not seen.add(key_bytes(key)):
                continue
            total += 1
            if len(kept) < wanted:
                kept.append((total, key))
            elif (place := random.randrange(total)) < wanted:
                kept[place] = total, key
            if total % CHECK_EVERY == 0:
                check()
    keys = [key for _, key in sorted(kept, key=lambda one: one[0])]
    return Sample(Drawn.KEYS if total > wanted else Drawn.ALL, keys, total, Total.READ)


def _by_statistics(rpc: Rpc, query: QueryPlan) -> tuple[int, Total] | None:
    """How many entities the kind has, according to the statistics that the service keeps per
    namespace.

    The emulators keep none, and a new database has none for a day.
    """
    key = KeyPb()
    key.partition_id.project_id = rpc.project
    if rpc.database:
        key.partition_id.database_id = rpc.database
    if query.namespace:
        key.partition_id.namespace_id = query.namespace
    key.path.add(kind="__Stat_Ns_Kind__", name=query.pb.kind[0].name)
    try:
        found = rpc.lookup([key])
    except CallError as error:
        if not error.is_unsupported:
            raise
        return None
    for result in found.values():
        return int(result.entity.properties["count"].integer_value), Total.ESTIMATED
    return None


def drawn_pages(
    rpc: Rpc, query: QueryPlan, keys: Sequence[Any]
) -> Iterator[tuple[Sequence[Any], int]]:
    """The entities of these keys as pages of PageResults, and how many have vanished since they
    were drawn. Raises CallError."""
    for start in range(0, len(keys), LOOKED_UP_AT_ONCE):
        asked = keys[start : start + LOOKED_UP_AT_ONCE]
        if query.keys_only:
            page = [PageResult(entity=_page_entity(EntityPb(key=key))) for key in asked]
        else:
            found = rpc.lookup(asked)
            results = (found.get(key.SerializeToString(deterministic=True)) for key in asked)
            page = [
                PageResult(entity=_page_entity(result.entity), version=result.version)
                for result in results
                if result is not None
            ]
        yield page, len(asked) - len(page)


def _page_entity(entity: Any) -> Any:
    return PageEntity.FromString(entity.SerializeToString())

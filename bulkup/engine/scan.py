"""Checks a query and reads it in pages: the cursor chain of one shard, one page ahead."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.cloud.datastore import Client, Query

from bulkup.core.errors import QueryError
from bulkup.core.model import TargetInfo
from bulkup.core.records import Shard
from bulkup.core.selection import EVERYTHING, Selection
from bulkup.datastore.call import Call
from bulkup.datastore.call_error import CallError
from bulkup.datastore.google_private import query_message
from bulkup.datastore.keys import key_of
from bulkup.datastore.messages import AND, MoreResults, Operator, QueryPb
from bulkup.datastore.rpc import Rpc
from bulkup.engine.query_target import check_target
from bulkup.engine.selecting import narrow, shown_query
from bulkup.state.kinds import OWN_KINDS

_ONE_VALUE = (Operator.EQUAL, Operator.IN, Operator.HAS_ANCESTOR)
"""Conditions that match one value: their results come in key order, whatever a handler changes."""

MAX_PAGE_BYTES = 1024 * 1024
"""A page must not hold 500 entities of 1 MiB, because each active shard keeps two pages in memory.
With twice as much, a run of such entities takes 15 MiB more, for buffers that the allocator keeps;
more shards gain as much speed without that cost."""


@dataclass(frozen=True)
class QueryPlan:
    """A checked query, in the form that is sent."""

    pb: Any
    namespace: str
    keys_only: bool
    has_filters: bool
    """Whether a changed property may take an entity out of the result. False for a plain kind or
    ancestor query."""
    ranged: frozenset[str]
    """Properties it orders or ranges on. A change of one of these moves the entity within the scan,
    perhaps ahead, where it is read again (the Halloween problem). And one server returns an entity
    once for each element of an array that the query orders or ranges on."""
    is_repeated: bool = False
    """Everything was handled before: this is a further pass (`--until-clean`)."""
    since_ns: int = 0
    """Entities that were not changed after this time are not handled; see `RunInfo`."""

    def fingerprint(self, target: TargetInfo) -> str:
        """Changes when the query or its target changes."""
        where = (target.project, target.database, self.namespace, target.emulator, target.local)
        digest = hashlib.sha256(repr(where).encode())
        digest.update(self.pb.SerializeToString(deterministic=True))
        return digest.hexdigest()

    def identity(self, spec: str, params: Mapping[str, str]) -> str:
        """The same for the same updater, parameters and query, on any machine.

        Only the name of the file counts: another machine has it in another folder.
        """
        work = spec.rpartition("/")[2], sorted(params.items())
        digest = hashlib.sha256(repr(work).encode())
        digest.update(self.namespace.encode())
        digest.update(self.pb.SerializeToString(deterministic=True))
        return digest.hexdigest()

    def shown_for(self, selection: Selection, target: TargetInfo) -> str:
        """The updater's query as a selection has narrowed it, in GQL; empty if there is no
        selection."""
        return shown_query(self.pb, target) if selection else ""

    @property
    def digest(self) -> str:
        """Digest of the key list that replaces the query's results; empty if there is none."""
        return ""

    @property
    def meets_new_entities(self) -> bool:
        """Whether the scan may meet an entity that the run itself has made."""
        return True

    def without_entity(self, key: bytes) -> Any:
        """The PageResult to handle if no entity has this key; None: nothing is handled."""
        return None

    def keep_in(self, folder: Path) -> None:
        """Keep in the run's folder what a resumed run needs besides its updater."""

    def close(self) -> None:
        """Release what the plan reads from."""

    @property
    def is_kindless(self) -> bool:
        return not self.pb.kind

    def narrowed_to(self, key: Any) -> Any:
        """The same query, narrowed to one entity (a raw key)."""
        pb = self._narrowed([("EQUAL", key)])
        del pb.order[:]
        pb.limit.value = 1
        return pb

    def between(self, after: bytes, upto: bytes) -> Any:
        """The same query, narrowed to keys greater than `after` and at most `upto`, both
        serialized; empty: no bound."""
        bounds = []
        if after:
            bounds.append(("GREATER_THAN", key_of(after)))
        if upto:
            bounds.append(("LESS_THAN_OR_EQUAL", key_of(upto)))
        return self._narrowed(bounds)

    def _narrowed(self, bounds: Sequence[tuple[str, Any]]) -> Any:
        pb = QueryPb()
        pb.CopyFrom(self.pb)
        for operator, key in bounds:
            part = pb.filter.composite_filter.filters.add().property_filter
            part.property.name = "__key__"
            part.op = Operator[operator]
            part.value.key_value.CopyFrom(key)
            pb.filter.composite_filter.op = AND
        return pb


def plan_query(query: object, client: Client, selection: Selection = EVERYTHING) -> QueryPlan:
    """Check what an updater's `get_query` returned, and narrow it to what the user has selected.
    Raises QueryError with the reason."""
    if not isinstance(query, Query):
        what = "nothing" if query is None else f"a {type(query).__name__}"
        raise QueryError(
            f"get_query returned {what}; return a query: `return self.client.query(kind=...)`"
        )
    keys_only = list(query.projection) == ["__key__"]
    if query.distinct_on or (query.projection and not keys_only):
        raise QueryError(
            "a projection query returns parts of entities, and writing these back would lose the "
            "rest: drop projection and distinct_on from get_query (keys_only() is fine)"
        )
    pb = query_message(query)
    narrow(pb, selection, client)
    check_target(query, pb, client)
    filters = [f for f in pb.filter.composite_filter.filters if not _is_key_filter(f)]
    ranged = {order.property.name for order in pb.order} | set(_ranged_in(pb.filter))
    return QueryPlan(
        pb, query.namespace or "", keys_only, bool(filters), frozenset(ranged - {"__key__"})
    )


def _ranged_in(part: Any) -> Iterator[str]:
    """The properties of all conditions that more than one value can meet."""
    kind = part.WhichOneof("filter_type")
    if kind == "composite_filter":
        for inner in part.composite_filter.filters:
            yield from _ranged_in(inner)
    elif kind and part.property_filter.op not in _ONE_VALUE:
        yield part.property_filter.property.name


def _is_key_filter(part: Any) -> bool:
    if part.WhichOneof("filter_type") != "property_filter":
        return False
    return bool(part.property_filter.property.name == "__key__")


class Scan:
    """The pages of one shard, from its low-water mark to its end; one is read ahead.

    `entity_bytes`: the expected size of an entity; 0: unknown. `wanted`: how many entities the
    caller will take at most, so that no page is requested for nothing; None: all.
    """

    def __init__(
        self, rpc: Rpc, query: QueryPlan, shard: Shard, page_size: int, *,
        entity_bytes: int = 0, wanted: int | None = None,
    ) -> None:  # fmt: skip
        self._rpc = rpc
        self._query = query
        self._shard = shard.id
        self.page_size = page_size
        """The maximum number of entities per page, for pages that are requested from now on."""
        self._entity_bytes = max(1, entity_bytes)
        self._wanted = sys.maxsize if wanted is None else wanted
        self._most = page_size
        """The maximum number of entities in the next page, after a page that was too large. It
        grows slowly: small entities say nothing about those after them."""
        self._pb = query.between(shard.after, shard.upto)
        if shard.low_cursor:
            self._pb.start_cursor = shard.low_cursor
        if shard.end:
            self._pb.end_cursor = shard.end
        self._ahead: Call[Any] | None = self._request_page()

    def _request_page(self) -> Call[Any]:
        fitting = max(1, MAX_PAGE_BYTES // self._entity_bytes)
        self._pb.limit.value = min(self.page_size, fitting, self._most, self._wanted)
        call = self._rpc.page(self._pb, self._query.namespace)
        call.shard = self._shard
        return call

    @property
    def is_over(self) -> bool:
        return self._ahead is None

    @property
    def is_ready(self) -> bool:
        """Whether `take` returns without waiting, unless the call has to be sent again."""
        return self._ahead is not None and self._ahead.done()

    def take(self) -> Sequence[Any]:
        """Return the next PageResult messages, each with its own cursor, and request the page
        after them. Raises CallError.

        The scan ends with an empty page, or when the server says that there are no more results. A
        short page is not the end (servers end pages where they like), nor is an empty one that
        moved the cursor and says NOT_FINISHED. One emulator never says that there are no more
        results; another leaves the cursor of an empty page empty, so an empty cursor is never used.
        """
        assert self._ahead is not None
        ahead, self._ahead = self._ahead, None
        batch = self._answer(ahead).batch
        results = batch.entity_results
        moved = batch.end_cursor not in (b"", self._pb.start_cursor)
        unfinished = batch.more_results == MoreResults.NOT_FINISHED and moved
        self._wanted -= len(results)
        over = batch.more_results == MoreResults.NO_MORE_RESULTS or self._wanted <= 0
        if not over and (results or unfinished):
            self._pb.start_cursor = results[-1].cursor if results else batch.end_cursor
            self._ahead = self._request_page()
        if self._query.is_kindless:
            return [r for r in results if key_of(r.entity.key).path[-1].kind not in OWN_KINDS]
        return list(results)

    def _answer(self, page: Call[Any]) -> Any:
        """The page, or a smaller one if the answer is too large to receive. Raises CallError."""
        while True:
            asked = self._pb.limit.value
            try:
                answer = page.result()
            except CallError as error:
                fewer = error.fewer(asked)
                if not fewer:
                    raise
                self._most = fewer
                page = self._request_page()
                continue
            if count := len(answer.batch.entity_results):
                self._entity_bytes = page.answer_bytes // count + 1
            self._most = 2 * asked
            return answer

    def close(self) -> None:
        if self._ahead is not None:
            self._ahead.cancel()
            self._ahead = None

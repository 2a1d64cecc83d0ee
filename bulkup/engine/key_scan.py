"""A list of keys in place of a query: what the run plans with, and how a shard reads its part.

The cursor of an entity is its key, so any runner can continue from it with its own copy of the
list. Everything after the scan (shards, batches, markers, recovery, conflicts) works as for a
query.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bulkup.core.model import TargetInfo
from bulkup.core.records import Shard
from bulkup.core.selection import Selection
from bulkup.datastore.call import Call
from bulkup.datastore.call_error import CallError
from bulkup.datastore.found_pages import request_found, results_in_order
from bulkup.datastore.keys import key_of
from bulkup.datastore.messages import Operator, Pb, QueryPb
from bulkup.datastore.pages import absent_result
from bulkup.datastore.rpc import MAX_LOOKUP_KEYS, Rpc
from bulkup.engine.scan import MAX_PAGE_BYTES, QueryPlan, Scan
from bulkup.engine.splits import KEYS_PER_SHARD, MAX_SAMPLE, Sample
from bulkup.state.key_list import KeyFacts, KeyList

QUERIES_AT_ONCE = 64
"""How many queries are in flight if each entity is read by a query of its own."""


_NO_KEYS = KeyFacts("", 0, "")


@dataclass(frozen=True)
class KeyPlan(QueryPlan):
    """A query whose results are replaced by a list of keys."""

    keys: KeyFacts = _NO_KEYS
    list: KeyList | None = None
    """None in a worker process, which is sent entities and reads none."""

    @classmethod
    def of(cls, query: QueryPlan, keys: KeyFacts, key_list: KeyList | None) -> KeyPlan:
        """`query`: the updater's. Its kinds apply; its filters apply only if the list has only
        entities that match them."""
        pb = QueryPb()
        pb.CopyFrom(query.pb)
        del pb.projection[:]  # entities are read whole, so that they may be put
        del pb.order[:]
        return cls(
            pb, query.namespace, False, query.has_filters and keys.matching, frozenset(),
            keys=keys, list=key_list,
        )  # fmt: skip

    def fingerprint(self, target: TargetInfo) -> str:
        return self._with_keys(self._kinds_alone().fingerprint(target))

    def identity(self, spec: str, params: Mapping[str, str]) -> str:
        return self._with_keys(self._kinds_alone().identity(spec, params))

    def _kinds_alone(self) -> QueryPlan:
        """The plan with its kinds alone. The list says which entities the work is about, so fixing
        a filter does not make it different work."""
        pb = QueryPb(kind=self.pb.kind)
        return QueryPlan(pb, self.namespace, False, has_filters=False, ranged=frozenset())

    def _with_keys(self, of_kinds: str) -> str:
        return hashlib.sha256(f"{of_kinds} {self.keys.digest}".encode()).hexdigest()

    def shown_for(self, selection: Selection, target: TargetInfo) -> str:
        return ""

    @property
    def digest(self) -> str:
        return self.keys.digest

    @property
    def meets_new_entities(self) -> bool:
        return False  # each key of the list is met once, whatever the run makes

    def narrowed_to(self, key: Pb) -> Pb:
        if self.has_filters:
            return super().narrowed_to(key)
        pb = QueryPb()
        pb.kind.add(name=key.path[-1].kind)
        pb.limit.value = 1
        part = pb.filter.property_filter
        part.property.name = "__key__"
        part.op = Operator.EQUAL
        part.value.key_value.CopyFrom(key)
        return pb

    def without_entity(self, key: bytes) -> Any:
        return absent_result(key) if self.keys.absent else None

    def keep_in(self, folder: Path) -> None:
        if self.list is not None:
            self.list.keep_in(folder)

    def close(self) -> None:
        if self.list is not None:
            self.list.close()


def first_of(rpc: Rpc, plan: KeyPlan) -> Sequence[Any]:
    """The PageResult of the first key of a list, which shows that the server answers. Raises
    CallError."""
    assert plan.list is not None
    keys = plan.list.between(b"", b"", 1)
    return list(request_found(rpc, keys).result().found)


class KeySampling:
    """Keys of a list at equal distances, at which the run is split into `shards`."""

    def __init__(self, key_list: KeyList, shards: int) -> None:
        self._list = key_list
        self.shards = shards

    def take(self) -> Sample:
        wanted = min(MAX_SAMPLE, self.shards * KEYS_PER_SHARD)
        return Sample([key_of(key) for key in self._list.spread(wanted)])


class KeyScan:
    """The pages of one shard of a list; like `Scan`, with one page read ahead."""

    def __init__(
        self, rpc: Rpc, plan: KeyPlan, shard: Shard, page_size: int, *,
        entity_bytes: int = 0,
    ) -> None:  # fmt: skip
        assert plan.list is not None
        self._rpc = rpc
        self._plan = plan
        self._list = plan.list
        self._shard = shard.id
        self.page_size = page_size
        """The maximum number of entities per page, for pages that are requested from now on."""
        self._entity_bytes = max(1, entity_bytes)
        self._most = MAX_LOOKUP_KEYS if not plan.has_filters else QUERIES_AT_ONCE
        self._most_next = self._most
        """The maximum number of entities in the next page, after a page that was too large. It
        grows slowly."""
        self._after = shard.low_cursor or shard.start or shard.after
        self._upto = shard.end or shard.upto
        self._keys: Sequence[bytes] = ()
        """The keys of the page that is read ahead."""
        self._ahead: Sequence[Call[Any]] = ()
        """The calls that read it: one, or one for each key."""
        self._request()

    def _request(self) -> None:
        fitting = max(1, MAX_PAGE_BYTES // self._entity_bytes)
        most = min(self.page_size, fitting, self._most, self._most_next)
        self._keys = self._list.between(self._after, self._upto, most)
        if not self._keys:
            self._ahead = ()
        elif self._plan.has_filters:
            self._ahead = [
                self._rpc.page(self._plan.narrowed_to(key_of(key)), self._plan.namespace)
                for key in self._keys
            ]
        else:
            call = request_found(self._rpc, self._keys)
            call.shard, call.entities = self._shard, len(self._keys)
            self._ahead = [call]

    @property
    def is_over(self) -> bool:
        return not self._keys

    @property
    def is_ready(self) -> bool:
        """Whether `take` returns without waiting, unless a call has to be sent again."""
        return bool(self._keys) and all(call.done() for call in self._ahead)

    def take(self) -> Sequence[Any]:
        """Return the next PageResult messages, and request the page after them. Raises CallError.

        A key without an entity has a result without properties and with ABSENT in place of a
        version (`KeyHandler`).
        """
        if self._plan.has_filters:
            calls = zip(self._keys, self._ahead, strict=True)
            results = [result for key, call in calls for result in self._matching(key, call)]
        else:
            results = self._looked_up()
        if results:
            self._after = results[-1].cursor
        self._request()
        return results

    def _matching(self, key: bytes, call: Call[Any]) -> Iterator[Any]:
        for result in call.result().batch.entity_results:
            result.entity.key = result.cursor = key
            yield result
            return
        yield absent_result(key, key)

    def _looked_up(self) -> list[Any]:
        (call,) = self._ahead
        try:
            answer = call.result()
        except CallError as error:
            fewer = error.fewer(len(self._keys))
            if not fewer:
                raise
            self._most_next = fewer
            return []
        if count := len(answer.found):
            self._entity_bytes = call.answer_bytes // count + 1
        self._most_next = 2 * len(self._keys)
        return results_in_order(answer, self._keys)

    def close(self) -> None:
        for call in self._ahead:
            call.cancel()
        self._keys = self._ahead = ()


Pages = Scan | KeyScan


def open_scan(
    rpc: Rpc, query: QueryPlan, shard: Shard, page_size: int, *, entity_bytes: int = 0
) -> Pages:
    """The pages of a shard, from a query or from a list of keys."""
    if isinstance(query, KeyPlan):
        return KeyScan(rpc, query, shard, page_size, entity_bytes=entity_bytes)
    return Scan(rpc, query, shard, page_size, entity_bytes=entity_bytes)

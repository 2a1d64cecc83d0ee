"""One of the two sides of a comparison, and its entities in key order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bulkup.core.errors import TargetError
from bulkup.core.model import TargetInfo
from bulkup.core.records import Shard
from bulkup.datastore.entity_compare import Partition, text_of
from bulkup.datastore.keys import key_of
from bulkup.datastore.pages import page_result
from bulkup.datastore.past import explained_past
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.rpc_errors import explained
from bulkup.engine.scan import QueryPlan, Scan
from bulkup.engine.splits import Order, key_order
from bulkup.state.kinds import OWN_KINDS

PAGE_SIZE = 500


@dataclass(frozen=True)
class Side:
    """A target as of a moment, over a connection of its own that reads at that moment."""

    rpc: Rpc
    target: TargetInfo
    micros: int | None = None
    """Unix time in microseconds; None: now, that is, when each page is read."""

    @property
    def partition(self) -> Partition:
        return Partition(self.target.project, self.target.database, self.target.namespace)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn the CallErrors of this side into errors that a user can act on."""
        with explained(self.rpc), explained_past(self.target, self.micros):
            yield

    def plan(self, query: Any) -> QueryPlan:
        """A query of bulkup's own on this side."""
        return QueryPlan(query, self.target.namespace, False, True, frozenset())

    def lookup(self, relative_keys: Sequence[bytes]) -> dict[bytes, Any]:
        """Read entities as PageResults, by relative key; missing ones are left out.

        Raises BulkupError.
        """
        partition = self.partition
        with self.explained():
            found = self.rpc.lookup([key_of(partition.absolute(key)) for key in relative_keys])
        return {partition.relative(key): page_result(result) for key, result in found.items()}


class Reader:
    """The entities of one side in a key range. One of them at a time is the head."""

    def __init__(self, side: Side, query: Any, after: bytes, upto: bytes) -> None:
        """`after`, `upto`: the bounds, as relative keys; empty: none."""
        self._side = side
        self._partition = partition = side.partition
        shard = Shard(
            1,
            after=partition.absolute(after) if after else b"",
            upto=partition.absolute(upto) if upto else b"",
        )
        self._scan = Scan(side.rpc, side.plan(query), shard, PAGE_SIZE)
        self._page: Iterator[Any] = iter(())
        self.result: Any = None
        """The head, a PageResult; None: the next page has not been taken, or all is read."""
        self.key = b""
        """The relative key of the head."""
        self.order: Order = ()

    @property
    def is_over(self) -> bool:
        return self.result is None and self._scan.is_over

    @property
    def is_waiting(self) -> bool:
        """The next page has not arrived yet."""
        return self.result is None and not self._scan.is_over and not self._scan.is_ready

    def fill(self) -> None:
        """Take pages until there is a head, or no page is left. Waits; raises BulkupError."""
        while self.result is None and not self._scan.is_over:
            with self._side.explained():
                self._page = iter(self._scan.take())
            self.advance()

    def advance(self) -> None:
        """Go to the next entity of the page. Raises TargetError if its key does not come after the
        last one."""
        for result in self._page:
            key = self._partition.relative(result.entity.key)
            order = key_order(key_of(key))
            if order <= self.order:
                raise TargetError(
                    f"{self._side.target} returned {text_of(result.entity.key)} out of order, so "
                    "the two sides cannot be compared; compare one kind at a time with --kind"
                )
            self.order = order
            if not is_left_out(order[-1][0]):
                self.result, self.key = result, key
                return
        self.result = None

    def close(self) -> None:
        self._scan.close()


_OWN = frozenset(kind.encode() for kind in OWN_KINDS)


def is_left_out(kind: bytes) -> bool:
    """Whether a kind is bulkup's own, or one that the server keeps itself (statistics)."""
    return kind in _OWN or kind.startswith(b"__")

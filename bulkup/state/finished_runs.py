"""The finished runs of one piece of work, read from the latest backwards.

An hourly job leaves thousands of them, and each of its runs asks whether the work was done before.
So they are read one by one, by properties that sort by when a run ended: `done`, and `done_as`,
which also contains the checksum of the source. Each query uses one property, so it needs no
composite index.

Runs that an earlier version finished lack both properties. They come first in the order of run ids,
so they are read in that order up to the first run that has them. A run that an earlier version
finishes later, next to this version, is not found.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from typing import Any

from bulkup.core.model import RunState
from bulkup.datastore.call import Call
from bulkup.datastore.messages import Direction, Pb
from bulkup.datastore.queries import Filter, kind_query
from bulkup.datastore.rpc import Rpc
from bulkup.state.kinds import RUN_KIND
from bulkup.state.record import RunRecord
from bulkup.state.record_codec import done_prefix, record_of

PAGE = 20
"""How many records are read at a time after the first one, which is nearly always enough."""


class FinishedRuns:
    """Finished runs, of each chain only the first. The most needed queries are sent immediately.

    Taking a record from an iterator raises CallError.
    """

    def __init__(self, rpc: Rpc, namespace: str, identity: str) -> None:
        self._rpc = rpc
        self._namespace = namespace
        self._identity = identity
        self.last_first = self._by_end("done", done_prefix(identity))
        self._in_order = self._begin(
            kind_query(
                RUN_KIND,
                [
                    Filter("identity", "EQUAL", identity),
                    Filter("state", "EQUAL", RunState.FINISHED.value),
                ],
                limit=1,
            )
        )

    def last_first_of(self, checksum: str) -> Iterator[RunRecord]:
        """Like `last_first`, but only runs with this source."""
        return self._by_end("done_as", done_prefix(self._identity, checksum))

    def of_earlier_versions(self) -> Iterator[RunRecord]:
        """The runs that earlier versions finished, by id, including successors."""
        return takewhile(lambda record: not record.listed, self._in_order)

    def _by_end(self, name: str, prefix: str) -> Iterator[RunRecord]:
        bounds = [
            Filter(name, "GREATER_THAN", f"{prefix}/"),
            Filter(name, "LESS_THAN", f"{prefix}0"),  # the character after the slash
        ]
        query = kind_query(RUN_KIND, bounds, limit=1)
        order = query.order.add()
        order.property.name = name
        order.direction = Direction.DESCENDING
        return self._begin(query)

    def _begin(self, query: Pb) -> Iterator[RunRecord]:
        return self._read(query, self._rpc.run_query(query, self._namespace))

    def _read(self, query: Pb, call: Call[Any]) -> Iterator[RunRecord]:
        results = self._rpc.results_from(call, query, self._namespace)
        for first in results:
            query.limit.value = PAGE
            yield record_of(first)
            yield from map(record_of, results)

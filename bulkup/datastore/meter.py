"""Counts the operations of a connection: per call, never per entity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter

from bulkup.core.operations import Operations
from bulkup.datastore.messages import CommitResponse, Mutation, Pb, RunAggregationQueryResponse

COUNTED_PER_READ = 1000
"""How many index entries a COUNT reads for the price of one entity."""

_DELETE: int = Mutation.DELETE_FIELD_NUMBER << 3 | 2
"""The first byte of a serialized Mutation that deletes."""
_first = itemgetter(0)


class Meter:
    def __init__(self) -> None:
        self._reads = self._writes = self._deletes = self._index_updates = 0

    def operations(self) -> Operations:
        # A server that does not count index updates leaves the field at 0.
        updates = self._index_updates
        return Operations(self._reads, self._writes, self._deletes, updates or None)

    def read(self, count: int) -> None:
        """Count the entities that a call has read; each call costs at least one read."""
        self._reads += max(1, count)

    def count(self, serialized: bytes) -> Pb:
        """Parse the answer to `Rpc.count`, and count what it read."""
        answer = RunAggregationQueryResponse.FromString(serialized)
        values = answer.batch.aggregation_results[0].aggregate_properties
        self.read(-(-values["n"].integer_value // COUNTED_PER_READ))
        return answer

    def query(self, parse: Callable[[bytes], Pb], query: Pb) -> Callable[[bytes], Pb]:
        """Wrap `parse`, so that it also counts what the answers to `query` have read."""
        keys_only = bool(query.projection)

        def parsed(serialized: bytes) -> Pb:
            answer = parse(serialized)
            self.read(1 if keys_only else len(answer.batch.entity_results))
            return answer

        return parsed

    def lookup(self, parse: Callable[[bytes], Pb]) -> Callable[[bytes], Pb]:
        """Wrap `parse`, so that it also counts what a Lookup has read."""

        def parsed(serialized: bytes) -> Pb:
            answer = parse(serialized)
            self.read(len(answer.found) + len(answer.missing))
            return answer

        return parsed

    def commit(self, mutations: Sequence[bytes]) -> Callable[[bytes], Pb]:
        """A parser for the answer to a commit of these serialized mutations. It also counts them:
        only an answered commit is known to be applied."""
        total, deletes = len(mutations), bytes(map(_first, mutations)).count(_DELETE)

        def parsed(serialized: bytes) -> Pb:
            answer = CommitResponse.FromString(serialized)
            self._deletes += deletes
            self._writes += total - deletes
            self._index_updates += answer.index_updates
            return answer

        return parsed

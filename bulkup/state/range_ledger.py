"""The records of ranges in Datastore: run records of a kind of their own (`state/ranges.py`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from bulkup.datastore.call_error import CallError
from bulkup.datastore.messages import Mutation
from bulkup.datastore.queries import Filter, kind_query
from bulkup.datastore.refusals import commit_answer
from bulkup.state.kinds import RANGE_KIND
from bulkup.state.record import RunRecord
from bulkup.state.record_codec import write_record
from bulkup.state.run_records import Ledger
from bulkup.state.seals import guarded_delete

CHANGED_PER_COMMIT = 20
"""Below the 25 entity groups that the legacy emulator accepts in a transaction."""


class RangeLedger(Ledger):
    """The records of the ranges of all runs of one target."""

    kind = RANGE_KIND

    @classmethod
    def beside(cls, ledger: Ledger) -> RangeLedger:
        """The range records for the runs of another ledger, over the same connection."""
        return cls(ledger._rpc, ledger._target)

    def between(self, after: str, before: str) -> Iterator[RunRecord]:
        """The records whose ids are greater than `after` and less than `before`, by id, as of now.
        The query is sent immediately; taking the first record raises CallError."""
        filters = (
            Filter("__key__", "GREATER_THAN", self._key(after)),
            Filter("__key__", "LESS_THAN", self._key(before)),
        )
        query = kind_query(self.kind, filters)
        return self._answers(query, self._rpc.run_query(query, self._target.namespace))

    def insertion(self, record: RunRecord) -> bytes:
        """The serialized mutation that inserts a new record, for another record's commit."""
        mutation = Mutation()
        write_record(mutation.insert, self._key(record.run_info.run_id), record)
        serialized: bytes = mutation.SerializeToString()
        return serialized

    def insert(self, records: Sequence[RunRecord]) -> None:
        """Insert new records that claim no work, in atomic commits. A commit whose records already
        exist changes nothing: an earlier copy of it has written them. Raises CallError."""
        for first in range(0, len(records), CHANGED_PER_COMMIT):
            some = [self.insertion(one) for one in records[first : first + CHANGED_PER_COMMIT]]
            try:
                commit_answer(self._rpc, self._rpc.commit(some))
            except CallError as error:
                if error.unexplained or not error.already_exists:
                    raise

    def remove_all(self, records: Iterable[RunRecord]) -> None:
        """Remove many records, each unless it has changed since it was read. Raises CallError."""
        left = iter(records)
        while some := list(islice(left, CHANGED_PER_COMMIT)):
            removals = [
                guarded_delete(self._key(one.run_info.run_id), one.version).SerializeToString()
                for one in some
            ]
            try:
                commit_answer(self._rpc, self._rpc.commit(removals))
            except CallError as error:
                if error.unexplained or not error.is_conflict:
                    raise
                for one in some:  # another process has removed some
                    self.remove(one)

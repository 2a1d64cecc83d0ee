"""Takes handled entities, and adds up what a run would do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

from bulkup.core.changes import WouldChange
from bulkup.core.intervals import sum_estimate
from bulkup.core.model import Counts
from bulkup.core.plan import Estimate, PlanWarning, Predicted
from bulkup.datastore.keys import key_of, key_text
from bulkup.datastore.lazy_entity import LazyEntity, read_message
from bulkup.datastore.messages import Pb
from bulkup.datastore.reads import ABSENT
from bulkup.datastore.rpc import Rpc
from bulkup.engine.commit_resolution import sum_of
from bulkup.engine.dry_run import SeenKeys, would_put
from bulkup.engine.handled import Handled, Write, written
from bulkup.engine.planning.again import Results
from bulkup.engine.planning.change_kinds import ChangeKinds, changed_properties
from bulkup.engine.planning.hazards import Sizes, Values
from bulkup.engine.previewed import Previewed
from bulkup.engine.unwritten import UnwrittenChanges

MOST_WAITING = 500
"""Writes to other entities that wait until it is known whether these exist."""

MOST_WAITING_BYTES = 4 * 1024 * 1024

_COUNTED = ("written", "deleted", "unchanged", "left_alone", "vanished", "failed",
            "changed_not_written", "other_written", "other_deleted")  # fmt: skip


class PlanSink:
    """`on_change` is called with each write, in the order of the handled entities; None if nobody
    wants every write.

    `seen`: the keys that the scan has returned before, for a query that may return an entity twice.
    `created`: an open set for the keys of entities that the plan has created.
    """

    def __init__(
        self,
        rpc: Rpc,
        previewed: Previewed,
        results: Results,
        *,
        on_change: Callable[[WouldChange], None] | None,
        on_done: Callable[[Counts], None],
        unwritten: UnwrittenChanges,
        created: SeenKeys,
        seen: SeenKeys | None = None,
    ) -> None:
        self._rpc = rpc
        self._previewed = previewed
        self._results = results
        self._on_change = on_change
        self._on_done = on_done
        self._unwritten = unwritten
        self._created = created
        self._seen = seen
        self.counts = Counts()
        self.kinds = ChangeKinds()
        self._values = Values()
        self._sizes = Sizes()
        self._tallies: dict[str, Counter[int]] = {}
        """For each thing that is counted: how many handled entities have it how many times."""
        self._waiting: list[Handled] = []
        self._waiting_writes = self._waiting_bytes = 0

    def left_out(self) -> Callable[[Any], bool] | None:
        seen = self._seen
        return None if seen is None else lambda result: not seen.add(result.entity.key)

    def add(self, item: Handled) -> None:
        self._previewed.add(item)
        if not self._unwritten.is_settled:  # ask before anything is counted
            self._unwritten.look([item])
        counts = sum_of([item], beside=True)
        self.counts = self.counts + counts
        named = counts.named()
        for name in _COUNTED:
            self._tally(name, named[name])
        self._tally("reads", len(item.reads))
        self._on_done(counts)
        if item.writes:
            self._waiting.append(item)
            self._waiting_writes += counts.other_puts + counts.other_deletes
            self._waiting_bytes += item.size
            if self._waiting_writes > MOST_WAITING or self._waiting_bytes > MOST_WAITING_BYTES:
                self.flush()

    def vanished(self, entities: int) -> None:
        """Count entities that were deleted since they were drawn."""
        for _ in range(entities):
            self._tally("vanished", 1)
        self.counts = self.counts + Counts(handled=entities, vanished=entities)

    def _tally(self, name: str, value: int) -> None:
        if value:
            self._tallies.setdefault(name, Counter())[value] += 1

    def flush(self) -> None:
        """Evaluate the writes that wait. Raises CallError."""
        stored = self._stored()
        for item in self._waiting:
            created = 0
            for write in item.writes:
                if write.deletes:
                    self._delete(item, write)
                elif write.key == item.key:
                    self._put_own(item, write)
                else:
                    created += self._put_other(write, stored)
            self._tally("created", created)
            self.kinds.end_entity()
        self._waiting.clear()
        self._waiting_writes = self._waiting_bytes = 0

    def _stored(self) -> dict[bytes, Pb]:
        """The other entities that would be overwritten, as far as they exist."""
        keys = {
            write.key: key_of(write.key)
            for item in self._waiting
            for write in item.writes
            if write.key != item.key and not (write.deletes or _is_new(write))
        }
        if not keys:
            return {}
        return {key: result.entity for key, result in self._rpc.lookup(list(keys.values())).items()}

    def _delete(self, item: Handled, write: Write) -> None:
        key = key_of(write.key)
        event = WouldChange(key_text(key), "delete")
        action = "delete" if write.key == item.key else "delete other"
        self.kinds.add(action, key.path[-1].kind, [], lambda: event)
        if self._on_change is not None:
            self._on_change(event)

    def _put_own(self, item: Handled, write: Write) -> None:
        after = written(write)
        before = LazyEntity(item.before)
        self._put("update", before, after)
        self._results.add(item, after, write.version)

    def _put_other(self, write: Write, stored: dict[bytes, Pb]) -> int:
        """Returns 1 if the entity is new."""
        after = written(write)
        before = stored.get(write.key)
        if before is not None:
            self._put("overwrite", LazyEntity(before), after)
            return 0
        is_new = write.incomplete or self._created.add(write.key)
        self._put("create" if is_new else "overwrite", None, after)
        return int(is_new)

    def _put(self, action: str, before: LazyEntity | None, after: Pb) -> None:
        kind = after.key.path[-1].kind
        changed = changed_properties(None if before is None else read_message(before), after)
        event = cache(partial(would_put, before, after))
        self.kinds.add(action, kind, changed, event)
        self._values.add(kind, changed)
        self._sizes.add(after)
        if self._on_change is not None:
            self._on_change(event())

    # --- the result ---

    def predicted(self, total: int) -> Predicted:
        """The prediction for `total` entities that match."""
        named = {name: self.estimate(name, total) for name in (*_COUNTED, "created")}
        drawn = self.counts.handled
        handled = Estimate.exact(total if drawn < total else drawn)
        return Predicted(handled=handled, **named)

    def estimate(self, name: str, total: int) -> Estimate:
        return sum_estimate(self._tallies.get(name, {}), self.counts.handled, total)

    def warnings(self) -> Iterator[PlanWarning]:
        yield from self._values.warnings()
        yield from self._sizes.warnings()


def _is_new(write: Write) -> bool:
    return write.incomplete or write.version == ABSENT

"""Batches -> commits, several under way, each brought to a definite end.

One commit is atomic: the writes of its entities, each guarded by the version that was read, and
the insert of its marker. So an answer is never needed to know what happened: the marker is there
or it is not, and of all copies of a commit one at most can be applied.

    answer                                    what is done
    OK                                        done
    UNAVAILABLE, DEADLINE_EXCEEDED, ...       the same bytes again (datastore/retry.py)
    any refusal                               ask the marker first: a late copy of our own commit
                                              makes the next one fail for its stale versions
      marker ours                             done, as far as the marker says
      marker of another runner, or a fence    stop: somebody took the run over
      FAILED_PRECONDITION, NOT_FOUND          read again what changed, handle that again
      INVALID_ARGUMENT, too large, ...        halve until the culprit stands alone; it fails
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from bulkup.datastore.call_error import CallError
from bulkup.engine.batches import Batch
from bulkup.engine.commit_resolution import CommitContext, CommitResolver, Flight, ShardProgress
from bulkup.engine.handle import Handled

MAX_FLIGHT_BYTES = 8 * 1024 * 1024
"""Of all commits under way, so that memory is bounded where entities are large."""


class Committer:
    """Takes handled entities in the order of a shard's scan; see the module's table.

    `peers`: the committers of all shards at work, this one among them.
    """

    def __init__(
        self, common: CommitContext, shard: ShardProgress, peers: Sequence[Committer]
    ) -> None:
        self.shard = shard
        self._common = common
        self._limits = common.limits
        self.foreign = common.foreign
        self._resolver = CommitResolver(common, shard)
        self._peers = peers
        self._flights: deque[tuple[Batch, Flight | None]] = deque()
        """Batches whose first commit is under way, or that need none."""
        self._building = Batch(start=shard.low_cursor)
        self.flight_bytes = 0

    # --- taking entities in ---

    @property
    def position(self) -> bytes:
        """The cursor of the last entity that was taken."""
        return self._building.end

    @property
    def is_idle(self) -> bool:
        """Nothing is under way or waits to be sent."""
        return not self._flights and not self._building.items

    def has_room(self) -> bool:
        """Another batch may be sent without waiting for one that is under way."""
        if not self._flights:
            return True
        if sum(peer.flight_bytes for peer in self._peers) >= MAX_FLIGHT_BYTES:
            return False
        return len(self._flights) < self._common.depth.value

    def _open_batches(self) -> list[Batch]:
        """Those of all shards that are not done."""
        return [
            batch
            for peer in self._peers
            for batch in (*(flying for flying, _ in peer._flights), peer._building)
        ]

    def is_handled(self, key: bytes) -> bool:
        """For a query that may give an entity twice: this one came before."""
        return any(item.key == key for item in self._building.items) or (
            self._common.checkpoint.is_handled(key)
        )

    def add(self, item: Handled) -> None:
        """Take the next entity of the scan. Raises BudgetExceeded, HeldError, CallError."""
        foreign = False
        for write in item.writes:
            if write.key != item.key:
                foreign = True
                self._see_collision(item)
                break
        if not self._building.add(item, self._limits):
            self.cut()
            self._building.add(item, self._limits)
        if foreign:
            self._note_foreign(item)
        if self._building.is_full(self._limits):
            self.cut()

    def _see_collision(self, item: Handled) -> None:
        """Two commits of the same entity must not race each other, and one commit must not hold
        both: whichever came second would silently undo the first."""
        if any(batch.writes(w.key) for w in item.writes for batch in self._open_batches()):
            self.drain_all()

    def _note_foreign(self, item: Handled) -> None:
        building = self._building
        for write in item.writes:
            if write.key != item.key and write.key not in building.foreign:
                building.foreign.add(write.key)
                self.foreign[write.key] = self.foreign.get(write.key, 0) + 1

    def end_page(self) -> None:
        """A page is over: what needs no commit is written down; then see what has arrived."""
        if not self._building.write_count:
            self.cut()
        self.reap_arrived()

    def cut(self) -> None:
        """Send the batch as it is, once there is room for it."""
        batch = self._building
        if not batch.items:
            return
        self.reap_arrived()
        while not self.has_room():
            self._reap_oldest()
        self._building = Batch(start=batch.end)
        flight = None
        if batch.write_count:
            batch.number = self.shard.next_number
            self.shard.next_number += 1
            try:
                flight = self._resolver.send(batch, batch.take(self._limits, 0))
            except BaseException:
                self.shard.broken = True  # it has a number, and no marker
                raise
        self._flights.append((batch, flight))
        self.flight_bytes += batch.size

    def drain(self) -> None:
        """Send what is left and wait until everything is done."""
        self.cut()
        while self._flights:
            self._reap_oldest()

    def drain_all(self) -> None:
        for peer in self._peers:
            peer.drain()

    def reap_arrived(self) -> None:
        while self._flights:
            flight = self._flights[0][1]
            if flight is not None and not flight.call.done():
                return
            self._reap_oldest()

    def _reap_oldest(self) -> None:
        batch, flight = self._flights[0]
        try:
            self._resolver.settle(flight, batch)
        except BaseException:
            self.shard.broken = True
            raise
        finally:
            self._flights.popleft()
            self.flight_bytes -= batch.size
            for key in batch.foreign:
                self.foreign[key] -= 1
                if not self.foreign[key]:
                    del self.foreign[key]

    def settle_what_can_be(self) -> None:
        """After the run was ended by one batch: note what became of those behind it."""
        while self._flights:
            _, flight = self._flights.popleft()
            if flight is None:
                continue
            try:
                flight.call.result()
            except CallError:
                continue
            self._resolver.is_done(flight.row, low=None)

"""Batches to commits: several in flight, each brought to a definite outcome.

A commit is atomic: the writes of its entities, each guarded by the version that was read, and the
insert of its marker. So no answer is needed to know what happened: the marker is there or it is
not, and of all copies of a commit at most one can be applied.

    answer                                    what follows
    OK                                        done
    UNAVAILABLE, DEADLINE_EXCEEDED, ...       the same bytes again (datastore/retry.py)
    any refusal                               read the marker first: a late copy of our own commit
                                              makes the next one fail for its stale versions
      marker is ours                          done, as far as the marker says
      marker of another runner, or a fence    stop: somebody has taken over the run
      FAILED_PRECONDITION, NOT_FOUND, ...     read again what changed, and handle it again
        nothing has changed                   a few tries; then the server's reason ends the run
      INVALID_ARGUMENT, too large, ...        halve until the bad entity is alone; it fails
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence, Set
from typing import Any, NamedTuple

from bulkup.datastore.call_error import CallError
from bulkup.datastore.keys import key_of
from bulkup.datastore.pages import updated_ns
from bulkup.engine.batches import Batch
from bulkup.engine.commit_context import CommitContext, ShardProgress
from bulkup.engine.commit_resolution import CommitResolver, SentCommit, sum_of
from bulkup.engine.handled import Handled
from bulkup.engine.stopwatch import Doing

MAX_IN_FLIGHT_BYTES = 8 * 1024 * 1024
"""Limit for all commits in flight together, so that memory is bounded when entities are large."""


MAX_HANDLING_S = 2.0
"""Seconds of handling after which a batch is sent even if it is small."""


class OpenBatch(NamedTuple):
    batch: Batch
    commit: SentCommit | None
    """Its first commit; None if it needs none."""


class Committer:
    """Takes handled entities in the order of a shard's scan, and commits them in batches.

    The module's table says how. `peers`: the committers of all active shards, including this one.
    """

    def __init__(
        self, context: CommitContext, shard: ShardProgress, peers: Sequence[Committer]
    ) -> None:
        self.shard = shard
        self._context = context
        self._limits = context.throttle.limits
        self._stopwatch = context.stopwatch
        self.foreign = context.foreign
        self._resolver = CommitResolver(context, shard)
        self._peers = peers
        self._held: deque[Batch] = deque()
        """Batches that are complete, but held back (`engine/unwritten.py`)."""
        self._in_flight: deque[OpenBatch] = deque()
        self._building = Batch(start=shard.low_cursor)
        self._since: float | None = None
        """When handling of the open batch began."""
        self.in_flight_bytes = 0

    # --- taking entities in ---

    @property
    def is_idle(self) -> bool:
        """Nothing is in flight or waiting to be sent."""
        return not (self._in_flight or self._held or self._building.items)

    @property
    def only_holds(self) -> bool:
        """All that is left is held back."""
        return bool(self._held) and not (self._in_flight or self._building.items)

    def has_room(self) -> bool:
        """Another batch may be sent without waiting for one that is in flight."""
        if not self._in_flight:
            return True
        if sum(peer.in_flight_bytes for peer in self._peers) >= MAX_IN_FLIGHT_BYTES:
            return False
        return len(self._in_flight) < self._context.throttle.concurrency.value

    def note_waiting(self) -> None:
        """A page waits because there is no room: more commits in flight might help."""
        self._context.throttle.is_full = True
        self._context.throttle.concurrency.waited_for(len(self._peers))

    def _open_batches(self) -> list[Batch]:
        """All batches that are not done, of all shards."""
        return [
            batch
            for peer in self._peers
            for batch in (
                *(open_batch.batch for open_batch in peer._in_flight), *peer._held, peer._building
            )
        ]  # fmt: skip

    def oldest_open(self) -> Iterator[Handled]:
        """For each shard, its first entity that is not done."""
        for peer in self._peers:
            for batch in (*(sent.batch for sent in peer._in_flight), *peer._held, peer._building):
                if batch.items:
                    yield batch.items[0]
                    break

    def left_out(self) -> Callable[[Any], bool] | None:
        """See `Sink.left_out`. Asked once per page, so that in most runs no entity is checked."""
        self._context.made.catch_up()
        if self._context.query.ranged or self._context.query.since_ns:
            return self._is_left_out
        return self._context.made.is_made

    def _is_left_out(self, result: Any) -> bool:
        query, is_made = self._context.query, self._context.made.is_made
        if query.since_ns and 0 < updated_ns(result) <= query.since_ns:
            return True
        if query.ranged and self._is_handled(result):
            return True
        return is_made is not None and is_made(result)

    def _is_handled(self, result: Any) -> bool:
        """Whether the scan has returned the entity before: the query may return one twice."""
        key = result.entity.key
        return any(item.key == key for item in self._building.items) or (
            self._context.journal.is_handled(key)
        )

    def read_again(self, key: bytes) -> Any:
        """Read an entity again whose page is older than a write of it by another entity's handler,
        once that write has landed. Returns None if it was deleted or no longer matches the query.
        Raises what `drain` raises."""
        if self.foreign.get(key):
            self.drain_all()
        query = self._context.query.narrowed_to(key_of(key))
        answer = self._context.rpc.page(query, self._context.query.namespace).result()
        for result in answer.batch.entity_results:
            is_made = self._context.made.is_made
            # An entity that was deleted and created again is not the one that was read.
            return None if is_made is not None and is_made(result) else result
        return self._context.query.without_entity(key)

    def is_stale(self, reads: Sequence[bytes]) -> bool:
        """Whether an open batch writes what a handler has read. `reads`: keys, and marks of
        queries."""
        batches = [batch for batch in self._open_batches() if batch.write_count]
        return any(not batch.marks.isdisjoint(reads) for batch in batches)

    def drain_open(self) -> Set[bytes]:
        """Let the open batches land. Returns their marks. Raises what `drain` raises."""
        marks = set().union(*(batch.marks for batch in self._open_batches()))
        self.drain_all()
        return marks

    def add(self, item: Handled) -> None:
        """Take the next entity of the scan. Raises BudgetExceeded, HeldError, CallError."""
        foreign = False
        for write in item.writes:
            if write.key != item.key:
                foreign = True
                self._avoid_collision(item)
                break
        if not self._building.add(item, self._limits):
            self.send_batch()
            self._building.add(item, self._limits)
        if foreign:
            self.foreign.note(self._building, item)
        if self._building.is_full(self._limits):
            self.send_batch()

    def _avoid_collision(self, item: Handled) -> None:
        """Two commits that write the same entity must not race, and one commit must not hold both
        writes: whichever is applied second would silently undo the first."""
        if any(w.key in batch.marks for w in item.writes for batch in self._open_batches()):
            self.drain_all()

    def send_if_old(self, now: float) -> None:
        """Send a batch whose entities took long to handle, so that a kill loses little of it.

        Call it before entities are handled, several times a second.
        """
        if self._since is None:
            self._since = now
        elif self._building.items and now - self._since >= MAX_HANDLING_S:
            self.send_batch()
            self._since = now
        elif not self._building.items:
            self._since = now

    def end_page(self) -> None:
        """Record entities that need no commit, then process answers that have arrived."""
        if not self._building.write_count:
            self.send_batch()
        self.resolve_answered()

    # --- commits ---

    def send_batch(self) -> None:
        """Send the batch as it is, once there is room for it; or hold it back.

        Raises Stopped when the batch is not what the run's plan says.
        """
        self._since = None
        batch, unwritten = self._building, self._context.unwritten
        if batch.items and self._context.drift is not None:
            self._context.drift.look(sum_of(batch.items, beside=bool(batch.foreign)))
        if batch.items and not unwritten.is_settled:
            unwritten.look(batch.items)
        if unwritten.is_holding:
            if batch.items:
                self._building = Batch(start=batch.end)
                self._held.append(batch)
                unwritten.hold(len(batch.items), batch.size, self._limits.entities)
            return
        while self._held:
            self._send(self._held.popleft())
        if batch.items:
            self._building = Batch(start=batch.end)
            self._send(batch)

    @property
    def in_flight(self) -> int:
        """Commits that are sent and not answered."""
        commits = [sent.commit for sent in self._in_flight]
        return sum(commit is not None and commit.call.is_in_flight for commit in commits)

    def _send(self, batch: Batch) -> None:
        did = self._stopwatch.switch(Doing.COMMITTING)
        self.resolve_answered()
        while not self.has_room():
            self._resolve_oldest()
        commit = None
        if batch.needs_commit:
            batch.number = self.shard.next_number
            self.shard.next_number += 1
            try:
                commit = self._resolver.send(batch, batch.next_span(self._limits, 0))
            except BaseException:
                self.shard.broken = True  # the batch has a number and no marker
                raise
        self._in_flight.append(OpenBatch(batch, commit))
        self.in_flight_bytes += batch.size
        self._stopwatch.switch(did)

    def drain(self) -> None:
        """Send what is left and wait until everything is done."""
        self.send_batch()
        if self._held:
            raise self._context.unwritten.error()
        while self._in_flight:
            self._resolve_oldest()

    def settle(self) -> None:
        """Like `drain`, but leave held batches held."""
        self.send_batch()
        while self._in_flight:
            self._resolve_oldest()

    def drain_all(self) -> None:
        for peer in self._peers:
            peer.drain()

    def resolve_answered(self) -> None:
        """Process answers that have arrived, in order."""
        while self._in_flight:
            commit = self._in_flight[0].commit
            if commit is not None and not commit.call.done():
                return
            self._resolve_oldest()

    def _resolve_oldest(self) -> None:
        batch, commit = self._in_flight[0]
        did = self._stopwatch.switch(Doing.COMMITTING)
        try:
            self._resolver.resolve(batch, commit)
        except BaseException:
            self.shard.broken = True
            raise
        finally:
            self._in_flight.popleft()
            self.in_flight_bytes -= batch.size
            self.foreign.release(batch)
            self._stopwatch.switch(did)

    def give_up_held(self) -> None:
        """Drop batches that are held back, or do not match the run's plan, because the run ends.
        Their entities are not done."""
        unwritten = self._context.unwritten
        for batch in (*self._held, self._building):
            unwritten.counts += sum_of(batch.items, beside=bool(batch.foreign))
            self.foreign.release(batch)
        self._building = Batch(start=(self._held or [self._building])[0].part_start)
        self._held.clear()

    def note_applied(self) -> None:
        """After a batch has ended the run with its outcome unknown: note which later commits were
        applied."""
        while self._in_flight:
            _, commit = self._in_flight.popleft()
            if commit is None:
                continue
            try:
                answer = commit.call.result()
            except CallError:
                continue
            self._resolver.note_applied(commit, answer)

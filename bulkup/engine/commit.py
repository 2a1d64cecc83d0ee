"""Batches -> commits, several under way, each brought to a definite end.

One commit is atomic: the writes of its entities, each guarded by the version that was read, and
the insert of its marker. So an answer is never needed to know what happened: the marker is there
or it is not, and of all copies of a commit one at most can be applied.

    answer                                    what is done
    OK                                        done
    UNAVAILABLE, DEADLINE_EXCEEDED, ...       the same bytes again (wire/retries.py)
    any refusal                               ask the marker first: a late copy of our own commit
                                              makes the next one fail for its stale versions
      marker ours                             done, as far as the marker says
      marker of another runner, or a fence    stop: somebody took the run over
      FAILED_PRECONDITION, NOT_FOUND          read again what changed, handle that again
      INVALID_ARGUMENT, too large, ...        halve until the culprit stands alone; it fails
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from bulkup.engine.batches import Batch, Limits
from bulkup.engine.budget import Budget
from bulkup.engine.handle import Handled, Handler, allocate_ids, refusal
from bulkup.engine.scan import QueryPlan
from bulkup.errors import HeldError
from bulkup.facts import Counts
from bulkup.state.checkpoint import BatchRow, Checkpoint
from bulkup.state.markers import LATE_COPY_S, Marker, Markers
from bulkup.wire.client import Call, Wire
from bulkup.wire.keys import key_bytes
from bulkup.wire.retries import CallError

_CONFLICT = {grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND}
_REFUSES_ALL = {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED}
_SPLIT = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.ALREADY_EXISTS, *_CONFLICT}

CLEARED_PER_COMMIT = 3
"""Markers removed along with a commit. More than one, so that a backlog shrinks; few, since the
legacy emulator counts them against its 25 entity groups."""


@dataclass
class Flight:
    """A batch whose first commit is under way, or that needs none (`call` is None)."""

    batch: Batch
    span: Sequence[Handled]
    call: Call[Any] | None


@dataclass
class ShardProgress:
    """Where the commits of one shard stand."""

    id: int
    low_number: int
    low_cursor: bytes
    next_number: int
    broken: bool = False
    """A batch was given up undecided; what is behind it stays above the low-water mark."""
    standing: deque[tuple[int, bytes, float]] = field(default_factory=deque)
    """Markers in Datastore: number, serialized key, and until when (Unix time) it must stay."""


class Committer:
    """Takes handled entities in the order of a shard's scan; see the module's table."""

    def __init__(
        self,
        *,
        wire: Wire,
        checkpoint: Checkpoint,
        markers: Markers,
        handler: Handler,
        query: QueryPlan,
        budget: Budget,
        limits: Limits,
        runner: str,
        conflict_retries: int,
        make_sure: Callable[[], None],
        counts: Callable[[], Counts],
        on_done: Callable[[Counts], None],
        unix_time: Callable[[], float],
    ) -> None:
        self._wire = wire
        self._checkpoint = checkpoint
        self._markers = markers
        self._handler = handler
        self._query = query
        self._budget = budget
        self._limits = limits
        self._runner = runner
        self._conflict_retries = conflict_retries
        self._make_sure = make_sure
        self._counts = counts
        self._on_done = on_done
        self._unix_time = unix_time
        self._flights: deque[Flight] = deque()
        self._shard: ShardProgress
        self._building: Batch

    # --- taking entities in ---

    def begin_shard(self, shard: ShardProgress) -> None:
        self._shard = shard
        self._building = Batch(start=shard.low_cursor)

    def is_written_elsewhere(self, key_pb: Any) -> bool:
        """A batch that is not done writes this entity from another entity's handler."""
        open_batches = [flight.batch for flight in self._flights if flight.batch.foreign]
        if self._building.foreign:
            open_batches.append(self._building)
        if not open_batches:
            return False
        key = key_bytes(key_pb)
        return any(key in batch.foreign for batch in open_batches)

    def is_handled(self, key_pb: Any) -> bool:
        """For a query that may give an entity twice: this one came before."""
        if not self._query.ranged:
            return False
        key = key_bytes(key_pb)
        return any(item.key == key for item in self._building.items) or (
            self._checkpoint.is_handled(key)
        )

    def add(self, item: Handled) -> None:
        """Take the next entity of the scan. Raises BudgetExceeded, HeldError, CallError."""
        if any(w.key != item.key for w in item.writes) and self._collides(item):
            # Two commits of the same entity must not race each other, and one commit must not
            # hold both: whichever came second would silently undo the first.
            self.drain()
        if not self._building.has_room(item, self._limits):
            self.cut()
        self._building.add(item)
        if self._building.is_full(self._limits):
            self.cut()

    def _collides(self, item: Handled) -> bool:
        batches = [flight.batch for flight in self._flights] + [self._building]
        return any(batch.writes(w.key) for w in item.writes for batch in batches)

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
        while len(self._flights) >= self._limits.in_flight:
            self._reap_oldest()
        self._building = Batch(start=batch.end)
        span: Sequence[Handled] = batch.items
        call = None
        if batch.write_count:
            batch.number = self._shard.next_number
            self._shard.next_number += 1
            span = batch.take(self._limits, 0)
            try:
                call = self._send(batch, span)
            except BaseException:
                self._shard.broken = True  # it has a number, and no marker
                raise
        self._flights.append(Flight(batch, span, call))

    def drain(self) -> None:
        """Send what is left and wait until everything is done."""
        self.cut()
        while self._flights:
            self._reap_oldest()

    def reap_arrived(self) -> None:
        while self._flights:
            call = self._flights[0].call
            if call is not None and not call.done():
                return
            self._reap_oldest()

    def settle_what_can_be(self) -> None:
        """After the run was ended by one batch: note what became of those behind it."""
        while self._flights:
            flight = self._flights.popleft()
            if flight.call is None:
                continue
            try:
                flight.call.result()
            except CallError:
                continue
            self._checkpoint.batch_done(self._row(flight.batch, flight.span), low=None)
            self._on_done(_sum(flight.span))

    # --- one batch to its end ---

    def _send(self, batch: Batch, span: Sequence[Handled]) -> Call[Any]:
        for failure in allocate_ids(self._wire, span):
            self._budget.spend(failure)
        row = self._row(batch, span)
        self._pick_markers_to_clear(batch)
        assert row.number is not None
        marker = Marker(
            shard=row.shard, number=row.number, part=row.part, runner=self._runner,
            start=row.start, end=row.end, whole_end=row.whole_end,
            low=self._shard.low_number, counts=row.counts, before=self._counts(),
        )  # fmt: skip
        mutations = [w.mutation for item in span for w in item.writes]
        mutations.append(self._markers.insert(marker))
        mutations.extend(self._markers.clear(key) for key in batch.clears)
        self._checkpoint.batch_sent(
            row,
            [item.failure for item in span if item.failure],
            [line for item in span for line in item.log_lines],
            self._keys(span),
        )
        self._make_sure()
        return self._wire.commit(mutations, before_resend=self._make_sure)

    def _keys(self, span: Sequence[Handled]) -> Sequence[bytes]:
        return [item.key for item in span] if self._query.ranged else ()

    def _row(self, batch: Batch, span: Sequence[Handled]) -> BatchRow:
        return BatchRow(
            shard=self._shard.id, number=batch.number, part=batch.part, start=batch.part_start,
            end=span[-1].cursor, whole_end=batch.end, done=False, counts=_sum(span),
        )  # fmt: skip

    def _reap_oldest(self) -> None:
        flight = self._flights[0]
        try:
            self._settle(flight.batch, flight.span, flight.call)
        except BaseException:
            self._shard.broken = True
            self._flights.popleft()
            raise
        self._flights.popleft()

    def _settle(self, batch: Batch, span: Sequence[Handled], call: Call[Any] | None) -> None:
        """Bring a batch to its end, in as many parts as that needs.

        `suspects`: so many entities at the front are known to hold one that the server refuses.
        """
        if batch.number is None:
            self._nothing_to_write(batch)
            return
        suspects = 0
        standing_until = 0.0
        while batch.items:
            if call is None:
                span = batch.take(self._limits, suspects)
                if len(span) < len(batch.items) and not any(item.writes for item in span):
                    suspects = max(0, suspects - (len(span) - batch.carried))
                    batch.carried = len(span)
                    continue
                # Even when nothing is left to write: a batch with a number ends with a marker,
                # since whoever takes the run over counts on finding one (engine/takeover.py).
                call = self._send(batch, span)
            done, error = self._outcome(batch, span, call)
            standing_until = max(standing_until, self._late_copies_until(call))
            call = None
            if done:
                suspects = max(0, suspects - (done - batch.carried))
                self._part_done(batch, done, standing_until)
                standing_until = 0.0
            elif error is not None and not (error.code in _CONFLICT and self._refresh(span)):
                suspects = self._narrow(batch, span, error)

    def _outcome(
        self, batch: Batch, span: Sequence[Handled], call: Call[Any]
    ) -> tuple[int, CallError | None]:
        """How many entities of the batch's front are done now, or why none is."""
        try:
            call.result()
        except CallError as error:
            if error.worth_another_try or error.code in _REFUSES_ALL:
                raise
            assert batch.number is not None
            marker = self._markers.read(self._shard.id, batch.number, batch.part)
            if marker is None:
                return 0, error
            if marker.runner != self._runner or marker.fence:
                raise HeldError(
                    f"another runner has taken over run {self._checkpoint.record.run_id}; this "
                    "one has stopped, nothing was written twice. Watch it with `bulkup show`"
                ) from error
            # A copy of this commit, or of a longer one sent before it was cut, has been applied.
            ends = [item.cursor for item in batch.items]
            return ends.index(marker.end) + 1, None
        return len(span), None

    def _late_copies_until(self, call: Call[Any]) -> float:
        if call.maybe_applied_at is None:
            return 0.0
        return self._unix_time() + LATE_COPY_S

    def _part_done(self, batch: Batch, done: int, standing_until: float) -> None:
        row = self._row(batch, batch.items[:done])
        assert row.number is not None
        key = self._markers.key(row.shard, row.number, row.part)
        self._shard.standing.append(
            (row.number, key.SerializeToString(deterministic=True), standing_until)
        )
        batch.clears = []
        low = self._move_mark(batch) if done == len(batch.items) else None
        batch.part_is_done(done)
        self._checkpoint.batch_done(row, low=low)
        self._on_done(row.counts)

    def _nothing_to_write(self, batch: Batch) -> None:
        """A batch without writes needs no commit and has no marker: only the file knows it."""
        row = self._row(batch, batch.items)
        self._checkpoint.batch_done(
            row,
            low=self._move_mark(batch),
            failures=[item.failure for item in batch.items if item.failure],
            log_lines=[line for item in batch.items for line in item.log_lines],
            keys=self._keys(batch.items),
        )
        self._on_done(row.counts)

    def _move_mark(self, batch: Batch) -> tuple[int, bytes]:
        self._shard.low_cursor = batch.end
        if batch.number is not None:
            self._shard.low_number = batch.number
        return self._shard.low_number, self._shard.low_cursor

    # --- refusals ---

    def _refresh(self, span: Sequence[Handled]) -> bool:
        """Read again what the span would write; handle again, on fresh data, what has changed.

        False: nothing has changed, so the refusal has another reason.
        """
        guarded = {w.key: w for item in span for w in item.writes if w.version}
        own = {item.key: item.key_pb for item in span if item.writes}
        keys = {**{k: _key_of(w.mutation) for k, w in guarded.items()}, **own}
        found = self._wire.lookup(list(keys.values()))
        changed = False
        for item in span:
            if not any(
                w.version and (w.key not in found or found[w.key].version != w.version)
                for w in item.writes
            ):
                continue
            changed = True
            fresh = self._still_matching(item, found.get(item.key))
            if fresh is None:
                item.drop_writes()
                item.vanished = True
                continue
            item.conflicts += 1
            if item.conflicts > self._conflict_retries:
                item.fail(
                    "write",
                    f"contended: changed {item.conflicts} times between being read and written (by "
                    "others; or by this updater, where it puts an entity that it read while "
                    "handling an earlier one: read it again in handle_entity)",
                )
            else:
                self._handler.handle_again(item, fresh)
            if item.failure is not None:
                self._budget.spend(item.failure)
        return changed

    def _still_matching(self, item: Handled, found: Any) -> Any:
        """The entity as it is now, or None when it is gone or no longer meant by the query.

        Whoever changed it may have taken it out of the query; handling it then would undo that.
        """
        if found is None or not self._query.has_filters:
            return found
        answer = self._wire.run_query(
            self._query.of_entity(item.key_pb), self._query.namespace
        ).result()
        results = answer.batch.entity_results
        return results[0] if results else None

    def _narrow(self, batch: Batch, span: Sequence[Handled], error: CallError) -> int:
        """The server refuses the span: so many entities at its front hold the culprit now."""
        if error.code not in _SPLIT and not error.too_large:
            raise error
        if self._limits.learn(error):
            return 0
        writing = [item for item in span if item.writes]
        if not writing:
            raise error  # the marker alone is refused: no entity is to blame
        if len(writing) > 1:
            return len(span) - batch.carried
        culprit = writing[0]
        culprit.fail("write", refusal(error))
        assert culprit.failure is not None
        self._budget.spend(culprit.failure)
        return 0

    # --- markers ---

    def _pick_markers_to_clear(self, batch: Batch) -> None:
        """Markers below the low-water mark say nothing that the one at the mark does not."""
        now = self._unix_time()
        standing = self._shard.standing
        for _ in range(len(standing)):
            if len(batch.clears) >= CLEARED_PER_COMMIT:
                return
            number, key, until = standing[0]
            if number < self._shard.low_number and until <= now:
                standing.popleft()
                batch.clears.append(key)
            else:
                standing.rotate(-1)


def _key_of(mutation: Any) -> Any:
    operation = mutation.WhichOneof("operation")
    message = getattr(mutation, operation)
    return message if operation == "delete" else message.key


def _sum(items: Sequence[Handled]) -> Counts:
    """Plain integers, since this looks at every entity of a run."""
    puts = deletes = unchanged = failed = vanished = conflicts = 0
    for item in items:
        for write in item.writes:
            if write.deletes:
                deletes += 1
            else:
                puts += 1
        unchanged += item.unchanged
        conflicts += item.conflicts
        if item.failure is not None:
            failed += 1
        elif item.vanished:
            vanished += 1
    return Counts(len(items), puts, deletes, unchanged, failed, vanished, conflicts)

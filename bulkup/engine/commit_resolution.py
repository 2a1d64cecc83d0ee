"""One batch to its definite end, in as many parts as that needs.

The table in `engine/commit.py` says what each answer of the server leads to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bulkup.core.errors import HeldError
from bulkup.core.model import Counts
from bulkup.datastore.call import Call
from bulkup.datastore.call_error import CallError
from bulkup.datastore.keys import key_bytes, key_of
from bulkup.datastore.pages import page_result
from bulkup.datastore.rpc import Rpc
from bulkup.engine.batches import Batch, Limits
from bulkup.engine.budget import Budget
from bulkup.engine.handle import Handled, allocate_ids, refusal
from bulkup.engine.scan import QueryPlan
from bulkup.engine.throttle.concurrency import Concurrency
from bulkup.engine.throttle.rate import RateLimiter
from bulkup.state.checkpoint import BatchRow, Checkpoint
from bulkup.state.markers import LATE_COPY_S, Marker, Markers

CLEARED_PER_COMMIT = 3
"""Markers removed along with a commit. More than one, so that a backlog shrinks; few, since the
legacy emulator counts them against its 25 entity groups."""


@dataclass(frozen=True)
class CommitContext:
    """What the commits of all shards of a run have in common."""

    rpc: Rpc
    checkpoint: Checkpoint
    markers: Markers
    query: QueryPlan
    budget: Budget
    limits: Limits
    depth: Concurrency
    pace: RateLimiter
    runner: str
    conflict_retries: int
    handle_again: Callable[[Handled, Any], None]
    make_sure: Callable[[], None]
    """Called before a commit is sent: may raise to keep it from being sent."""
    on_done: Callable[[Counts], None]
    unix_time: Callable[[], float]
    foreign: dict[bytes, int] = field(default_factory=dict)
    """Keys that open batches write from other entities' handlers, and how many batches do."""


@dataclass
class Flight:
    """A commit under way: of a span at the front of a batch."""

    batch: Batch
    span: Sequence[Handled]
    call: Call[Any]
    row: BatchRow


@dataclass
class ShardProgress:
    """Where the commits of one shard stand."""

    id: int
    low_number: int
    low_cursor: bytes
    next_number: int
    broken: bool = False
    """A batch was given up undecided; what is behind it stays above the low-water mark."""
    live_markers: deque[tuple[int, bytes, float]] = field(default_factory=deque)
    """Markers in Datastore: number, serialized key, and until when (Unix time) it must stay."""
    counts: Counts = field(default_factory=Counts)
    """Of what is done of the shard, up to `low_number`. Not of what needed no commit behind it:
    whoever has nothing but the markers handles that again."""
    behind: Counts = field(default_factory=Counts)
    """Of what is done behind that."""


class CommitResolver:
    """The commits of one shard, one batch at a time."""

    def __init__(self, common: CommitContext, shard: ShardProgress) -> None:
        self._common = common
        self._rpc = common.rpc
        self._checkpoint = common.checkpoint
        self._markers = common.markers
        self._query = common.query
        self._budget = common.budget
        self._limits = common.limits
        self._shard = shard

    def send(self, batch: Batch, span: Sequence[Handled]) -> Flight:
        """Send a commit of the span, at the front of the batch. Raises CallError, BudgetExceeded,
        HeldError."""
        for failure in allocate_ids(self._rpc, span):
            self._budget.spend(failure)
        row = self.row(batch, span)
        if row.counts.writes > len(span):
            self._common.pace.spend(row.counts.writes - len(span))
        self._pick_markers_to_clear(batch)
        assert row.number is not None
        marker = Marker(
            shard=row.shard, number=row.number, part=row.part, runner=self._common.runner,
            start=row.start, end=row.end, whole_end=row.whole_end,
            low=self._shard.low_number, counts=row.counts, before=self._shard.counts,
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
        self._common.make_sure()
        call = self._rpc.commit(mutations, before_resend=self._common.make_sure)
        return Flight(batch, span, call, row)

    def _keys(self, span: Sequence[Handled]) -> Sequence[bytes]:
        return [item.key for item in span] if self._query.ranged else ()

    def row(self, batch: Batch, span: Sequence[Handled]) -> BatchRow:
        return BatchRow(
            shard=self._shard.id, number=batch.number, part=batch.part, start=batch.part_start,
            end=span[-1].cursor, whole_end=batch.end, done=False, counts=_sum(span),
        )  # fmt: skip

    def settle(self, flight: Flight | None, batch: Batch) -> None:
        """Bring a batch to its end. `flight`: its first commit; None: it needs none.

        `suspects`: so many entities at the front are known to hold one that the server refuses.
        """
        if flight is None:
            self._nothing_to_write(batch)
            return
        suspects = 0
        standing_until = 0.0
        while batch.items:
            if flight is None:
                span = batch.take(self._limits, suspects)
                if len(span) < len(batch.items) and not any(item.writes for item in span):
                    suspects = max(0, suspects - (len(span) - batch.carried))
                    batch.carried = len(span)
                    continue
                # Even when nothing is left to write: a batch with a number ends with a marker,
                # since whoever takes the run over counts on finding one (engine/recovery.py).
                flight = self.send(batch, span)
            span = flight.span
            done, error = self._outcome(batch, flight)
            standing_until = max(standing_until, self._late_copies_until(flight.call))
            row = flight.row if done == len(span) else self.row(batch, batch.items[: done or 1])
            flight = None
            if done:
                suspects = max(0, suspects - (done - batch.carried))
                self._part_done(batch, done, row, standing_until)
                standing_until = 0.0
            elif error is not None and not (error.is_conflict and self._refresh(span)):
                suspects = self._narrow(batch, span, error)
            else:
                batch.as_built = False

    def _outcome(self, batch: Batch, flight: Flight) -> tuple[int, CallError | None]:
        """How many entities of the batch's front are done now, or why none is."""
        call = flight.call
        try:
            call.result()
        except CallError as error:
            if error.worth_another_try or error.lacks_permission:
                raise
            assert batch.number is not None
            marker = self._markers.read(self._shard.id, batch.number, batch.part)
            if marker is None:
                return 0, error
            if marker.runner != self._common.runner or marker.fence:
                raise HeldError(
                    f"another runner has taken over run {self._checkpoint.run_info.run_id}; this "
                    "one has stopped, nothing was written twice. Watch it with `bulkup show`"
                ) from error
            # A copy of this commit, or of a longer one sent before it was cut, has been applied.
            ends = [item.cursor for item in batch.items]
            return ends.index(marker.end) + 1, None
        operations = max(len(flight.span), flight.row.counts.writes)
        self._common.pace.answered(operations, call.seconds)
        if call.attempts == 1:
            self._common.depth.answered(call.seconds)
        return len(flight.span), None

    def _late_copies_until(self, call: Call[Any]) -> float:
        if call.maybe_applied_at is None:
            return 0.0
        return self._common.unix_time() + LATE_COPY_S

    def _part_done(self, batch: Batch, done: int, row: BatchRow, standing_until: float) -> None:
        assert row.number is not None
        key = self._markers.key(row.shard, row.number, row.part)
        self._shard.live_markers.append(
            (row.number, key.SerializeToString(deterministic=True), standing_until)
        )
        batch.clears = []
        low = self._move_mark(batch) if done == len(batch.items) else None
        batch.part_is_done(done)
        self.is_done(row, low=low)

    def is_done(self, row: BatchRow, *, low: tuple[int, bytes] | None) -> None:
        """What was sent is done."""
        self._checkpoint.batch_done(row, low=low)
        self._count(row, at_mark=low is not None)

    def _count(self, row: BatchRow, *, at_mark: bool) -> None:
        shard = self._shard
        shard.behind = shard.behind + row.counts
        if at_mark:
            shard.counts, shard.behind = shard.counts + shard.behind, Counts()
        self._common.on_done(row.counts)

    def _nothing_to_write(self, batch: Batch) -> None:
        """A batch without writes needs no commit and has no marker: only the file knows it."""
        row = self.row(batch, batch.items)
        self._checkpoint.batch_done(
            row,
            low=self._move_mark(batch),
            failures=[item.failure for item in batch.items if item.failure],
            log_lines=[line for item in batch.items for line in item.log_lines],
            keys=self._keys(batch.items),
        )
        self._count(row, at_mark=False)

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
        guarded = {w.key for item in span for w in item.writes if w.version}
        keys = {*guarded, *(item.key for item in span if item.writes)}
        plain = {key: key_bytes(key_of(key)) for key in keys}  # a page's may be written otherwise
        there = self._rpc.lookup([key_of(key) for key in keys])
        found = {key: there[ours] for key, ours in plain.items() if ours in there}
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
            if item.conflicts > self._common.conflict_retries:
                item.fail(
                    "write",
                    f"contended: changed {item.conflicts} times between being read and written (by "
                    "others; or by this updater, where it puts an entity that it read while "
                    "handling an earlier one: read it again in handle_entity)",
                )
            else:
                self._common.handle_again(item, fresh)
            if item.failure is not None:
                self._budget.spend(item.failure)
        return changed

    def _still_matching(self, item: Handled, found: Any) -> Any:
        """The entity as it is now, or None when it is gone or no longer meant by the query.

        Whoever changed it may have taken it out of the query; handling it then would undo that.
        """
        if found is None or not self._query.has_filters:
            return None if found is None else page_result(found)
        answer = self._rpc.page(
            self._query.of_entity(key_of(item.key)), self._query.namespace
        ).result()
        results = answer.batch.entity_results
        return results[0] if results else None

    def _narrow(self, batch: Batch, span: Sequence[Handled], error: CallError) -> int:
        """The server refuses the span: so many entities at its front hold the culprit now."""
        if not error.blames_a_write:
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
        now = self._common.unix_time()
        live_markers = self._shard.live_markers
        for _ in range(len(live_markers)):
            if len(batch.clears) >= CLEARED_PER_COMMIT:
                return
            number, key, until = live_markers[0]
            if number < self._shard.low_number and until <= now:
                live_markers.popleft()
                batch.clears.append(key)
            else:
                live_markers.rotate(-1)


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

"""Brings one batch to a definite outcome, in as many parts as that takes.

The table in `engine/commit.py` says what follows from each answer of the server.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bulkup.core.errors import HeldError
from bulkup.core.model import Counts, Failure
from bulkup.datastore.call import Call
from bulkup.datastore.call_error import CallError
from bulkup.datastore.keys import key_bytes, key_of
from bulkup.datastore.pages import page_result
from bulkup.datastore.refusals import Refusals, has_moved
from bulkup.engine.batches import Batch
from bulkup.engine.commit_context import CommitContext, LiveMarker, ShardProgress
from bulkup.engine.handled import Handled, Write
from bulkup.engine.key_allocation import allocate_ids, refusal
from bulkup.state.checkpoint import BatchRow
from bulkup.state.markers import LATE_COPY_S, Marker
from bulkup.state.notes import Place

CLEARED_PER_COMMIT = 3
"""Markers removed along with a commit. More than one, so that a backlog shrinks; few, because the
legacy emulator counts them against its 25 entity groups."""

FIRST_PAUSE_S = 0.002
MAX_PAUSE_S = 0.1
"""The longest pause before an entity that has had several conflicts is handled again."""


@dataclass
class SentCommit:
    """A commit in flight, of a span at the front of a batch."""

    span: Sequence[Handled]
    call: Call[Any]
    row: BatchRow
    image_frame: int = 0
    """The id of the frame with its before-images; 0: none."""


class CommitResolver:
    """The commits of one shard, one batch at a time."""

    def __init__(self, context: CommitContext, shard: ShardProgress) -> None:
        self._context = context
        self._rpc = context.rpc
        self._journal = context.journal
        self._markers = context.markers
        self._query = context.query
        self._budget = context.budget
        self._throttle = context.throttle
        self._runner = context.runner
        self._made = context.made
        self._images = context.images
        self._shard = shard

    def send(self, batch: Batch, span: Sequence[Handled]) -> SentCommit:
        """Send a commit of the span, at the front of the batch.

        Raises CallError, BudgetExceeded, HeldError.
        """
        for failure in allocate_ids(self._rpc, span):
            self._budget.spend(failure)
        if batch.foreign or not batch.as_built:
            self._made.about_to_send(span)
        row = self._row(batch, span)
        if row.counts.writes > len(span):
            self._throttle.rate.spend(row.counts.writes - len(span))
        self._pick_markers_to_clear(batch)
        assert row.number is not None
        marker = Marker(
            shard=row.shard, number=row.number, part=row.part, runner=self._runner.runner,
            start=row.start, end=row.end, whole_end=row.whole_end,
            low=self._shard.low_number, counts=row.counts, before=self._shard.counts,
        )  # fmt: skip
        failures = [item.failure for item in span if item.failure]
        log_lines = [line for item in span for line in item.log_lines]
        mutations = [w.mutation for item in span for w in item.writes]
        mutations.append(self._markers.insert(marker))
        if failures or log_lines:
            mutations.extend(self._note(row, failures, log_lines, sum(map(len, mutations))))
        mutations.extend(self._markers.clear(key) for key in batch.clears)
        image_frame = self._images.sent(row, span) if self._images is not None else 0
        self._journal.batch_sent(row, failures, log_lines, self._keys_to_note(span))
        self._runner.before_send()
        call = self._rpc.commit(mutations, before_resend=self._runner.before_send)
        call.shard, call.entities = self._shard.id, len(span)
        return SentCommit(span, call, row, image_frame)

    def _note(
        self, row: BatchRow, failures: Sequence[Failure], log_lines: Sequence[str], beside: int
    ) -> Iterator[bytes]:
        assert row.number is not None
        place = Place(row.shard, row.number, row.part)
        note = self._context.notes.insert(place, failures, log_lines, beside=beside)
        if note is not None:
            yield note

    def _keys_to_note(self, span: Sequence[Handled]) -> Sequence[bytes]:
        return [item.key for item in span] if self._query.ranged else ()

    def _row(self, batch: Batch, span: Sequence[Handled]) -> BatchRow:
        return BatchRow(
            shard=self._shard.id, number=batch.number, part=batch.part, start=batch.part_start,
            end=span[-1].cursor, whole_end=batch.end, done=False,
            counts=sum_of(span, beside=bool(batch.foreign)),
        )  # fmt: skip

    def resolve(self, batch: Batch, commit: SentCommit | None) -> None:
        """Bring a batch to a definite outcome. `commit`: its first commit; None if it needs none.

        Raises CallError, BudgetExceeded, HeldError; then its outcome is unknown.
        """
        if commit is None:
            self._nothing_to_write(batch)
            return
        refusals = Refusals(self._rpc)
        suspects = 0  # this many entities at the front include one that the server refuses
        keep_until = 0.0
        while batch.items:
            if commit is None:
                span = batch.next_span(self._throttle.limits, suspects)
                if len(span) < len(batch.items) and not any(item.writes for item in span):
                    suspects = max(0, suspects - (len(span) - batch.carried))
                    batch.carried = len(span)
                    continue
                # Even when nothing is left to write: a batch with a number ends with a marker,
                # because recovery (engine/recovery.py) relies on finding one.
                commit = self.send(batch, span)
            span = commit.span
            request = commit.call.payload
            done, error = self._outcome(batch, commit)
            keep_until = max(keep_until, self._late_copies_until(commit.call))
            row = commit.row if done == len(span) else self._row(batch, batch.items[: done or 1])
            commit = None
            if done:
                suspects = max(0, suspects - (done - batch.carried))
                self._part_done(batch, done, row, keep_until)
                keep_until = 0.0
            elif error is not None and not (error.claims_conflict and self._refresh(span)):
                if error.claims_conflict and not has_moved(self._rpc, request):
                    refusals.pause(error)
                else:
                    suspects = self._narrow(batch, span, error)
            else:
                batch.as_built = False
                for item in span:
                    self._context.foreign.note(batch, item)

    def _outcome(self, batch: Batch, commit: SentCommit) -> tuple[int, CallError | None]:
        """How many entities at the batch's front are done now, or why none is."""
        call = commit.call
        try:
            answer = call.result()
        except CallError as error:
            if error.worth_another_try or error.lacks_permission:
                raise
            assert batch.number is not None
            marker = self._markers.read(self._shard.id, batch.number, batch.part)
            if marker is None:
                return 0, error
            if marker.runner != self._runner.runner or marker.fence:
                raise HeldError(
                    f"another runner has taken over run {self._runner.run_id}; this one has "
                    "stopped and nothing was written twice. Watch the run with `bulkup show`"
                ) from error
            # A copy of this commit was applied, or of a longer one that was sent before the span
            # was made smaller.
            ends = [item.cursor for item in batch.items]
            done = ends.index(marker.end) + 1
            if self._images is not None:
                self._images.was_applied(commit.row, marker.end)
            return done, None
        self._note_images(commit, answer)
        operations, latency_s = max(len(commit.span), commit.row.counts.writes), call.seconds
        self._throttle.rate.answered(operations, latency_s)
        self._context.latencies.answered(latency_s)
        if call.attempts == 1:
            self._throttle.concurrency.answered(latency_s)
        return len(commit.span), None

    def _note_images(self, commit: SentCommit, answer: Any) -> None:
        if self._images is not None:
            self._images.answered(commit.image_frame, commit.row, answer)

    def note_applied(self, commit: SentCommit, answer: Any) -> None:
        """Note that a commit was applied that was sent after one whose outcome is unknown."""
        self._note_images(commit, answer)
        self.note_done(commit.row, low=None)

    def _late_copies_until(self, call: Call[Any]) -> float:
        if call.maybe_applied_at is None:
            return 0.0
        return self._runner.unix_time() + LATE_COPY_S

    def _part_done(self, batch: Batch, done: int, row: BatchRow, keep_until: float) -> None:
        assert row.number is not None
        key = self._markers.key(row.shard, row.number, row.part)
        self._shard.live_markers.append(
            LiveMarker(row.number, key.SerializeToString(deterministic=True), keep_until)
        )
        batch.clears = []
        low = self._advance_mark(batch) if done == len(batch.items) else None
        batch.drop_done(done)
        self.note_done(row, low=low)

    def note_done(self, row: BatchRow, *, low: tuple[int, bytes] | None) -> None:
        """Note that a part that was sent is done."""
        self._journal.batch_done(row, low=low)
        self._count(row, at_mark=low is not None)

    def _count(self, row: BatchRow, *, at_mark: bool) -> None:
        shard = self._shard
        shard.counts_above = shard.counts_above + row.counts
        if at_mark:
            shard.counts, shard.counts_above = shard.counts + shard.counts_above, Counts()
        self._runner.on_done(row.counts)

    def _nothing_to_write(self, batch: Batch) -> None:
        """Note a batch without writes, failures and log lines as done. It needs no commit and gets
        no marker, so only the journal knows it."""
        row = self._row(batch, batch.items)
        self._journal.batch_done(
            row,
            low=self._advance_mark(batch),
            failures=[],
            keys=self._keys_to_note(batch.items),
        )
        self._count(row, at_mark=False)

    def _advance_mark(self, batch: Batch) -> tuple[int, bytes]:
        self._shard.low_cursor = batch.end
        if batch.number is not None:
            self._shard.low_number = batch.number
        return self._shard.low_number, self._shard.low_cursor

    # --- refusals ---

    def _refresh(self, span: Sequence[Handled]) -> bool:
        """Read again what the span would write, and handle again what has changed.

        False: nothing has changed, so the commit was refused for another reason.
        """
        tries = max(item.conflicts for item in span)
        if tries > 1:  # others write the same entities at the same pace: get out of step
            longest_s = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2 ** min(tries, 10))
            self._rpc.nap(random.uniform(0, longest_s))  # noqa: S311 - no secret
        guarded = {w.key for item in span for w in item.writes if w.version}
        keys = {*guarded, *(item.key for item in span if item.writes)}
        # A page may encode the same key in another way than a lookup does.
        canonical = {key: key_bytes(key_of(key)) for key in keys}
        there = self._rpc.lookup([key_of(key) for key in keys])
        found = {key: there[plain] for key, plain in canonical.items() if plain in there}
        versions = {key: result.version for key, result in found.items()}
        changed = False
        for item in span:
            overtaken = [w for w in item.writes if w.is_overtaken(versions.get(w.key))]
            if overtaken:
                changed = True
                self._handle_changed(item, overtaken, found.get(item.key))
        return changed

    def _handle_changed(self, item: Handled, overtaken: Sequence[Write], found: Any) -> None:
        """Handle an entity again when its guards have refused these writes. `found`: the entity as
        it is now; None if it was deleted."""
        fresh = self._still_matching(item, found)
        if fresh is None:
            item.drop_writes()
            item.vanished = True
            return
        item.conflicts += 1
        if self._context.conflicts.is_too_much(item, overtaken):
            item.fail(
                "write",
                f"contended: changed {item.conflicts} times between being read and written (by "
                "others; or by this updater, if it writes it through a client of its own too, or "
                "puts an entity that it read while handling an earlier one: read it again in "
                "handle_entity)",
            )
        else:
            self._context.conflicts.handle_again(item, fresh)
        if item.failure is not None:
            self._budget.spend(item.failure)

    def _still_matching(self, item: Handled, found: Any) -> Any:
        """The entity as it is now; None when it is gone or no longer matches the query.

        A change may have taken it out of the query; handling it then would undo that change.
        """
        if found is None:
            return self._query.without_entity(item.key)
        is_made, result = self._made.is_made, page_result(found)
        if is_made is not None and is_made(result):
            return None  # deleted and created again: not the entity that was read
        if not self._query.has_filters:
            return result
        answer = self._rpc.page(
            self._query.narrowed_to(key_of(item.key)), self._query.namespace
        ).result()
        results = answer.batch.entity_results
        return results[0] if results else None

    def _narrow(self, batch: Batch, span: Sequence[Handled], error: CallError) -> int:
        """The server refuses the span. Returns how many entities at the front contain the bad one.

        0: unknown, or the bad one was found and has failed.
        """
        if not error.blames_a_write:
            raise error
        if self._throttle.limits.learn(error):
            return 0
        writing = [item for item in span if item.writes]
        if not writing:
            raise error  # the marker alone is refused, so no entity is to blame
        if len(writing) > 1:
            return len(span) - batch.carried
        culprit = writing[0]
        culprit.fail("write", refusal(error))
        assert culprit.failure is not None
        self._budget.spend(culprit.failure)
        return 0

    # --- markers ---

    def _pick_markers_to_clear(self, batch: Batch) -> None:
        """Pick markers below the low-water mark: they add nothing to the marker at the mark."""
        now = self._runner.unix_time()
        live_markers = self._shard.live_markers
        for _ in range(len(live_markers)):
            if len(batch.clears) >= CLEARED_PER_COMMIT:
                return
            oldest = live_markers[0]
            if oldest.number < self._shard.low_number and oldest.keep_until <= now:
                live_markers.popleft()
                batch.clears.append(oldest.key)
            else:
                live_markers.rotate(-1)


def sum_of(items: Sequence[Handled], *, beside: bool) -> Counts:
    """The counts of these entities. Adds plain integers, because this handles every entity of a
    run. `beside`: some of them may write other entities, too."""
    puts = deletes = unchanged = failed = vanished = conflicts = unwritten = 0
    other_puts = other_deletes = 0
    for item in items:
        if item.unwritten:
            unwritten += 1
        if beside:
            for write in item.writes:
                if write.key != item.key:
                    other_puts += not write.deletes
                    other_deletes += write.deletes
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
    return Counts(
        len(items), puts, deletes, unchanged, failed, vanished, conflicts,
        other_puts, other_deletes, unwritten,
    )  # fmt: skip

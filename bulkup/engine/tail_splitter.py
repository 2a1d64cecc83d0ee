"""Splits a range in progress: it ends early, and a new range takes over the rest."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from bulkup.core.model import Counts
from bulkup.core.records import Shard
from bulkup.engine.shard_runner import ShardRunner
from bulkup.engine.splits import Sample
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.lease import Lease
from bulkup.state.range_ledger import RangeLedger
from bulkup.state.ranges import split_off
from bulkup.state.record import RangePart, RunRecord


class TailSplitter:
    """`runners`, `waiting`: the scheduler's active shards and those that have not started.

    One commit writes both: the range with its new end, and the new range. Before it, a crash leaves
    the range as it was; what was committed lies before the new end in any case.
    """

    def __init__(
        self,
        lease: Lease,
        checkpoint: Checkpoint,
        runners: deque[ShardRunner],
        waiting: deque[Shard],
    ) -> None:
        self._lease = lease
        self._checkpoint = checkpoint
        self._runners = runners
        self._waiting = waiting

    def split(self, keep: float, sample: Callable[[], Sample], ledger: RangeLedger) -> str | None:
        """Split the range at a key of `sample`. `keep`: which share of the entities that are left
        stays in this range; 0: none. `ledger`: the ledger of the ranges.

        Returns the id of the new range, which is recorded by then; None if the range is not split.
        Raises HeldError, CallError: only the range's record tells whether it is split.
        """
        part = self._lease.record.part
        found = None if part is None else self._tail(part.last)
        if found is None or part is None:
            return None
        shard, runner = found
        begin = shard.after if runner is None else runner.last_key
        keys = sample().inside(begin, shard.upto) if keep > 0 else ()
        kept = int(len(keys) * min(keep, 1.0))
        edge = keys[kept - 1] if kept else begin
        if edge in (part.first, part.last):
            return None  # one of the two would be empty, and two ranges would begin at the same key
        new_id = self._lease.record.layout.next_shard
        middle = [Shard(new_id, after=begin, upto=edge)] if kept else []
        if runner is None:
            self._waiting.remove(shard)
        else:
            runner.shorten(replace(shard, end=runner.last_cursor))
        self._waiting.extend(middle)
        new = split_off(self._lease.record, Shard(0, after=edge, upto=shard.upto), edge)
        self._record(part, edge, new_id + len(middle), ledger.insertion(new))
        if runner is not None:
            runner.may_end = True
        return new.run_info.run_id

    def _tail(self, last: bytes) -> tuple[Shard, ShardRunner | None] | None:
        """The shard at the end of the range, if it can be ended early."""
        for runner in self._runners:
            shard = runner.shard
            if shard.upto == last and not shard.end:
                can = runner.is_reading and runner.last_key and runner.may_end
                return (shard, runner) if can else None
        for shard in self._waiting:
            if shard.upto == last and not shard.end:
                is_begun = shard.low_number or shard.low_cursor or not shard.after
                return None if is_begun else (shard, None)
        return None

    def _record(self, part: RangePart, edge: bytes, next_shard: int, insertion: bytes) -> None:
        shards: Sequence[Shard] = [runner.shard for runner in self._runners] + list(self._waiting)
        done, inside = self._checkpoint.done(), Counts()
        for shard in shards:
            inside = inside + self._checkpoint.counts_of(shard.id)
        unbegun = tuple(shard.unbegun for shard in shards)

        def change(record: RunRecord) -> RunRecord:
            layout = replace(
                record.layout, shards=unbegun, next_shard=next_shard, settled=done - inside
            )
            return replace(
                record,
                counts=done,
                layout=layout,
                part=replace(part, last=edge, splits=part.splits + 1),
            )

        self._lease.update(change, extra_mutations=[insertion])
        self._checkpoint.follow(shards, self._lease.record.lease.generation)

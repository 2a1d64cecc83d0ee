"""Splits a shard that is in progress, so that as many shards as allowed stay active."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from bulkup.core.model import Counts
from bulkup.core.records import Shard
from bulkup.engine.shard_runner import ShardRunner
from bulkup.engine.splits import Sample
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.lease import Lease
from bulkup.state.record import RunRecord

WORTH_SPLITTING = 2
"""A shard with fewer sampled keys left is nearly done; splitting it costs more than it gains."""


class Candidate(NamedTuple):
    """A shard that may be split."""

    keys: Sequence[bytes]
    """Sampled keys in the part that is not handled yet."""
    shard: Shard
    runner: ShardRunner | None
    """None: the shard has not started."""


class ShardSplitter:
    """`runners`, `waiting`: the scheduler's active shards and those that have not started.

    Between a split and the answer to its write of the run record, a crash may leave the record
    with the shards as they were or as they are now. So the work must be valid for both:

    - Nothing of a new shard is committed (`may_handle`), because the old record has another shard
      there.
    - The shard that ends earlier now is not done (`may_end`), because in the old record it
      continues. Its commits may be sent: their intervals lie before the split in both.
    """

    def __init__(
        self,
        sample: Sample,
        lease: Lease,
        checkpoint: Checkpoint,
        runners: deque[ShardRunner],
        waiting: deque[Shard],
    ) -> None:
        self._sample = sample
        self._lease = lease
        self._checkpoint = checkpoint
        self._runners = runners
        self._waiting = waiting
        self._new_ids: frozenset[int] = frozenset()
        """Ids of the shards that are not in the run record yet."""

    @property
    def is_pending(self) -> bool:
        """There is a split that is not known to be in the run record yet."""
        return bool(self._new_ids)

    def is_unrecorded(self, shard: Shard) -> bool:
        return shard.id in self._new_ids

    def split_largest(self, free: int) -> None:
        """Split the shard that has most left into what it has done and up to `free + 1` new shards.

        New shards take the rest, because a cursor is only valid for the query it came from. Their
        first pages are read while the run record is written.
        """
        keys, shard, runner = max(
            self._candidates(), key=lambda c: len(c.keys), default=((), Shard(0), None)
        )
        if len(keys) < WORTH_SPLITTING:
            return
        parts = min(free + 1, len(keys))
        bounds = [
            runner.last_key if runner else shard.after,
            *(keys[len(keys) * i // parts] for i in range(1, parts)),
            shard.upto,
        ]
        first = self._lease.record.layout.next_shard
        new = [Shard(first + i, after=bounds[i], upto=bounds[i + 1]) for i in range(parts)]
        if runner is None:
            self._waiting.remove(shard)
        else:
            runner.shorten(replace(shard, end=runner.last_cursor))
        self._waiting.extend(new)
        self._new_ids = frozenset(shard.id for shard in new)
        self._record_shards()

    def _candidates(self) -> list[Candidate]:
        at_work = [
            Candidate(self._sample.inside(r.last_key, r.shard.upto), r.shard, r)
            for r in self._runners
            if r.is_reading and r.last_key and not r.shard.end
        ]
        not_begun = [
            Candidate(self._sample.inside(shard.after, shard.upto), shard, None)
            for shard in self._waiting
            if not (shard.low_number or shard.low_cursor or shard.end)
        ]
        return at_work + not_begun

    def _record_shards(self) -> None:
        """Write the active and waiting shards to the run record, without waiting for it."""
        shards = [runner.shard for runner in self._runners] + list(self._waiting)
        done, inside = self._checkpoint.done(), Counts()
        for shard in shards:
            inside = inside + self._checkpoint.counts_of(shard.id)
        unbegun = tuple(shard.unbegun for shard in shards)
        next_shard = max(self._lease.record.layout.next_shard, 1 + max(s.id for s in shards))

        def change(record: RunRecord) -> RunRecord:
            layout = replace(
                record.layout, shards=unbegun, next_shard=next_shard, settled=done - inside
            )
            return replace(record, counts=done, layout=layout)

        self._lease.begin_update(partial(self._recorded, shards), change)

    def _recorded(self, shards: Sequence[Shard]) -> None:
        # The checkpoint knows what is done of these shards by now, and keeps it.
        self._checkpoint.follow(shards, self._lease.record.lease.generation)
        self._new_ids = frozenset()
        for runner in self._runners:
            runner.may_handle = runner.may_end = True

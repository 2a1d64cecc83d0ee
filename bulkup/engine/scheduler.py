"""One runner's work: the shards of a run, several at once, entity after entity, to the end.

One thread. Each shard at work (a lane) has a page on its way and commits under way; the thread
goes from one to the next, handles the page that has arrived, and waits only when none has.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from bulkup.core.model import Counts
from bulkup.core.records import Shard
from bulkup.core.stop import Stopped
from bulkup.engine.budget import BudgetExceeded
from bulkup.engine.commit import Committer
from bulkup.engine.commit_resolution import CommitContext, ShardProgress
from bulkup.engine.dispatch import Dispatcher
from bulkup.engine.entities import Entities, OverBudget
from bulkup.engine.pool.pool import Ticket, WorkerDiedError, WorkerPool
from bulkup.engine.scan import Scan
from bulkup.engine.splits import Sample
from bulkup.state.lease import Lease
from bulkup.state.record import RunRecord

WORTH_CUTTING = 2
"""A shard with fewer sampled keys left is nearly done; cutting it costs more than it gains."""


@dataclass
class ShardRunner:
    """A shard at work."""

    shard: Shard
    scan: Scan
    committer: Committer
    page: Sequence[Any] = ()
    """Read, and not handled yet."""
    last_key: bytes = b""
    """Of the entities that were handled here, or handed out; `last_cursor` is that entity's."""
    last_cursor: bytes = b""
    tickets: deque[Ticket] = field(default_factory=deque)
    """Handed out to worker processes, and not added to the commits yet."""

    @property
    def is_reading(self) -> bool:
        return not self.scan.is_over or bool(self.page)


@dataclass(frozen=True)
class Cut:
    """A cut that is not known yet to be in the run record. What a crash leaves then is a record
    with the shards as they were, or as they are now; so the work must be the same for both:

    - Nothing of a new shard is committed, for the old record has another shard there.
    - The shard that ends earlier now is not done, for in the old record it goes on behind that.
      Its commits may be sent: their intervals are before the cut, and the same in both.
    """

    shard_runner: ShardRunner | None
    """Whose shard ends where it is now; None: it had not begun, and is there no more."""
    fresh: frozenset[int]


class Scheduler:
    """The shards of a run, `width` of them at once. `sample`: where they may be cut, if they may.

    After `run` has come back or raised, `clean` says whether it is known what became of every
    commit that was sent, and `standing` has the markers that are still in Datastore.
    """

    def __init__(
        self,
        common: CommitContext,
        *,
        entities: Entities,
        lease: Lease,
        look: Callable[[], None],
        width: int = 1,
        sample: Sample | None = None,
        page_size: int,
        entity_bytes: int = 0,
        workers: WorkerPool | None = None,
    ) -> None:
        self._common = common
        self._checkpoint = common.checkpoint
        self._rpc = common.rpc
        self._entities = entities
        self._lease = lease
        self._look = look
        self._width = width
        self._sample = sample
        self._page_size = page_size
        self._entity_bytes = entity_bytes
        self._shard_runners: deque[ShardRunner] = deque()
        self._committers: list[Committer] = []
        self._waiting: deque[Shard] = deque()
        self._left: dict[int, dict[int, bytes]] = {}
        self._cut: Cut | None = None
        self._wait_s = math.inf
        """Until the pace lets the next entities go."""
        self._workers = workers
        self._dispatcher = (
            Dispatcher(workers, common, entities, self._shard_runners, self._may_go, page_size)
            if workers
            else None
        )
        self.clean = False
        self.live_markers: list[tuple[int, bytes, float]] = []

    def run(self, left: dict[int, dict[int, bytes]]) -> None:
        """Work on every shard that is not done. `left`: the markers of each that the last runner
        left in Datastore, by batch.

        Raises BudgetExceeded, and what `look` raises, after what was begun has been brought to its
        end; HeldError and CallError at once.
        """
        self._waiting.extend(shard for shard in self._checkpoint.shards() if not shard.done)
        self._left = left
        try:
            with self._wound_up_over_budget():
                try:
                    self._work_all()
                except (Stopped, WorkerDiedError):
                    self._collect()
                    self._wind_up()
                    raise
            self.clean = True
        finally:
            for shard_runner in self._shard_runners:
                shard_runner.scan.close()
                self.live_markers.extend(shard_runner.committer.shard.live_markers)

    def _work_all(self) -> None:
        while self._fill():
            self._rpc.arrived.clear()
            self._lease.see_change()
            self._wait_s = math.inf
            if self._workers is not None:
                self._workers.pump()
            moved = [self._step(shard_runner) for shard_runner in list(self._shard_runners)]
            self._shard_runners.rotate(-1)  # none is always the last to be served
            if not any(moved):
                self._look()
                self._rpc.wait(self._wait_s)

    @contextmanager
    def _wound_up_over_budget(self) -> Iterator[None]:
        """Raises BudgetExceeded after what was begun has been brought to its end."""
        try:
            yield
        except OverBudget as over:
            self._wind_up()
            raise over.exceeded from None
        except BudgetExceeded as exceeded:
            with suppress(BudgetExceeded):
                self._wind_up()
            raise exceeded from None

    def _step(self, shard_runner: ShardRunner) -> bool:
        """Do for a lane what can be done without waiting; False: nothing can."""
        committer, scan = shard_runner.committer, shard_runner.scan
        committer.reap_arrived()
        if not shard_runner.page and scan.is_ready:
            shard_runner.page = scan.take()
        if self._cut is not None and shard_runner.shard.id in self._cut.fresh:
            return False
        if self._dispatcher is not None:
            moved = self._dispatcher.step(shard_runner)
            if moved or shard_runner.tickets or shard_runner.page:
                return moved
        if not shard_runner.page and not scan.is_over:
            return False
        if not committer.has_room():
            self._common.depth.waited_for(len(self._shard_runners))
            return False
        if shard_runner.page:
            return self._handle_some(shard_runner)
        committer.cut()
        if not committer.is_idle or (
            self._cut is not None and self._cut.shard_runner is shard_runner
        ):
            return False
        self._finish(shard_runner)
        return True

    def _handle_some(self, shard_runner: ShardRunner) -> bool:
        """As many entities of the lane's page as make a batch, when the pace lets them go."""
        size = shard_runner.scan.page_size = self._common.pace.batch_size(self._page_size)
        some = shard_runner.page[:size]
        if not self._may_go(len(some)):
            return False
        self._common.limits.pace(size)
        self._entities.handle(some, shard_runner.committer)
        shard_runner.page = shard_runner.page[size:]
        shard_runner.last_key, shard_runner.last_cursor = some[-1].entity.key, some[-1].cursor
        return True

    def _may_go(self, entities: int) -> bool:
        """The pace lets so many go now, and has them spent."""
        if self._wait_s < math.inf:
            return False  # another lane waits, and comes first
        wait_s = self._common.pace.wait_s(entities)
        if wait_s > 0:
            self._wait_s = wait_s
            return False
        self._common.pace.spend(entities)
        return True

    def _finish(self, shard_runner: ShardRunner) -> None:
        self._checkpoint.shard_done(shard_runner.shard.id)
        self._shard_runners.remove(shard_runner)
        self._committers.remove(shard_runner.committer)
        self.live_markers.extend(shard_runner.committer.shard.live_markers)

    def _collect(self) -> None:
        """Take in what workers are at. Raises OverBudget, BudgetExceeded."""
        if self._dispatcher is None or any(c.shard.broken for c in self._committers):
            return  # behind an undecided batch nothing may be done: its mark would move over that
        self._dispatcher.collect()

    def _wind_up(self) -> None:
        """Bring to its end what was begun. Raises BudgetExceeded when that is one failure too
        many, after all the rest."""
        exceeded = None
        for committer in self._committers:
            try:
                if not committer.shard.broken:
                    committer.drain()
            except BudgetExceeded as error:
                exceeded = exceeded or error
            if committer.shard.broken:
                committer.settle_what_can_be()
        self.clean = not any(committer.shard.broken for committer in self._committers)
        if exceeded is not None:
            raise exceeded

    # --- shards ---

    def _fill(self) -> bool:
        """Give every free lane a shard; False: all are done."""
        free = self._width - sum(shard_runner.is_reading for shard_runner in self._shard_runners)
        if free > len(self._waiting) and self._sample is not None and self._cut is None:
            self._cut_largest(free - len(self._waiting), self._sample)
            free = self._width - sum(
                shard_runner.is_reading for shard_runner in self._shard_runners
            )
        for _ in range(min(free, len(self._waiting))):
            self._begin(self._waiting.popleft())
        return bool(self._shard_runners)

    def _begin(self, shard: Shard) -> None:
        at_mark = self._checkpoint.counts_at(shard)
        progress = ShardProgress(
            shard.id, shard.low_number, shard.low_cursor, shard.low_number + 1,
            counts=at_mark, behind=self._checkpoint.counts_of(shard.id) - at_mark,
        )  # fmt: skip
        waits = self._lease.record.layout.fenced_until
        left = self._left.get(shard.id, {})
        progress.live_markers.extend((number, key, waits) for number, key in left.items())
        scan = Scan(
            self._rpc, self._common.query, shard, self._page_size,
            entity_bytes=self._entity_bytes,
        )  # fmt: skip
        committer = Committer(self._common, progress, self._committers)
        self._committers.append(committer)
        self._shard_runners.append(ShardRunner(shard, scan, committer))

    def _cut_largest(self, free: int, sample: Sample) -> None:
        """Cut the shard that has most left, so that the free lanes get a part of it each.

        It ends where it is; new shards have its rest, for a cursor belongs to one query only.
        Their first pages are asked for while the record is on its way.
        """
        rests: list[tuple[Sequence[bytes], Shard, ShardRunner | None]] = [
            (
                sample.inside(shard_runner.last_key, shard_runner.shard.upto),
                shard_runner.shard,
                shard_runner,
            )
            for shard_runner in self._shard_runners
            if shard_runner.is_reading and shard_runner.last_key and not shard_runner.shard.end
        ]
        rests += [
            (sample.inside(shard.after, shard.upto), shard, None)
            for shard in self._waiting
            if not (shard.low_number or shard.low_cursor or shard.end)
        ]
        inside, shard, shard_runner = max(
            rests, key=lambda r: len(r[0]), default=((), Shard(0), None)
        )
        if len(inside) < WORTH_CUTTING:
            return
        parts = min(free + 1, len(inside))
        bounds = [
            shard_runner.last_key if shard_runner else shard.after,
            *(inside[len(inside) * i // parts] for i in range(1, parts)),
            shard.upto,
        ]
        first = self._lease.record.layout.next_shard
        fresh = [Shard(first + i, after=bounds[i], upto=bounds[i + 1]) for i in range(parts)]
        if shard_runner is None:
            self._waiting.remove(shard)
        else:
            shard_runner.shard = replace(shard, end=shard_runner.last_cursor)
            shard_runner.scan.close()
            shard_runner.page = ()
        self._waiting.extend(fresh)
        self._cut = Cut(shard_runner, frozenset(shard.id for shard in fresh))
        self._write_down()

    def _write_down(self) -> None:
        """Make the run's shards those that are at work or wait, soon."""
        shards = [shard_runner.shard for shard_runner in self._shard_runners] + list(self._waiting)
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

        self._lease.begin_update(partial(self._is_written_down, shards), change)

    def _is_written_down(self, shards: Sequence[Shard]) -> None:
        # What is done of these by now, the file knows and keeps.
        self._checkpoint.follow(shards, self._lease.record.lease.generation)
        self._cut = None

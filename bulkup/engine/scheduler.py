"""Works on the shards of a run, several at once, until all are done.

One thread. Each active shard has a page being read and commits in flight; the thread goes from
shard to shard, handles the pages that have arrived, and waits only when there is none.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from bulkup.core.records import Shard
from bulkup.core.stop import Stopped
from bulkup.core.vitals import ShardVitals
from bulkup.engine.budget import BudgetExceeded, HandlerOverBudget
from bulkup.engine.commit_context import LiveMarker
from bulkup.engine.control import CHECK_EVERY_S, Control
from bulkup.engine.pool.pool import WorkerDiedError
from bulkup.engine.shard_runner import ShardContext, ShardRunner
from bulkup.engine.shard_splitter import ShardSplitter
from bulkup.engine.splits import Sample
from bulkup.engine.stopwatch import Doing
from bulkup.engine.tail_splitter import TailSplitter
from bulkup.engine.unwritten import ChangesUnwrittenError
from bulkup.state.lease import Lease
from bulkup.state.range_ledger import RangeLedger


class Scheduler:
    """Works on `width` shards at once.

    `left_markers`: those that the last runner left in Datastore, by shard. `sample`: keys at which
    shards may be split; None: they are not split.

    After `run` has returned or raised, `clean` says whether the outcome of every commit that was
    sent is known, and `live_markers` has the markers that are still in Datastore.
    """

    def __init__(
        self,
        context: ShardContext,
        lease: Lease,
        control: Control,
        left_markers: Mapping[int, Sequence[LiveMarker]],
        *,
        width: int = 1,
        sample: Sample | None = None,
    ) -> None:
        self._context = context
        self._rpc = context.commits.rpc
        self._throttle = context.commits.throttle
        self._unwritten = context.commits.unwritten
        self._stopwatch = context.commits.stopwatch
        self._handlers = context.handlers
        self._lease = lease
        self._control = control
        self._left_markers = left_markers
        self._width = width
        self._runners: deque[ShardRunner] = deque()
        self._waiting: deque[Shard] = deque()
        self._sample = sample
        self._splitter = (
            ShardSplitter(sample, lease, context.checkpoint, self._runners, self._waiting)
            if sample is not None
            else None
        )
        self.on_round: Callable[[], None] | None = None
        """Called between two rounds, when everything that was handled is sent or waits in a batch.
        """
        self.shards_done = 0
        self.clean = False
        self.live_markers: list[LiveMarker] = []
        control.settle, control.wait = self._settle, self._wait

    def run(self) -> None:
        """Work on every shard that is not done.

        Raises BudgetExceeded, Stopped, ChangesUnwrittenError and WorkerDiedError after commits in
        flight have ended; HeldError and CallError at once.
        """
        shards = self._context.checkpoint.shards()
        self._waiting.extend(shard for shard in shards if not shard.done)
        try:
            with self._winding_up():
                while self._fill():
                    self._rpc.arrived.clear()
                    if self._splitter is not None and self._splitter.is_pending:
                        self._lease.see_change()
                    if self.on_round is not None:
                        self.on_round()
                    self._throttle.wait_s, self._throttle.is_full = math.inf, False
                    self._stopwatch.switch(Doing.HANDLING)
                    self._handlers.begin_round()
                    moved = False
                    for runner in list(self._runners):
                        moved = runner.step() or moved
                        if runner.is_done:
                            self._runners.remove(runner)
                            self.shards_done += 1
                            self.live_markers.extend(runner.live_markers)
                    self._runners.rotate(-1)  # so that no shard is always the last
                    if not moved:
                        self._check_held()
                        self._control.check()
                        self._stopwatch.switch(self._waits_for())
                        self._rpc.wait(self._throttle.wait_s)
            self.clean = True
        finally:
            self._stopwatch.switch(Doing.NOTHING)
            for runner in self._runners:
                runner.close()
                self.live_markers.extend(runner.live_markers)

    def _fill(self) -> bool:
        """Begin waiting shards where there is room for them. Returns False when all are done."""
        splitter = self._splitter
        if splitter is not None and not splitter.is_pending:
            unused = self._free_places() - len(self._waiting)
            if unused > 0:
                splitter.split_largest(unused)
        if not self._waiting:
            return bool(self._runners)
        for _ in range(min(self._free_places(), len(self._waiting))):
            shard = self._waiting.popleft()
            runner = ShardRunner(shard, self._context, self._left_markers.get(shard.id, ()))
            runner.may_handle = splitter is None or not splitter.is_unrecorded(shard)
            self._runners.append(runner)
        return bool(self._runners)

    def split_tail(
        self, keep: float, sample: Callable[[], Sample], ledger: RangeLedger
    ) -> str | None:
        """Split the range in progress; see `TailSplitter.split`."""
        if self._splitter is not None and self._splitter.is_pending:
            return None
        checkpoint = self._context.checkpoint
        tail = TailSplitter(self._lease, checkpoint, self._runners, self._waiting)
        return tail.split(keep, sample, ledger)

    def _settle(self) -> None:
        for committer in list(self._context.committers):
            committer.settle()

    def _wait(self) -> None:
        did = self._stopwatch.switch(Doing.HELD)
        self._rpc.arrived.clear()
        self._rpc.wait(CHECK_EVERY_S)
        self._stopwatch.switch(did)

    def _waits_for(self) -> Doing:
        """What keeps all shards from moving. If there are several reasons, one of them."""
        if self._throttle.wait_s < math.inf:
            return Doing.PACED
        if self._throttle.is_full:
            return Doing.COMMITTING
        if any(runner.chunks for runner in self._runners):
            return Doing.HANDLING
        return Doing.READING if any(r.is_reading for r in self._runners) else Doing.COMMITTING

    @property
    def in_flight(self) -> int:
        """Commits of all shards that are sent and not answered."""
        return sum(runner.committer.in_flight for runner in self._runners)

    def shards(self) -> tuple[ShardVitals, ...]:
        """How far each active shard is, in the order of their ids."""
        return tuple(sorted(map(self._vitals_of, self._runners), key=lambda shard: shard.id))

    @property
    def shards_waiting(self) -> int:
        return len(self._waiting)

    def _vitals_of(self, runner: ShardRunner) -> ShardVitals:
        shard, progress = runner.shard, runner.committer.shard
        handled = progress.counts.handled + progress.counts_above.handled
        share = None
        if self._sample is not None and runner.last_key and not shard.end:
            keys = len(self._sample.inside(shard.after, shard.upto))
            left = len(self._sample.inside(runner.last_key, shard.upto))
            # The parts before the first sampled key and after the last one count, too.
            share = 1 - (left + 0.5) / (keys + 1) if runner.is_reading else 1.0
        return ShardVitals(shard.id, handled, share)

    def _free_places(self) -> int:
        return self._width - sum(runner.is_reading for runner in self._runners)

    def _check_held(self) -> None:
        """Raises ChangesUnwrittenError if all batches that are left are held back."""
        is_over = not self._waiting and all(runner.is_held for runner in self._runners)
        if self._unwritten.is_holding and is_over:
            raise self._unwritten.error()

    # --- the end of a runner ---

    @contextmanager
    def _winding_up(self) -> Iterator[None]:
        """Finish commits in flight when the body raises.

        Not on HeldError and CallError: then none can be finished.
        """
        try:
            try:
                yield
            except (Stopped, WorkerDiedError) as stopped:
                if not self._drifts:
                    with suppress(Stopped):  # caused by a drift from the plan
                        self._collect()
                self._wind_up()
                if self._unwritten.is_holding and not self._control.is_interrupted:
                    raise self._unwritten.error() from stopped
                raise
            except ChangesUnwrittenError:
                self._wind_up()
                raise
        except HandlerOverBudget as over:
            self._wind_up()
            raise over.exceeded from None
        except BudgetExceeded as exceeded:
            with suppress(BudgetExceeded):
                self._wind_up()
            raise exceeded from None

    @property
    def _drifts(self) -> bool:
        drift = self._context.commits.drift
        return drift is not None and drift.has_stopped

    def _collect(self) -> None:
        """Take in what handlers have started. Raises HandlerOverBudget, BudgetExceeded."""
        if any(committer.shard.broken for committer in self._context.committers):
            return  # nothing may be done after an undecided batch: the low-water mark would pass it
        self._handlers.collect(self._runners)

    def _give_up_held(self) -> BudgetExceeded | None:
        """Send the last batches, or give up those that are held back or drift from the plan."""
        self._unwritten.is_ending = True
        exceeded = None
        committers = [c for c in self._context.committers if not c.shard.broken]
        for committer in committers:
            try:
                committer.send_batch()
            except BudgetExceeded as error:
                exceeded = exceeded or error
            except Stopped:
                break  # caused by a drift from the plan
        if self._unwritten.is_holding or self._drifts:
            for committer in committers:
                committer.give_up_held()
        return exceeded

    def _wind_up(self) -> None:
        """Finish commits in flight. Raises BudgetExceeded, after all the rest, when
        one of them has one failure too many."""
        committers = self._context.committers
        exceeded = self._give_up_held()
        for committer in committers:
            try:
                if not committer.shard.broken:
                    committer.drain()
            except BudgetExceeded as error:
                exceeded = exceeded or error
            if committer.shard.broken:
                committer.note_applied()
        self.clean = not any(committer.shard.broken for committer in committers)
        if exceeded is not None:
            raise exceeded

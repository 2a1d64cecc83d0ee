"""A worker's view of the whole run: reads the run's record every few seconds, and conducts if
nobody else does (`conducting.py`).

It uses a thread and a connection of its own. So neither a slow handler nor a batch that is retried
again and again keeps the other workers from learning how fast they may be.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from bulkup.core.clock import Clock
from bulkup.core.errors import BulkupError
from bulkup.core.model import RunState, TargetInfo
from bulkup.core.steering import newest
from bulkup.datastore.call_error import CallError
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.rpc_errors import explained_error
from bulkup.engine.throttle.max_rate import MaxRate
from bulkup.runs.ranges.conducting import GRACE_S, Pace, conducted, share_of
from bulkup.state.holder import has_died
from bulkup.state.range_ledger import RangeLedger
from bulkup.state.ranges import change_record, is_finished, ranges_of, worker_of
from bulkup.state.ranges_seen import note_seen, seen_in
from bulkup.state.record import (
    LEASE_S,
    LOOK_EVERY_S,
    RENEW_S,
    Holder,
    LeaseTerms,
    RangePlan,
    RunRecord,
    StopOrder,
)
from bulkup.state.run_records import Ledger, RecordMovedOn
from bulkup.state.steering import read_steering


class _Closed(Exception):
    """Raised when the view is closed while it waits for an answer."""


@dataclass(frozen=True)
class Times:
    """How often a view looks and conducts; tests use shorter times."""

    look_every_s: float = LOOK_EVERY_S
    conduct_every_s: float = RENEW_S
    grace_s: float = GRACE_S


class RunView:
    """The run's record as this process knows it, and the conductor if it is this process's turn.

    `connect` opens the view's own connection. `folder`: the run's folder on this machine. Steering
    is read from it, and the progress of the run is noted there for readers on this machine. Call
    `look` once, then `start`, and `close` at the end. `record` and the other facts may be read from
    any thread.
    """

    def __init__(
        self,
        connect: Callable[[], Rpc],
        target: TargetInfo,
        parent: RunRecord,
        holder: Holder,
        clock: Clock,
        *,
        folder: Path | None = None,
        times: Times | None = None,
    ) -> None:
        self._rpc = connect()
        self._rpc.on_tick = self._raise_if_closed
        self._ledger = Ledger(self._rpc, target)
        self._range_ledger = RangeLedger.beside(self._ledger)
        self._record = parent
        self._holder = holder
        self.worker = worker_of(holder)
        self._clock = clock
        self._folder = folder
        self._times = times or Times()
        self._pace = Pace(is_real=target.is_real)
        self._is_gone = False
        self._next_conduct = 0.0
        self._shared_since: float | None = None
        """Since when this process has been listed among those that share the rate, as far as it
        knows; None: it is not listed."""
        self.is_working = True
        """Whether this process takes part, and has a share."""
        self.lost: BulkupError | None = None
        """Why this process no longer knows the state of the run: Datastore has not answered for as
        long as calls are retried, or another version of bulkup has written the record. None: it
        knows the state."""
        self._awake = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    # --- what is known ---

    @property
    def record(self) -> RunRecord:
        return self._record

    @property
    def plan(self) -> RangePlan:
        assert self._record.ranges is not None
        return self._record.ranges

    @property
    def is_over(self) -> bool:
        """The run is finished or was given up; nobody works on it any longer."""
        return self._is_gone or self._record.state.is_over

    @property
    def stop(self) -> StopOrder | None:
        return self.plan.stop

    def max_rate(self) -> MaxRate:
        return share_of(self.plan, self.worker)

    def has_share(self) -> bool:
        """Whether this worker may begin: all others know that it shares the rate with them."""
        if not self.plan.at:
            return False  # no conductor has written a rate yet
        if not self.plan.rate:
            return True
        since = self._shared_since
        if since is None:
            return False
        is_alone = self.plan.workers == (self.worker,)
        return is_alone or self._clock.monotonic() - since >= self._times.grace_s

    # --- looking and conducting ---

    def start(self) -> None:
        """Look every few seconds from now on."""
        self._thread = threading.Thread(target=self._live, name="bulkup-run-view", daemon=True)
        self._thread.start()

    def renew_soon(self) -> None:
        """Look at once: what the run is asked to do has changed."""
        self._awake.set()

    def _live(self) -> None:
        while not self._closing:
            self._awake.wait(self._times.look_every_s)
            self._awake.clear()
            if self._closing:
                return
            try:
                self.look()
                self.lost = None
            except CallError as error:
                if self._has_waited:
                    self.lost = explained_error(self._rpc, error)
            except BulkupError as error:
                self.lost = error
            except _Closed:
                return

    def _raise_if_closed(self) -> None:
        if self._closing and threading.current_thread() is self._thread:
            raise _Closed

    def look(self) -> None:
        """Read the run's record, and conduct if it is time and this process's turn. Raises
        CallError, StateError."""
        there = self._ledger.read(self._record.run_info.run_id)
        if there is None or there.ranges is None:
            self._is_gone = True
            return
        self._know(there)
        self._adopt_steering()
        self._conduct()

    def _know(self, record: RunRecord) -> None:
        if self._folder is not None and record != self._record:
            note_seen(self._folder, seen_in(record))
        self._record = record
        if self.worker not in self.plan.workers:
            self._shared_since = None
        elif self._shared_since is None:
            self._shared_since = self._clock.monotonic()

    def _adopt_steering(self) -> None:
        """Copy a change made in the run's folder on this machine to the record that others read."""
        if self._folder is None or self._record.state.is_over:
            return
        here = read_steering(self._folder)
        if here.number > self._record.steering.number:
            self._change(lambda record: replace(record, steering=newest(record.steering, here)))

    def _conduct(self) -> None:
        record, now = self._record, self._rpc.server_time.now()
        holder = record.lease.holder
        is_ours = holder == self._holder and record.lease.is_held(now)
        is_free = holder is None or not record.lease.is_held(now) or has_died(holder)
        if record.state.is_over or record.ranges is None or not (is_ours or is_free):
            return
        is_asked = record.steering.number > record.obeyed
        if is_ours and self._clock.monotonic() < self._next_conduct and not is_asked:
            return
        ranges = ranges_of(self._range_ledger, record)
        if ranges and all(map(is_finished, ranges)):
            if is_ours:
                self._give_back()  # the process that ends the run needs the lease
            return
        me = self.worker if self.is_working else ""
        written = conducted(record, ranges, self._pace, now, me=me)
        lease = LeaseTerms(
            self._holder, int(now + LEASE_S), record.lease.generation + (not is_ours)
        )
        stop = written.ranges.stop if written.ranges else None
        written = replace(
            written,
            lease=lease,
            obeyed=max(record.obeyed, record.steering.number),
            state=stop.state if stop else RunState.RUNNING,
            reason=stop.reason if stop else None,
        )
        try:
            self._know(self._ledger.write(written))
        except RecordMovedOn:
            self._awake.set()  # somebody else conducts, or steers
            return
        self._next_conduct = self._clock.monotonic() + self._times.conduct_every_s

    def _give_back(self) -> None:
        with contextlib.suppress(RecordMovedOn):
            lease = replace(self._record.lease, until=0)
            self._know(self._ledger.write(replace(self._record, lease=lease)))

    # --- for the process's main thread, once the view's thread has ended ---

    def let_go(self, rpc: Rpc, state: RunState | None, reason: str) -> None:
        """Call `leave` if Datastore answers; otherwise the lease expires. `rpc`: the connection of
        the work itself, which is used next to end the run.

        If Datastore has been unavailable on either connection for as long as calls are retried, the
        last calls are sent only once each, so that nobody waits that long again.
        """
        self._expect_no_answer(rpc)
        with contextlib.suppress(CallError, BulkupError):
            self.leave(state, reason)
        self._expect_no_answer(rpc)

    def _expect_no_answer(self, rpc: Rpc) -> None:
        if self.lost is not None or rpc.outage_s or self._has_waited:
            rpc.try_once()
            self._rpc.try_once()

    @property
    def _has_waited(self) -> bool:
        """Whether Datastore has not answered on this connection for as long as calls are
        retried."""
        return 0 < self._rpc.retry_policy.retry_for_s <= self._rpc.outage_s

    def leave(self, state: RunState | None, reason: str) -> None:
        """Leave the run. If no other process works on it, its state becomes `state`; None: its
        state is left unchanged. Raises CallError, StateError."""
        self.end_thread()
        now = self._rpc.server_time.now()
        ranges = ranges_of(self._range_ledger, self._record)
        others = {
            worker_of(one.lease.holder)
            for one in ranges
            if one.lease.holder is not None and one.lease.is_held(now)
            if not has_died(one.lease.holder)
        } - {self.worker}

        def left(record: RunRecord) -> RunRecord:
            if record.lease.holder == self._holder:
                record = replace(record, lease=replace(record.lease, until=0))
            assert record.ranges is not None
            counts = max(
                record.counts,
                conducted(record, ranges, self._pace, now).counts,
                key=lambda counts: counts.handled,
            )
            plan = replace(
                record.ranges,
                finished=max(record.ranges.finished, sum(map(is_finished, ranges))),
                total=max(record.ranges.total, len(ranges)),
            )
            record = replace(record, counts=counts, ranges=plan)
            if others or state is None:
                return record
            return replace(record, state=state, reason=reason[:1000], ended=int(now))

        self._change(left)

    def _change(self, change: Callable[[RunRecord], RunRecord]) -> None:
        with contextlib.suppress(RecordMovedOn):
            record = change_record(self._ledger, self._record.run_info.run_id, change)
            if record is not None:
                self._know(record)

    def end_thread(self) -> None:
        self._closing = True
        self._awake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._rpc.on_tick = lambda: None

    def close(self) -> None:
        self.end_thread()
        self._rpc.close()

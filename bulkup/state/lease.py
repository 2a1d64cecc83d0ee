"""The lease in a run record: taken, renewed while the runner works, given back.

The lease keeps runners out of each other's way. It does not protect the data; the markers do. Even
two runners that both believe they hold a run apply nothing twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from bulkup.core.clock import Clock
from bulkup.core.errors import HeldError
from bulkup.core.model import Counts, RunState
from bulkup.core.records import Shard
from bulkup.datastore.call import Call
from bulkup.datastore.call_error import CallError
from bulkup.state.record import (
    LEASE_S,
    RENEW_S,
    Layout,
    RunRecord,
)
from bulkup.state.run_records import Ledger, RecordMovedOn, RecordTimes
from bulkup.state.sweeping import sweep_later

Change = Callable[[RunRecord], RunRecord]
"""Returns a changed copy of a record. It is applied again whenever the record has to be read again,
so it must not depend on anything that changes in between."""

RETRY_RENEWAL_S = 3.0
"""How soon a failed renewal is retried. Several retries fit into the rest of the lease."""

MOST_REFUSED = 20
"""How often in a row to retry a write that was refused although the record has not changed: then
somebody is changing its claim."""


@dataclass(frozen=True)
class _PendingUpdate:
    """A change that was sent by `begin_update` and is not known to be written yet."""

    record: RunRecord
    call: Call[Any]
    change: Change
    then: Callable[[], None]


class Lease:
    """The lease on a run that this process has taken. `tick` is called about every second and
    renews the lease when it is due.

    `record` is the run record as last written or read here. Others may change it in Datastore, too,
    to steer the run.
    """

    def __init__(
        self,
        ledger: Ledger,
        record: RunRecord,
        *,
        clock: Clock,
        refresh: Change,
        look_every_s: float = math.inf,
    ) -> None:
        """`refresh` updates what each renewal writes, such as the counts. `look_every_s`: how often
        the record is read between renewals."""
        assert record.lease.holder is not None
        self.record = record
        self._holder = record.lease.holder
        self._ledger = ledger
        self._clock = clock
        self._refresh = refresh
        self._renewal: tuple[RunRecord, Call[Any]] | None = None
        self._pending: _PendingUpdate | None = None
        self._next = clock.monotonic() + RENEW_S
        self._look: Call[Any] | None = None
        """The read of the record that is in flight, if any."""
        self._look_every_s = look_every_s
        self._next_look = clock.monotonic() + look_every_s
        self._busy = False

    @property
    def runner(self) -> str:
        return self._holder.runner

    def tick(self) -> None:
        """Renew the lease when it is due, without waiting for the answer. Raises HeldError if
        somebody else has taken the run."""
        if self._busy:
            return  # called while waiting for a call of this very lease
        if self._pending is not None:
            if self._pending.call.done() and not self._pending.call.has_failed:
                self.see_change()  # a failure is left to the callers that deal with the change
        elif self._renewal is not None:
            if self._renewal[1].done():
                with self._alone():
                    self._see_renewal()
        elif (now := self._clock.monotonic()) >= self._next:
            record = self._renewed(self._refresh)
            self._next = now + RENEW_S
            self._stop_looking()
            self._renewal = record, self._ledger.begin_write(record)
        elif self._look is not None:
            if self._look.done():
                look = self._look
                with self._alone():
                    self._see_look(look)
        elif now >= self._next_look:
            self._look = self._ledger.begin_read(self.record.run_info.run_id)

    def renew_soon(self) -> None:
        """Do not wait for the next regular renewal: what `refresh` writes has changed, and others
        should see it."""
        self._next = min(self._next, self._clock.monotonic())

    def _stop_looking(self) -> None:
        """Ignore a read in flight: what is about to be written is newer."""
        self._look = None
        self._next_look = self._clock.monotonic() + self._look_every_s

    def _see_look(self, call: Call[Any]) -> None:
        try:
            there = self._ledger.end_read(call)
        except CallError:
            return  # the next renewal will show what is wrong
        if there is None or there.lease.holder != self._holder:
            self._find_out()  # raises, unless the server has only deferred the answer
        elif there.version != self.record.version:
            self._adopt(there)

    def _adopt(self, there: RunRecord) -> None:
        """Take over the record as another process has changed it, to steer the run."""
        self.record = replace(there, claim_version=self.record.claim_version)

    def times(self) -> RecordTimes | None:
        """When the run record was created and last written, by the server's clock; None if the
        server does not say. Raises CallError."""
        return self._ledger.times(self.record.run_info.run_id)

    def make_sure(self) -> None:
        """Call this before a commit: if the lease has expired (a suspended laptop, a handler that
        took minutes), it finds out whether the run is still ours. Raises HeldError, CallError."""
        if self._clock.unix() >= self.record.lease.until:
            self.update(self._refresh)

    def _renewed(self, change: Change) -> RunRecord:
        lease = replace(self.record.lease, until=int(self._clock.unix() + LEASE_S))
        return change(replace(self.record, lease=lease))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self._stop_looking()
        self._busy = True
        try:
            yield
        finally:
            self._busy = False

    def _see_renewal(self) -> None:
        assert self._renewal is not None
        record, call = self._renewal
        self._renewal = None
        try:
            self.record = self._ledger.end_write(record, call)
        except RecordMovedOn:
            self._find_out()
        except CallError:
            self._next = self._clock.monotonic() + RETRY_RENEWAL_S

    def _find_out(self) -> None:
        """Find out who changed the record: an unanswered renewal of ours, or another runner."""
        there = self._ledger.read(self.record.run_info.run_id)
        if there is not None and there.lease.holder == self._holder:
            self.record = there  # without the claim's version: it may be the claim that has changed
            return
        if there is None:
            raise HeldError(
                f"the run record of {self.record.run_info.run_id} was removed from Datastore "
                "while it ran; this runner has stopped, what it wrote is safe, and "
                "`bulkup resume` continues the run"
            )
        who = there.lease.holder.who if there.lease.holder else "another runner"
        raise HeldError(
            f"{who} has taken over run {self.record.run_info.run_id}; this runner has stopped, "
            "nothing was written twice"
        )

    def update(
        self,
        change: Change,
        *,
        over: bool = False,
        successor: RunRecord | None = None,
        extra_mutations: Sequence[bytes] = (),
    ) -> None:
        """Change the record and wait until it is written. `over` ends the run; `successor` is
        started by the same commit. See `Ledger.write`. Raises HeldError, CallError."""
        with self._alone():
            self._drain()
            self._write(change, over, successor, extra_mutations)

    def _write(
        self,
        change: Change,
        over: bool = False,
        successor: RunRecord | None = None,
        extra_mutations: Sequence[bytes] = (),
    ) -> None:
        refused = 0
        while True:
            version = self.record.version
            try:
                self.record = self._ledger.write(
                    self._renewed(change),
                    over=over,
                    successor=successor,
                    extra_mutations=extra_mutations,
                )
                return
            except RecordMovedOn as moved:
                self._find_out()
                refused = refused + 1 if self.record.version == version else 0
                if refused > MOST_REFUSED:
                    raise moved.__cause__ or moved from None
            if self.record.state.is_over and not change(self.record).state.is_over:
                return  # an earlier write that ended the run arrived after all; it stands
            if successor and self._ledger.read(successor.run_info.run_id) is not None:
                # An earlier write ended this run and started the successor, but its answer was
                # lost. The claim now belongs to the successor.
                successor, over = None, False

    def begin_update(self, then: Callable[[], None], change: Change) -> None:
        """Change the record without waiting for the answer.

        `then` is called once the change is in Datastore: by `see_change`, or by the next call that
        uses the lease (at the latest, the one that gives the run back). If the change cannot be
        made, `then` is never called, and the call that finds out raises HeldError or CallError.
        """
        with self._alone():
            self._drain()
            record = self._renewed(change)
            self._pending = _PendingUpdate(record, self._ledger.begin_write(record), change, then)

    def see_change(self) -> None:
        """Finish the update that `begin_update` started, if it was answered.

        Raises HeldError, CallError.
        """
        pending = self._pending
        if not self._busy and pending is not None and not pending.call.is_in_flight:
            with self._alone():
                self._drain()

    def _drain(self) -> None:
        """Wait for the write in flight: the next one needs the version that this one creates."""
        if self._renewal is not None:
            self._see_renewal()
        pending = self._pending
        if pending is None:
            return
        # Keep it pending until it is written: a caller that waited for its own call may have taken
        # a CallError of this one for that call's, and carried on.
        try:
            self.record = self._ledger.end_sure_write(pending.record, pending.call)
        except RecordMovedOn:
            self._find_out()
            # The run is still ours: an earlier renewal arrived after all, and this change did not.
            self._write(pending.change)
        self._pending = None
        pending.then()

    def drop_what_is_in_flight(self) -> None:
        """Do not wait for the write in flight. The version guard refuses it or the next write,
        whichever arrives second."""
        self._renewal = self._pending = None

    def cut(self, gaps: list[Shard], *, counts: Counts, fenced_until: int) -> None:
        """Replace all shards by new ones over `gaps`. `counts`: what is done so far.

        Raises HeldError, CallError.
        """
        first = self.record.layout.next_shard
        shards = tuple(replace(gap, id=first + i) for i, gap in enumerate(gaps))

        def change(record: RunRecord) -> RunRecord:
            layout = replace(
                record.layout,
                shards=shards,
                next_shard=first + len(gaps),
                settled=counts,
                fenced_until=fenced_until,
            )
            return replace(record, counts=counts, layout=layout)

        self.update(change)

    def forget(self) -> None:
        """Remove the record of a run that keeps none (`--no-record`). Raises CallError."""
        self._ledger.remove(self.record)

    def give_back(
        self,
        state: RunState,
        reason: str | None,
        counts: Counts,
        *,
        fenced_until: int,
        sweep_at: int = 0,
        only_end_left: bool = False,
        successor: RunRecord | None = None,
        extra_mutations: Sequence[bytes] = (),
    ) -> None:
        """Record that the runner or the run has ended. Raises HeldError, CallError.

        `only_end_left`: the runner has ended, the run has not, and no entity is left to handle.
        """
        self._next = math.inf  # no renewal may follow
        ended = int(self._clock.unix())
        sweep = sweep_later(Layout(), sweep_at, self._ledger.server_time)

        def change(record: RunRecord) -> RunRecord:
            record = self._refresh(record)
            layout = record.layout
            if only_end_left:
                layout = replace(layout, shards=(), settled=counts)
            return replace(
                record,
                state=state,
                reason=reason[:1000] if reason else None,
                counts=counts,
                ended=ended,
                lease=replace(record.lease, until=0),
                layout=replace(
                    layout,
                    fenced_until=fenced_until,
                    sweep_at=sweep.sweep_at,
                    sweep_seen=sweep.sweep_seen,
                ),
            )

        self.update(
            change, over=state.is_over, successor=successor, extra_mutations=extra_mutations
        )

    def swept(self) -> None:
        """Record that the markers of the finished run are gone. Raises HeldError, CallError."""
        self.update(without_markers)


def without_markers(record: RunRecord) -> RunRecord:
    """A finished run's record once its markers are gone, and nobody works on it."""
    return replace(
        record,
        lease=replace(record.lease, until=0),
        layout=replace(record.layout, sweep_at=0, sweep_seen=()),
    )

"""Ends an unfinished run that is cut into ranges, so that it can be undone: finds out what was
written in each range, and makes sure that nobody works on a range again."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace

from bulkup.core.errors import NotFoundError
from bulkup.core.events import Warned, WarningKind
from bulkup.core.model import RunState
from bulkup.datastore.rpc import Rpc
from bulkup.engine.recovery import Recovery, recover
from bulkup.runs.context import RunContext
from bulkup.runs.ranges.ending import collect
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.files import RANGES_NAME
from bulkup.state.holder import this_process
from bulkup.state.lease import Lease
from bulkup.state.markers import Markers
from bulkup.state.notes import Notes
from bulkup.state.range_folders import last_folder, range_checkpoint
from bulkup.state.range_ledger import RangeLedger
from bulkup.state.ranges import ranges_of, total_of
from bulkup.state.record import LEASE_S, Holder, RunRecord
from bulkup.state.run_records import Ledger
from bulkup.state.sweeping import after_late_copies
from bulkup.state.taking import take


def end_ranges(
    record: RunRecord,
    ledger: Ledger,
    rpc: Rpc,
    checkpoint: Checkpoint,
    context: RunContext,
    check: Callable[[], None],
) -> None:
    """End a run in ranges on which no process of this machine works. If the run is over, only bring
    the checkpoint up to date. `context`: with the server's time.

    `check` is called once the checkpoint knows what is definite, and before the run is ended. If it
    raises, the error is passed on, and the run can still be resumed. Raises HeldError while a
    process on another machine works on the run, NotFoundError when the run has just ended,
    CallError.
    """
    ending = _Ending(record, ledger, rpc, checkpoint, context)
    if record.state.is_over:
        ending.settle(is_last=True)
    else:
        ending.end(check)


class _Ending:
    def __init__(
        self,
        record: RunRecord,
        ledger: Ledger,
        rpc: Rpc,
        checkpoint: Checkpoint,
        context: RunContext,
    ) -> None:
        self._record = record
        self._ledger = ledger
        self._ranges = RangeLedger.beside(ledger)
        self._rpc = rpc
        self._checkpoint = checkpoint
        self._context = context
        self._holder = this_process()
        self._taken = 0
        self._definite: dict[str, int] = {}
        """The generation of each range when its outcome became definite."""
        self._reason = f"ended by {self._holder.who} to undo it"

    def end(self, check: Callable[[], None]) -> None:
        """See `end_ranges`."""
        before, clock = self._record, self._context.clock
        held = self._take(self._ledger, before, self._holder, self._context.wait_s)
        lease = Lease(self._ledger, held, clock=clock, refresh=lambda record: record)
        on_tick, self._rpc.on_tick = self._rpc.on_tick, lease.tick
        try:
            self.settle(is_last=False)
            check()
            lease.update(self._ended, over=True)
        finally:
            self._rpc.on_tick = on_tick
            if not lease.record.state.is_over:
                lease.update(
                    lambda record: replace(
                        record,
                        state=before.state,
                        reason=before.reason,
                        lease=replace(record.lease, until=0),
                    )
                )
        # A worker between two ranges takes some seconds to notice that the run is over.
        self.settle(is_last=True)

    def _take(self, ledger: Ledger, record: RunRecord, holder: Holder, wait_s: float) -> RunRecord:
        context = self._context
        return take(
            ledger, record, holder, clock=context.clock, stop=context.stop, wait_s=wait_s,
            on_wait=lambda message: context.listener(Warned(message, WarningKind.WAITING)),
        )  # fmt: skip

    def _ended(self, record: RunRecord) -> RunRecord:
        return replace(
            record,
            state=RunState.ABANDONED,
            reason=self._reason,
            counts=self._checkpoint.done(),
            ended=int(self._context.clock.unix()),
            lease=replace(record.lease, until=0),
            layout=after_late_copies(record.layout, self._ledger.server_time),
        )

    def settle(self, *, is_last: bool) -> None:
        """Make definite what was written in the ranges, and record it in the run's checkpoint.
        `is_last`: also end the ranges, so that nobody works on them again."""
        for record in ranges_of(self._ranges, self._record):
            if not record.state.is_over and (is_last or record.lease.generation):
                self._settle_range(record, is_last=is_last)
        ranges = ranges_of(self._ranges, self._record)
        assert self._record.ranges is not None
        counts = max(
            self._record.counts,
            total_of(self._record.ranges, ranges),
            key=lambda counts: counts.handled,
        )
        collect(self._rpc, self._record, ranges, counts, self._checkpoint)

    def _settle_range(self, record: RunRecord, *, is_last: bool) -> None:
        self._taken += 1
        holder = replace(self._holder, runner=f"{self._holder.runner}.{self._taken}")
        # At the end, whoever holds a range is about to release it.
        wait_s = max(self._context.wait_s, LEASE_S if is_last else 0.0)
        try:
            held = self._take(self._ranges, record, holder, wait_s)
        except NotFoundError:
            return  # it has just been finished
        lease = Lease(self._ranges, held, clock=self._context.clock, refresh=lambda record: record)
        on_tick = self._rpc.on_tick

        def tick() -> None:
            on_tick()
            lease.tick()

        self._rpc.on_tick = tick
        try:
            known = self._definite.get(record.run_info.run_id, 0)
            if held.lease.generation > known + 1:
                self._recover(lease)
            self._definite[record.run_info.run_id] = held.lease.generation
            state = RunState.ABANDONED if is_last else record.state
            reason = self._reason if is_last else record.reason
            lease.update(
                lambda held: replace(
                    held,
                    state=state,
                    reason=reason,
                    ended=int(self._context.clock.unix()),
                    lease=replace(held.lease, until=0),
                )
            )
        finally:
            self._rpc.on_tick = on_tick

    def _recover(self, lease: Lease) -> None:
        run_info = lease.record.run_info
        namespace, range_id = run_info.target.namespace, run_info.run_id
        run_folder = self._checkpoint.folder
        last = last_folder(run_folder, range_id)
        # No other process works here, so the latest checkpoint is opened without a lock.
        opened = (
            range_checkpoint(run_folder / RANGES_NAME, run_info)
            if last is None
            else closing(Checkpoint.open(last))
        )
        with opened as checkpoint:
            recovery = Recovery(
                rpc=self._rpc, checkpoint=checkpoint,
                markers=Markers(self._rpc, namespace, range_id),
                notes=Notes(self._rpc, namespace, range_id), runner=lease.runner,
            )  # fmt: skip
            recover(recovery, checkpoint, lease, self._context.clock.unix())
            # This drops the commits that the checkpoint still has in flight.
            checkpoint.follow(lease.record.layout.shards, lease.record.lease.generation)

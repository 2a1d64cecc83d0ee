"""The end of a runner in the run record, and what becomes of the markers it leaves."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from bulkup.core.clock import Clock
from bulkup.core.errors import BulkupError
from bulkup.core.model import Counts, RunState
from bulkup.datastore.call_error import CallError
from bulkup.datastore.rpc import Rpc
from bulkup.state.lease import Lease
from bulkup.state.markers import Markers
from bulkup.state.run_records import RunRecord

REMOVED_AT_ONCE = 400
"""Below the 500 entities in a commit of the legacy service, with room for records and claims."""

Standing = Sequence[tuple[int, bytes, float]]
"""Markers of finished or stopped shards that are still in Datastore: number, serialized key, and
until when (Unix time) it must stay."""


class Completion:
    """Gives a run back. `resumed`: other runners worked on it before this one."""

    def __init__(
        self,
        lease: Lease,
        markers: Markers,
        rpc: Rpc,
        *,
        clock: Clock,
        resumed: bool,
        warn: Callable[[str], None],
    ) -> None:
        self._lease = lease
        self._markers = markers
        self._rpc = rpc
        self._clock = clock
        self._resumed = resumed
        self._warn = warn

    def finish(self, counts: Counts, live_markers: Standing, successor: RunRecord | None) -> None:
        """The run is finished. Raises HeldError, CallError when that could not be written."""
        now = self._clock.unix()
        fenced_until = self._fenced_until(live_markers)
        if fenced_until <= now and self._finish_at_once(counts, live_markers, successor):
            return
        # Written down before any is removed: whoever sweeps does not look further than that.
        sweep_at = max(fenced_until, math.ceil(now))
        self._lease.give_back(
            RunState.FINISHED,
            "",
            counts,
            fenced_until=fenced_until,
            sweep_at=sweep_at,
            successor=successor,
        )
        self._clear(live_markers, may_all_go=fenced_until <= now)

    def _finish_at_once(
        self, counts: Counts, live_markers: Standing, successor: RunRecord | None
    ) -> bool:
        """Remove the markers by the commit that ends the run; False: that cannot be, and nothing
        was done.

        Not in a commit before that: as long as the run is not finished its markers are all that is
        known of it where the file is lost.
        """
        if self._resumed or not self._lease.record.keep or len(live_markers) > REMOVED_AT_ONCE:
            return False
        try:
            self._lease.give_back(
                RunState.FINISHED,
                "",
                counts,
                fenced_until=self._fenced_until(live_markers),
                sweep_at=0,
                successor=successor,
                extra_mutations=[self._markers.clear(key) for _, key, _ in live_markers],
            )
        except CallError as error:
            if error.is_invalid:
                return False  # the legacy emulator takes 25 entity groups in a transaction
            raise
        return True

    def let_go(
        self, state: RunState, reason: str, counts: Counts, live_markers: Standing, *, clean: bool
    ) -> None:
        """The runner ends before the run does. When the server is away its lease runs out."""
        if not clean:
            # One try: what ended the run may be that nothing gets through.
            self._rpc.retry_for(0.0)
            self._lease.drop_what_is_under_way()
        fenced_until = self._fenced_until(live_markers)
        try:
            self._lease.give_back(state, reason, counts, fenced_until=fenced_until, sweep_at=0)
        except (CallError, BulkupError) as error:
            self._warn(
                f"the run record could not be updated ({error}); the run can be resumed, from "
                "another machine once its lease has run out"
            )

    def _fenced_until(self, live_markers: Standing) -> int:
        last = max((until for _, _, until in live_markers), default=0.0)
        return max(self._lease.record.fenced_until, math.ceil(last))

    def _clear(self, live_markers: Standing, *, may_all_go: bool) -> None:
        """Remove the markers of the finished run that no late copy of a commit needs."""
        now = self._clock.unix()
        try:
            self._markers.remove([key for _, key, until in live_markers if until <= now])
            if not may_all_go:
                return
            if self._resumed:
                # Also those of shards that were done before this runner came.
                self._markers.remove(self._markers.all_keys())
            if self._lease.record.keep:
                self._lease.swept()
            else:
                self._lease.forget()
        except (CallError, BulkupError) as error:
            self._warn(
                f"the run is finished, but some of its markers could not be removed ({error}); "
                "the next bulkup command on this target does that"
            )

"""Records the end of a runner in the run record, and removes the markers and notes of a finished
run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from bulkup.core.clock import Clock
from bulkup.core.errors import BulkupError
from bulkup.core.model import Counts, RunState
from bulkup.datastore.call_error import CallError
from bulkup.datastore.rpc import Rpc
from bulkup.engine.commit_context import LiveMarker
from bulkup.state.lease import Lease
from bulkup.state.markers import Markers
from bulkup.state.notes import Notes
from bulkup.state.record import RunRecord

MAX_REMOVED_WITH_END = 400
"""Below the 500 entities in a commit of the legacy service, with room for records and claims."""


class Completion:
    """Gives a run back when its runner ends. `resumed`: other runners have worked on it before this
    one. `keeps_notes`: it is a range, whose notes stay until the whole run ends, and so do the
    markers of earlier runners.

    `live_markers` below: the markers of all shards of this runner that are still in Datastore.
    """

    def __init__(
        self,
        lease: Lease,
        markers: Markers,
        notes: Notes,
        rpc: Rpc,
        *,
        clock: Clock,
        resumed: bool,
        warn: Callable[[str], None],
        keeps_notes: bool = False,
    ) -> None:
        self._lease = lease
        self._keeps_notes = keeps_notes
        self._markers = markers
        self._notes = notes
        self._rpc = rpc
        self._clock = clock
        self._resumed = resumed
        self._warn = warn

    def finish(
        self, counts: Counts, live_markers: Sequence[LiveMarker], successor: RunRecord | None
    ) -> None:
        """Record that the run is finished. Raises HeldError, CallError."""
        now = self._clock.unix()
        fenced_until = self._fenced_until(live_markers)
        if fenced_until <= now and self._finish_at_once(
            counts, live_markers, fenced_until, successor
        ):
            return
        # Recorded before any marker is removed: a sweep relies on this time alone.
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
        self,
        counts: Counts,
        live_markers: Sequence[LiveMarker],
        fenced_until: int,
        successor: RunRecord | None,
    ) -> bool:
        """Remove the markers in the commit that ends the run. Returns False, with nothing done,
        when one commit cannot do that.

        Never in an earlier commit: until the run is finished its markers may be all that is known
        of it, because the checkpoint may be lost.
        """
        if self._resumed or not self._lease.record.keep:
            return False
        removed = [marker.key for marker in live_markers]
        if not self._keeps_notes:
            removed += self._notes.keys
            if not self._notes.all_are_known:
                return False
        if len(removed) > MAX_REMOVED_WITH_END:
            return False
        try:
            self._lease.give_back(
                RunState.FINISHED,
                "",
                counts,
                fenced_until=fenced_until,
                sweep_at=0,
                successor=successor,
                extra_mutations=[self._markers.clear(key) for key in removed],
            )
        except CallError as error:
            if error.is_invalid:
                return False  # the legacy emulator accepts 25 entity groups in a transaction
            raise
        return True

    def release(
        self,
        state: RunState,
        reason: str,
        counts: Counts,
        live_markers: Sequence[LiveMarker],
        *,
        clean: bool,
        only_end_left: bool = False,
    ) -> None:
        """Give the run back when the runner ends before the run does. If Datastore is unavailable,
        the lease expires instead.

        `clean`: the outcome of every commit that was sent is known. `only_end_left`: every entity
        is done. This is recorded as a run without shards, so that whoever resumes it reads no
        entity again, even if the checkpoint is lost: markers do not show what was done without a
        write.
        """
        if not clean:
            # Try once only: the runner may have ended because Datastore is unavailable.
            self._rpc.try_once()
            self._lease.drop_what_is_in_flight()
        fenced_until = self._fenced_until(live_markers)
        try:
            self._lease.give_back(
                state, reason, counts, fenced_until=fenced_until, only_end_left=only_end_left
            )
        except (CallError, BulkupError) as error:
            self._warn(
                f"the run record could not be updated ({error}); the run can be resumed here now, "
                "and from another machine once its lease has expired"
            )

    def _fenced_until(self, live_markers: Sequence[LiveMarker]) -> int:
        last = max((marker.keep_until for marker in live_markers), default=0.0)
        return max(self._lease.record.layout.fenced_until, math.ceil(last))

    def _clear(self, live_markers: Sequence[LiveMarker], *, may_all_go: bool) -> None:
        """Remove those markers of the finished run that have done their job: no late copy of their
        commit can arrive any more."""
        now = self._clock.unix()
        try:
            self._markers.remove([m.key for m in live_markers if m.keep_until <= now])
            if not may_all_go or self._keeps_notes:
                return
            if self._resumed or self._notes.keys:
                # Also the markers of shards that earlier runners have finished.
                self._markers.remove_all()
            if self._lease.record.keep:
                self._lease.swept()
            else:
                self._lease.forget()
        except (CallError, BulkupError) as error:
            self._warn(
                f"the run is finished, but some of its markers could not be removed ({error}); "
                "the next bulkup run on this target removes them"
            )

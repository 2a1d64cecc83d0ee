"""Recovers a run whose last runner did not end cleanly: makes the outcome of each commit definite.

Recovery has the local checkpoint (which may be out of date, or missing) and the markers (which are
the truth). It does not know whether a commit is still on its way, or whether the former runner is
still alive. So it inserts a fence under the key of every marker that may still arrive. Either the
fence comes first, and the commit is refused; or the marker is already there, and its interval is
done. After that nothing can change any more, and the parts of the shard that no marker covers
become new shards.

Why WINDOW fences are enough: a runner sends a batch only while fewer than WINDOW batches lie
between it and the last one it knows to be done. Once the first batch that is not done is fenced,
that runner never gets past it, and every place it can still use is in the window after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bulkup.core.errors import StateError
from bulkup.core.model import Counts
from bulkup.core.records import Shard
from bulkup.datastore.call_error import CallError
from bulkup.datastore.refusals import commit_answer
from bulkup.datastore.rpc import Rpc
from bulkup.engine.commit_context import LiveMarker
from bulkup.state.checkpoint import BatchRow, Checkpoint
from bulkup.state.lease import Lease
from bulkup.state.markers import LATE_COPY_S, WINDOW, Marker, Markers
from bulkup.state.notes import Notes

FENCES_PER_COMMIT = 20
"""Below the 25 entity groups that the legacy emulator takes."""

Place = tuple[int, int]
"""Number and part of a batch within its shard."""


@dataclass(frozen=True)
class Recovered:
    """What is left to do in a shard, and what was done."""

    gaps: Sequence[Shard]
    """Its intervals that are not done, as shards without an id. They replace the shard."""
    counts: Counts
    """What is done in it, according to its markers."""


class Recovery:
    """Makes the outcome of a run's shards definite before its next runner begins.

    `runner`: the id of that next runner, which the fences carry. `needs_keys`: only the checkpoint
    knows the keys that must not be handled (done before, or made by the run), so it must know every
    batch.
    """

    def __init__(
        self,
        *,
        rpc: Rpc,
        checkpoint: Checkpoint,
        markers: Markers,
        notes: Notes,
        runner: str,
        needs_keys: bool = False,
    ) -> None:
        self._needs_keys = needs_keys
        self._rpc = rpc
        self._checkpoint = checkpoint
        self._markers = markers
        self._notes = notes
        self._runner = runner

    def live_markers(self, shard: Shard, keep_until: float) -> list[LiveMarker] | None:
        """For a shard whose last runner ended cleanly: its markers that are still in Datastore.

        None if there is a marker of a batch that the checkpoint does not know: then the shard must
        be recovered.
        """
        found = {
            m.number: self._key(shard, (m.number, m.part)) for m in self._markers.of_shard(shard.id)
        }
        if any(number > shard.low_number for number in found):
            return None
        return [LiveMarker(number, key, keep_until) for number, key in found.items()]

    def recover_shard(self, shard: Shard) -> Recovered:
        """Raises CallError, StateError."""
        while True:
            # Read again after every fence: a runner that is still alive advances its low-water
            # mark and clears markers below it, and a fence in a cleared place stops nothing.
            found = {(m.number, m.part): m for m in self._markers.of_shard(shard.id)}
            shard = self._at_its_true_mark(shard, found)
            places = self._open_places(shard, found)
            if not places:
                break
            self._fence(shard, places[:FENCES_PER_COMMIT])
        if self._needs_keys:
            self._check_knows_all(shard, found)
        self._checkpoint.done_up_to(shard.id, shard.low_number)
        done = {p: m for p, m in found.items() if not m.fence and p[0] > shard.low_number}
        adopted = self._adopt(shard, done)
        before = next(
            (m.before for m in found.values() if m.low == shard.low_number and not m.fence),
            Counts(),
        )
        return Recovered(_gaps(shard, done), before + adopted)

    def restore_notes(self) -> None:
        """Add to the checkpoint the failures and log lines that it lacks. Call this when every
        shard is recovered: no commit that would add a note can arrive after that. Raises CallError.
        """
        for note in self._notes.read():
            self._checkpoint.restore(note)

    def _key(self, shard: Shard, place: Place) -> bytes:
        raw = self._markers.key(shard.id, *place)
        return bytes(raw.SerializeToString(deterministic=True))

    def _at_its_true_mark(self, shard: Shard, found: dict[Place, Marker]) -> Shard:
        """The shard at its low-water mark according to the markers, which is later if the
        checkpoint lost its last writes."""
        low = max((m.low for m in found.values() if not m.fence), default=0)
        if low <= shard.low_number:
            return shard
        at_mark = [m for m in found.values() if m.number == low and not m.fence]
        if not at_mark:
            raise StateError(
                f"the checkpoint {str(self._checkpoint.path)!r} is older than what the run has "
                f"done, and Datastore lacks the marker to catch up (batch {low}); check what was "
                "done before you run the updater again"
            )
        return replace(shard, low_number=low, low_cursor=at_mark[0].whole_end)

    def _check_knows_all(self, shard: Shard, found: dict[Place, Marker]) -> None:
        done = [number for (number, _), marker in found.items() if not marker.fence]
        last = max([shard.low_number, *done])
        if self._checkpoint.numbers_up_to(shard.id, last) < last:
            raise StateError(
                f"the checkpoint {str(self._checkpoint.path)!r} is an older copy of the one that "
                "this run needs, and lacks the keys of entities that must not be handled again; "
                "put the newest copy back, or start a new run (--new), which handles all entities "
                "again, also those that are done"
            )

    def _fence(self, shard: Shard, places: Sequence[Place]) -> None:
        """Insert all fences or none. If a place was taken meanwhile, the caller finds it when it
        reads the markers again."""
        fences = [
            self._markers.insert(
                Marker(
                    shard.id, *place, self._runner, b"", b"", b"",
                    low=0, counts=Counts(), fence=True,
                )
            )
            for place in places
        ]  # fmt: skip
        try:
            commit_answer(self._rpc, self._rpc.commit(fences))
        except CallError as error:
            if error.unexplained or not error.already_exists:
                raise

    def _open_places(self, shard: Shard, found: dict[Place, Marker]) -> list[Place]:
        """Places without a marker, from the first batch that is not done to the window's end."""
        places: list[Place] = []
        first_open = 0
        number = shard.low_number
        while not first_open or number < first_open + WINDOW - 1:
            number += 1
            place = (number, 0)
            while (marker := found.get(place)) and not marker.fence and not _ends_batch(marker):
                place = (number, place[1] + 1)
            if marker is None:
                places.append(place)
            if marker is None or marker.fence:
                first_open = first_open or number
        return places

    def _adopt(self, shard: Shard, done: dict[Place, Marker]) -> Counts:
        """Note in the checkpoint what was done according to the markers, and return its counts."""
        rows = {(r.number, r.part): r for r in self._checkpoint.batches_above(shard)}
        adopted = Counts()
        for place, marker in sorted(done.items()):
            adopted = adopted + marker.counts
            row = rows.get(place)
            if row is not None and row.end == marker.end:
                if not row.done:
                    self._checkpoint.batch_done(row, low=None)
                continue
            row = BatchRow(
                shard.id, *place, marker.start, marker.end, marker.whole_end, True, marker.counts
            )
            self._checkpoint.batch_done(row, low=None, failures=[])
        return adopted


def _ends_batch(marker: Marker) -> bool:
    return marker.end == marker.whole_end


def _gaps(shard: Shard, done: dict[Place, Marker]) -> list[Shard]:
    """The intervals of a shard above its low-water mark that no marker covers."""
    gaps = []
    position = shard.low_cursor
    for _, marker in sorted(done.items()):
        if marker.start != position:
            gaps.append((position, marker.start))
        position = marker.end
    if not shard.end or position != shard.end:
        gaps.append((position, shard.end))
    return [replace(shard, id=0, start=start, end=end).unbegun for start, end in gaps]


def recover(
    recovery: Recovery,
    checkpoint: Checkpoint,
    lease: Lease,
    now: float,
    *,
    whole: bool = False,
) -> dict[int, list[LiveMarker]]:
    """Make the last runner's work definite, and replace the run's shards with what is left to do.
    `whole`: do so even if the last runner ended cleanly, so that no shard has any progress.

    Returns the markers still in Datastore of each shard that continues unchanged. Raises CallError,
    StateError, HeldError.
    """
    known = {shard.id: shard for shard in checkpoint.shards()}
    shards = [_with_progress(shard, known.get(shard.id)) for shard in lease.record.layout.shards]
    status = checkpoint.status()
    trusted = status.clean and status.generation == lease.record.lease.generation - 1
    if trusted and not whole and all(shard.id in known for shard in shards):
        keep_until = lease.record.layout.fenced_until
        markers = {shard.id: recovery.live_markers(shard, keep_until) for shard in shards}
        if all(found is not None for found in markers.values()):
            return {id_: found for id_, found in markers.items() if found is not None}
    # The batches of a shard need the shard's row. Only the result gets a new generation, not this
    # step.
    checkpoint.follow(shards, status.generation)
    gaps: list[Shard] = []
    done = lease.record.layout.settled
    for shard in shards:
        if shard.done:
            done = done + checkpoint.counts_of(shard.id)
            continue
        recovered = recovery.recover_shard(shard)
        gaps += recovered.gaps
        done = done + max(
            recovered.counts, checkpoint.counts_of(shard.id), key=lambda counts: counts.handled
        )
    # Not the record's own counts, which may be later: batches without writes leave no marker, so
    # their entities are handled again and counted then.
    checkpoint.catch_up(done)
    recovery.restore_notes()
    lease.cut(gaps, counts=checkpoint.done(), fenced_until=int(now + LATE_COPY_S) + 1)
    return {}


def _with_progress(recorded: Shard, known: Shard | None) -> Shard:
    """The run record has the bounds of a shard, the checkpoint its progress."""
    if known is None:
        return recorded
    return replace(
        recorded, low_number=known.low_number, low_cursor=known.low_cursor, done=known.done
    )

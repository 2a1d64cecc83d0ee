"""After a runner that did not end cleanly: bring each commit it may have sent to a definite end.

What is known is the local checkpoint (which may be older than the truth) and the markers (which
are the truth). What is not known is whether a commit is still on its way. So a fence goes under
the key of every marker that may still come: either the fence is first, and the late commit is
refused, or the marker is there, and its interval is done. After that nothing moves any more, and
the stretches of the shard that no marker covers become new shards with fresh numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import grpc

from bulkup.errors import StateError
from bulkup.facts import Counts
from bulkup.state.checkpoint import BatchRow, Checkpoint, Leftover, Shard
from bulkup.state.markers import LATE_COPY_S, Marker, Markers
from bulkup.wire.client import Wire
from bulkup.wire.retries import CallError

FENCES_PER_COMMIT = 20
"""Below the 25 entity groups that the legacy emulator takes."""

Place = tuple[int, int]
"""Number and part of a batch within its shard."""


@dataclass(frozen=True)
class Standing:
    """A marker found in Datastore, and until when (Unix time) it must stay there."""

    number: int
    key: bytes
    until: float


class Takeover:
    """Makes the shards of a run definite before its next runner begins."""

    def __init__(
        self,
        *,
        wire: Wire,
        checkpoint: Checkpoint,
        markers: Markers,
        runner: str,
        window: int,
        unix_time: Callable[[], float],
    ) -> None:
        self._wire = wire
        self._checkpoint = checkpoint
        self._markers = markers
        self._runner = runner
        self._window = window
        self._unix_time = unix_time

    def of_shard(self, shard: Shard, *, clean: bool) -> list[Standing]:
        """Settle one shard. `clean`: the last runner had nothing under way when it ended.

        Gives the markers that stand for a shard that goes on as it is; a shard that had
        undecided batches is replaced in the checkpoint by shards for what is left of it.
        Raises CallError, StateError.
        """
        found = {(m.number, m.part): m for m in self._markers.of_shard(shard.id)}
        if clean and not any(number > shard.low_number for number, _ in found):
            known = {item.key: item.until for item in self._checkpoint.leftovers()}
            keys = [(place[0], self._key(shard, place)) for place in sorted(found)]
            return [Standing(number, key, known.get(key, 0.0)) for number, key in keys]
        shard = self._at_its_true_mark(shard, found)
        fences = self._fence(shard, found)
        done = {p: m for p, m in found.items() if not m.fence and p[0] > shard.low_number}
        self._adopt(shard, done)
        until = self._unix_time() + LATE_COPY_S
        left = [Leftover(self._key(shard, place), until) for place in [*found, *fences]]
        self._checkpoint.replace_shard(shard.id, _gaps(shard, done), left)
        return []

    def _key(self, shard: Shard, place: Place) -> bytes:
        raw = self._markers.key(shard.id, *place)
        return bytes(raw.SerializeToString(deterministic=True))

    def _at_its_true_mark(self, shard: Shard, found: dict[Place, Marker]) -> Shard:
        """The markers may know a later low-water mark than a file that lost its last writes."""
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
        return Shard(shard.id, shard.start, shard.end, low, at_mark[0].whole_end)

    def _fence(self, shard: Shard, found: dict[Place, Marker]) -> list[Place]:
        """Insert fences until every place the former runner may use is taken; updates `found`."""
        while True:
            places = self._open_places(shard, found)
            try:
                for start in range(0, len(places), FENCES_PER_COMMIT):
                    some = places[start : start + FENCES_PER_COMMIT]
                    fences = [self._markers.insert(self._a_fence(shard, p)) for p in some]
                    self._wire.commit(fences).result()
            except CallError as error:
                if error.code is not grpc.StatusCode.ALREADY_EXISTS:
                    raise
                # A late commit came in between, or an unanswered try of ours: look again.
                for marker in self._markers.of_shard(shard.id):
                    found[marker.number, marker.part] = marker
                continue
            return places

    def _open_places(self, shard: Shard, found: dict[Place, Marker]) -> list[Place]:
        places = []
        top = max((number for number, _ in found), default=0)
        for number in range(shard.low_number + 1, max(shard.low_number + self._window, top) + 1):
            part = 0
            while (marker := found.get((number, part))) and not marker.fence:
                if marker.end == marker.whole_end:
                    break
                part += 1
            if marker is None:
                places.append((number, part))
        return places

    def _a_fence(self, shard: Shard, place: Place) -> Marker:
        return Marker(
            shard.id, *place, self._runner, b"", b"", b"", low=0, counts=Counts(), fence=True
        )

    def _adopt(self, shard: Shard, done: dict[Place, Marker]) -> None:
        """Note in the checkpoint what the markers say was done."""
        rows = {(r.number, r.part): r for r in self._checkpoint.batches_above(shard)}
        for place, marker in sorted(done.items()):
            row = rows.get(place)
            if row is not None and row.end == marker.end:
                if not row.done:
                    self._checkpoint.batch_done(row, low=None)
                continue
            told = BatchRow(
                shard.id, *place, marker.start, marker.end, marker.whole_end, True, marker.counts
            )
            self._checkpoint.batch_done(told, low=None, failures=[])


def _gaps(shard: Shard, done: dict[Place, Marker]) -> list[tuple[bytes, bytes]]:
    """The stretches of a shard, behind its low-water mark, that no marker covers."""
    gaps = []
    position = shard.low_cursor
    for _, marker in sorted(done.items()):
        if marker.start != position:
            gaps.append((position, marker.start))
        position = marker.end
    gaps.append((position, shard.end))
    return gaps

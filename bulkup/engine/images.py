"""Notes the before-images of each commit of a run (`state/before_images.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bulkup.datastore.keys import key_bytes, key_of
from bulkup.datastore.rpc import Rpc
from bulkup.engine.handled import Handled, Write
from bulkup.state.before_images import ABSENT, BeforeImages, Place
from bulkup.state.checkpoint import BatchRow


class ImageLog:
    """The before-images of a run in progress."""

    def __init__(self, log: BeforeImages, rpc: Rpc) -> None:
        self._log = log
        self._rpc = rpc

    def sent(self, row: BatchRow, span: Sequence[Handled]) -> int:
        """Note what a commit is about to replace. Returns the frame's id, 0 if it writes nothing.

        Raises CallError, StateError.
        """
        writes = [write for item in span for write in item.writes]
        if not writes:
            return 0
        unread = [write for write in writes if write.before is None]
        read = self._read(unread) if unread else {}
        images: list[Any] = [
            part
            for write in writes
            for part in (
                read[write.key] if write.before is None else write.before,
                write.mutation,
            )
        ]
        return self._log.sent(_place(row), row.end, images)

    def _read(self, writes: Sequence[Write]) -> dict[bytes, bytes]:
        """Read what handlers write without having read it, by key: one Lookup for a whole commit.

        It is read again for each commit: such a write has no guard, so what it replaces may be
        newer.
        """
        keys = {write.key: key_of(write.key) for write in writes}
        found = self._rpc.lookup([*keys.values()])
        images = dict.fromkeys(keys, ABSENT)
        for written, key in keys.items():
            there = found.get(key_bytes(key))
            if there is not None:
                images[written] = there.entity.SerializeToString()
        return images

    def answered(self, frame: int, row: BatchRow, answer: Any) -> None:
        """Note that the server has applied a commit. `answer`: its CommitResponse. Raises
        StateError."""
        if frame:
            results = answer.mutation_results[: row.counts.writes]
            self._log.done(frame, _place(row), row.end, [result.version for result in results])

    def was_applied(self, row: BatchRow, end: bytes) -> None:
        """Note that a commit of this place was applied up to `end`, as its marker shows. Raises
        StateError."""
        self._log.done(0, _place(row), end)


def _place(row: BatchRow) -> Place:
    assert row.number is not None
    return Place(row.shard, row.number, row.part)

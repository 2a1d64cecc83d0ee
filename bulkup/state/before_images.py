"""Before-images: what each commit of a run replaces, noted before the commit is sent.

For each write of a batch (or part of one), the undo log has the entity before the write (its
message, or nothing if there was no entity) and the mutation that is sent. Once the server has
answered, it also has the versions that the writes created. A batch that is sent again gets a new
frame. Which frame was applied is known from its answer, from the marker, or because it is the last.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bulkup.state.undo_files import Frame, UndoFiles

SENT, DONE = 1, 2

_PLACE = struct.Struct("<QIQII")
"""Id of the SENT frame (0: not known); shard, number and part of the batch; how many lengths (SENT)
or versions (DONE) follow."""

ABSENT = b""
"""The before-image of an entity that did not exist. A message is never empty: it has a key."""


class Place(NamedTuple):
    """Identifies a batch, or a part of one."""

    shard: int
    number: int
    part: int


class Sent(NamedTuple):
    """A commit that was about to be sent. `end`: the cursor of its last entity; `images`: the
    before-image and the mutation of each write."""

    id: int
    place: Place
    end: bytes
    images: Sequence[tuple[bytes, bytes]]


class Done(NamedTuple):
    """A commit that was applied. `id` 0: one sent for this place with this `end`; it is not known
    which."""

    id: int
    place: Place
    end: bytes
    versions: Sequence[int]


class BeforeImages:
    """Writes the undo log of a run."""

    def __init__(self, run_folder: Path) -> None:
        self._files = UndoFiles(run_folder)
        self._last_id = self._files.number << 32

    def sent(self, place: Place, end: bytes, images: Sequence[bytes]) -> int:
        """Note a commit that is about to be sent; returns the frame's id.

        `images`: for each write, the before-image followed by the mutation. Raises StateError.
        """
        self._last_id += 1
        parts = [end, *images]
        lengths = [len(part) for part in parts]
        head = _PLACE.pack(self._last_id, *place, len(parts))
        self._files.append(
            SENT, b"".join((head, struct.pack(f"<{len(lengths)}I", *lengths), *parts))
        )
        return self._last_id

    def done(self, id_: int, place: Place, end: bytes, versions: Sequence[int] = ()) -> None:
        """Note that a commit was applied. `id_` 0: only the marker says so, and the commit may be
        any that was sent for this place with this `end`. Raises StateError."""
        head = _PLACE.pack(id_, *place, len(versions))
        self._files.append(
            DONE, b"".join((head, struct.pack(f"<{len(versions)}q", *versions), end))
        )

    def close(self) -> None:
        self._files.close()


def read_place(frame: Frame) -> tuple[int, Place]:
    """The id and the place of a frame."""
    id_, shard, number, part, _ = _PLACE.unpack_from(frame.payload)
    return id_, Place(shard, number, part)


def read_sent(frame: Frame) -> Sent:
    payload = frame.payload
    id_, shard, number, part, count = _PLACE.unpack_from(payload)
    lengths = struct.unpack_from(f"<{count}I", payload, _PLACE.size)
    position = _PLACE.size + 4 * count
    parts = []
    for length in lengths:
        parts.append(payload[position : position + length])
        position += length
    images = list(zip(parts[1::2], parts[2::2], strict=True))
    return Sent(id_, Place(shard, number, part), parts[0], images)


def read_done(frame: Frame) -> Done:
    payload = frame.payload
    id_, shard, number, part, count = _PLACE.unpack_from(payload)
    versions = struct.unpack_from(f"<{count}q", payload, _PLACE.size)
    return Done(id_, Place(shard, number, part), payload[_PLACE.size + 8 * count :], versions)

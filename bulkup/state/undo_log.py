"""Reads from a run's undo log what it has changed: the writes that were applied, in order.

The checkpoint says which batches are done; the log may also have commits that were never applied,
and several frames of one batch. So the log is read twice: first to find out which frame of each
batch counts, and then for the contents of these frames. The notes made in between are on disk.

A run that is cut into ranges has a log and a checkpoint for each range that was worked on here, and
its own ones if a single process began it. A range may have several, one for each process that found
the others in use; a batch is done if any of the range's checkpoints says so.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

from bulkup.core.model import RunState
from bulkup.state.before_images import DONE, SENT, Place, Sent, read_done, read_place, read_sent
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.range_folders import range_folders
from bulkup.state.scratch import Scratch
from bulkup.state.undo_files import Frame, frames_in, keeps_images, log_files

_SCHEMA = """
CREATE TABLE sent (
    folder INTEGER, id INTEGER, of TEXT, shard INTEGER, number INTEGER, part INTEGER, "end" BLOB,
    writes INTEGER, versions BLOB, landed INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (folder, id)
) WITHOUT ROWID;
CREATE INDEX sent_by_place ON sent (of, shard, number, part);
CREATE TABLE marked (of TEXT, shard INTEGER, number INTEGER, part INTEGER, "end" BLOB);
CREATE INDEX marked_by_range ON marked (of);
"""


class Change(NamedTuple):
    """One write of a run that was applied."""

    before: bytes
    """The serialized entity as it was; empty: there was none."""
    mutation: bytes
    """The serialized Mutation that was sent."""
    version: int
    """The version that the write created; 0: not known."""
    folder: int = 0
    """The number of the folder whose log it is in. The changes of one folder are in the order they
    were sent; those of different folders were sent by different processes, at any time."""


class _Known(NamedTuple):
    """What a range's checkpoints know."""

    writes: int
    """How many writes are done, by the checkpoint that knows most."""
    unknown: int
    """How many writes may or may not have been applied, by the checkpoint that was used last."""


def first_landed(run_folder: Path, most_bytes: int) -> Iterator[Change]:
    """The first changes that were applied according to the log alone, as far as they are in its
    first `most_bytes`. Raises StateError."""
    for folder in (run_folder, *range_folders(run_folder)):
        sent: dict[int, Sent] = {}
        for path in log_files(folder):
            for frame in frames_in(path):
                most_bytes -= len(frame.payload)
                if most_bytes < 0:
                    return
                if frame.kind == SENT:
                    commit = read_sent(frame)
                    sent[commit.id] = commit
                elif frame.kind == DONE:
                    landed = sent.pop(read_done(frame).id, None)
                    for before, mutation in landed.images if landed is not None else ():
                        yield Change(before, mutation, 0)


class UndoLog(Scratch):
    """The changes of a run. Must be closed."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Raises StateError for a log that cannot be read."""
        self._folders: Sequence[Path] = (checkpoint.folder, *range_folders(checkpoint.folder))
        self.is_kept = any(keeps_images(folder) for folder in self._folders)
        """False: the run has kept no before-images, or they were deleted."""
        self.missing = 0
        """Writes of the run without a before-image here."""
        self.missing_in: dict[str, int] = {}
        """How many of them are known to belong to each range, by its id."""
        self.total = 0
        """Writes of the run."""
        self.unknown = 0
        """Writes that were sent, but are not known here to have been applied or refused."""
        super().__init__(_SCHEMA)
        try:
            self._read(checkpoint)
        except BaseException:
            self.close()
            raise

    @property
    def folders(self) -> int:
        """How many folders have a log of the run."""
        return len(self._folders)

    def _read(self, checkpoint: Checkpoint) -> None:
        self._note_frames(0, "")
        self._find_landed("", [checkpoint])
        of_ranges: dict[str, _Known] = {}
        for of, numbers in self._ranges().items():
            with ExitStack() as stack:
                checkpoints = [
                    stack.enter_context(
                        closing(Checkpoint.open(self._folders[number], check=False))
                    )
                    for number in numbers
                ]
                for number in numbers:
                    self._note_frames(number, of)
                self._find_landed(of, checkpoints)
                last = max(checkpoints, key=lambda one: one.status().generation)
                writes = max(one.done().writes for one in checkpoints)
                of_ranges[of] = _Known(writes, last.unknown_writes())
        self._count(checkpoint, of_ranges)

    def _ranges(self) -> dict[str, list[int]]:
        """The numbers of the folders of each range, by its id."""
        found: dict[str, list[int]] = {}
        for number, folder in enumerate(self._folders[1:], 1):
            with closing(Checkpoint.open(folder, check=False)) as one:
                found.setdefault(one.run_info.run_id, []).append(number)
        return found

    def _note_frames(self, folder: int, of: str) -> None:
        for path in log_files(self._folders[folder]):
            for frame in frames_in(path):
                if frame.kind == SENT:
                    sent = read_sent(frame)
                    self._execute(
                        'INSERT INTO sent (folder, id, of, shard, number, part, "end", writes) '
                        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                        (folder, sent.id, of, *sent.place, sent.end, len(sent.images)),
                    )
                elif frame.kind == DONE:
                    done = read_done(frame)
                    if done.id:
                        versions = struct.pack(f"<{len(done.versions)}q", *done.versions)
                        self._execute(
                            "UPDATE sent SET landed = 1, versions = ? WHERE folder = ? AND id = ?",
                            (versions, folder, done.id),
                        )
                    else:
                        self._execute(
                            "INSERT INTO marked VALUES (?, ?, ?, ?, ?)", (of, *done.place, done.end)
                        )

    def _find_landed(self, of: str, checkpoints: Iterable[Checkpoint]) -> None:
        """Find the commits that were applied, but whose process died before it noted the answer."""
        marked = self._execute("SELECT * FROM marked WHERE of = ?", (of,)).fetchall()
        for _, shard, number, part, end in marked:
            self._land(of, Place(shard, number, part), end)
        for checkpoint in checkpoints:
            for place, end, _ in checkpoint.written_batches():
                if place is not None and not self._has_landed(of, place):
                    self._land(of, place, end)

    def _has_landed(self, of: str, place: Place) -> bool:
        found = self._execute(
            "SELECT 1 FROM sent WHERE of = ? AND shard = ? AND number = ? AND part = ? AND landed",
            (of, *place),
        )
        return found.fetchone() is not None

    def _land(self, of: str, place: Place, end: bytes) -> None:
        """Mark the last commit of this place that ends at `end`, if there is one, as applied.

        It cannot be an earlier one: a commit is sent anew only if the marker says that the server
        has refused it, and a late copy of it is refused for the same reason. All commits of a place
        are in one folder: a process that takes over a range from another folder makes new shards.
        """
        self._execute(
            "UPDATE sent SET landed = 1 WHERE (folder, id) = (SELECT folder, id FROM sent "
            'WHERE of = ? AND shard = ? AND number = ? AND part = ? AND "end" = ? '
            "ORDER BY id DESC LIMIT 1)",
            (of, *place, end),
        )

    def _count(self, checkpoint: Checkpoint, of_ranges: dict[str, _Known]) -> None:
        """Set the numbers of writes.

        Once a process that worked on ranges here has ended, the counts of the run's own checkpoint
        include the writes of its ranges. It also has the number of writes of each range, as
        Datastore knew it then.
        """
        here = dict(
            self._execute("SELECT of, coalesce(sum(writes), 0) FROM sent WHERE landed GROUP BY of")
        )
        everything = checkpoint.done().writes
        recorded = checkpoint.range_writes()
        own = sum(writes for place, _, writes in checkpoint.written_batches() if place is not None)
        totals = {"": own if of_ranges or recorded else everything}
        for of, known in of_ranges.items():
            totals[of] = known.writes
        for of, writes in recorded.items():
            totals[of] = max(totals.get(of, 0), writes)
        self.total = max(everything, sum(totals.values()))
        missing = {of: max(0, total - here.get(of, 0)) for of, total in totals.items()}
        self.missing_in = {of: count for of, count in missing.items() if of and count}
        # Writes that cannot be assigned to a range here are missing, too.
        self.missing = sum(missing.values()) + self.total - sum(totals.values())
        self.unknown = checkpoint.unknown_writes()
        if checkpoint.status().state is not RunState.FINISHED:  # else each range is finished, too
            self.unknown += sum(known.unknown for known in of_ranges.values())

    def changes(self) -> Iterator[Change]:
        """The writes that were applied, folder by folder, each folder's in the order they were
        sent. Raises StateError."""
        for number, folder in enumerate(self._folders):
            for path in log_files(folder):
                for frame in frames_in(path):
                    if frame.kind == SENT:
                        yield from self._landed(number, read_place(frame)[0], frame)

    def _landed(self, folder: int, id_: int, frame: Frame) -> Iterator[Change]:
        landed, packed = self._execute(
            "SELECT landed, versions FROM sent WHERE folder = ? AND id = ?", (folder, id_)
        ).fetchone()
        if not landed:
            return
        images = read_sent(frame).images
        versions = struct.unpack(f"<{len(packed) // 8}q", packed) if packed else ()
        if len(versions) != len(images):
            versions = (0,) * len(images)
        for (before, mutation), version in zip(images, versions, strict=True):
            yield Change(before, mutation, version, folder)

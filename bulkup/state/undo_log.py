"""Reads what a run has changed from its undo log: the writes that were applied, in their order.

The checkpoint says which batches are done; the log may also have commits that were never applied,
and several frames of one batch. So the log is read twice: first to find out which frame of each
batch counts, and then for what is in them. What is noted in between is on disk.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bulkup.state.before_images import DONE, SENT, Place, Sent, read_done, read_place, read_sent
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.undo_files import frames_in, keeps_images, log_files

_SCHEMA = """
CREATE TABLE sent (
    id INTEGER PRIMARY KEY, shard INTEGER, number INTEGER, part INTEGER, "end" BLOB, versions BLOB,
    landed INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX sent_by_place ON sent (shard, number, part);
CREATE TABLE marked (shard INTEGER, number INTEGER, part INTEGER, "end" BLOB);
"""


class Change(NamedTuple):
    """One write of a run, which was applied."""

    before: bytes
    """The serialized entity as it was; empty: there was none."""
    mutation: bytes
    """The serialized Mutation that was sent."""
    version: int
    """That the write has made; 0: not known."""


def first_landed(run_folder: Path, most_bytes: int) -> Iterator[Change]:
    """The first changes that the log itself says were applied, as far as they are in its first
    bytes. Raises StateError."""
    sent: dict[int, Sent] = {}
    for path in log_files(run_folder):
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


class UndoLog:
    """The changes of a run. Close it."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Raises StateError for a log that cannot be read."""
        self._folder = checkpoint.folder
        self.is_kept = keeps_images(checkpoint.folder)
        """False: the run has kept no before-images, or they were deleted."""
        self.missing = 0
        """Writes of the run without a before-image here."""
        self.total = 0
        """Writes of the run."""
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.executescript(f"PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF; {_SCHEMA}")
        self._db.execute("BEGIN")
        try:
            self._note_frames()
            self._find_landed(checkpoint)
        except BaseException:
            self._db.close()
            raise

    def _note_frames(self) -> None:
        db = self._db
        for path in log_files(self._folder):
            for frame in frames_in(path):
                if frame.kind == SENT:
                    sent = read_sent(frame)
                    db.execute(
                        'INSERT INTO sent (id, shard, number, part, "end") VALUES (?, ?, ?, ?, ?)',
                        (sent.id, *sent.place, sent.end),
                    )
                elif frame.kind == DONE:
                    done = read_done(frame)
                    if done.id:
                        versions = struct.pack(f"<{len(done.versions)}q", *done.versions)
                        db.execute(
                            "UPDATE sent SET landed = 1, versions = ? WHERE id = ?",
                            (versions, done.id),
                        )
                    else:
                        db.execute(
                            "INSERT INTO marked VALUES (?, ?, ?, ?)", (*done.place, done.end)
                        )
        for *place, end in db.execute("SELECT * FROM marked").fetchall():
            self._land(Place(*place), end)

    def _find_landed(self, checkpoint: Checkpoint) -> None:
        """Batches that are done, and whose answer was not noted before the process died."""
        for place, end, writes in checkpoint.written_batches():
            self.total += writes
            if place is None or not (self._has_landed(place) or self._land(place, end)):
                self.missing += writes

    def _has_landed(self, place: Place) -> bool:
        found = self._db.execute(
            "SELECT 1 FROM sent WHERE shard = ? AND number = ? AND part = ? AND landed", place
        )
        return found.fetchone() is not None

    def _land(self, place: Place, end: bytes) -> bool:
        """The last commit of this place that ends there was applied. False: there is none.

        Not one before it: a commit is sent anew only when the marker says that the server has
        refused it, and a late copy of it is refused for the same reason.
        """
        return (
            self._db.execute(
                "UPDATE sent SET landed = 1 WHERE id = (SELECT max(id) FROM sent "
                'WHERE shard = ? AND number = ? AND part = ? AND "end" = ?)',
                (*place, end),
            ).rowcount
            > 0
        )

    def changes(self) -> Iterator[Change]:
        """The writes that were applied, in the order they were sent. Raises StateError."""
        for path in log_files(self._folder):
            for frame in frames_in(path):
                if frame.kind != SENT:
                    continue
                id_, _ = read_place(frame)
                landed, packed = self._db.execute(
                    "SELECT landed, versions FROM sent WHERE id = ?", (id_,)
                ).fetchone()
                if not landed:
                    continue
                images = read_sent(frame).images
                versions = struct.unpack(f"<{len(packed) // 8}q", packed) if packed else ()
                if len(versions) != len(images):
                    versions = (0,) * len(images)
                for (before, mutation), version in zip(images, versions, strict=True):
                    yield Change(before, mutation, version)

    def close(self) -> None:
        self._db.close()

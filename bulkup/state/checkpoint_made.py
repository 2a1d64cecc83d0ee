"""The keys of the entities that a run has made, if only keys tell them from those it found.

See `engine/made_entities.py`.
"""

from __future__ import annotations

from collections.abc import Iterable

from bulkup.datastore.keys import key_digest
from bulkup.state.checkpoint_file import CheckpointFile
from bulkup.state.record import Made


class MadeKeys(CheckpointFile):
    """A set that grows on disk, not in memory."""

    syncs_batches = False
    """Whether every batch is synced to disk before its commit is sent. An older copy of this file
    can then be recognized, because it lacks keys."""

    def begin_making(self, since_ns: int) -> None:
        """Record that the run will make entities its query may find. See `state.record.Made`."""
        with self._step(synced=True):
            # Files of earlier versions lack the table.
            self._db.execute("CREATE TABLE IF NOT EXISTS made (key BLOB PRIMARY KEY) WITHOUT ROWID")
            self._set(made_since_ns=since_ns)

    def made(self) -> Made:
        """What `begin_making` has noted."""
        meta = self._meta()
        since_ns = meta.get("made_since_ns")
        if since_ns is None:
            return Made()
        return Made(since_ns=since_ns) if since_ns else Made(known_in=meta["file_id"])

    def remember_made(self, keys: Iterable[bytes]) -> None:
        """Note the keys of new entities, synced to disk, before their commit is sent."""
        with self._step(synced=True):
            self._db.executemany(
                "INSERT INTO made VALUES (?) ON CONFLICT DO NOTHING",
                [(key_digest(key),) for key in keys],
            )

    def is_made(self, key: bytes) -> bool:
        """Whether `remember_made` has noted the key."""
        found = self._db.execute("SELECT 1 FROM made WHERE key = ?", (key_digest(key),))
        return found.fetchone() is not None

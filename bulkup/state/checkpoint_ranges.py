"""How much each range of a run has written, from any machine, in the run's own checkpoint."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from bulkup.state.checkpoint_file import CheckpointFile

_TABLE = "CREATE TABLE IF NOT EXISTS range_writes (range TEXT PRIMARY KEY, writes INTEGER NOT NULL)"


class RangeWrites(CheckpointFile):
    """How much the ranges of a run have written. Their records in Datastore are removed when the
    run is swept."""

    def ranges_have_written(self, writes: Mapping[str, int]) -> None:
        """Note how much each range, by its id, has written so far; "": the run before the cut."""
        with self._step():
            self._db.execute(_TABLE)
            self._db.executemany(
                "INSERT INTO range_writes VALUES (?, ?) "
                "ON CONFLICT DO UPDATE SET writes = max(writes, excluded.writes)",
                writes.items(),
            )

    def range_writes(self) -> dict[str, int]:
        """What was noted; empty: nothing yet, since no process of this machine has ended."""
        try:
            return dict(self._db.execute("SELECT range, writes FROM range_writes ORDER BY range"))
        except sqlite3.OperationalError:  # there is no such table
            return {}

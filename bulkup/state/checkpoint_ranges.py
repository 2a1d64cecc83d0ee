"""What a run's own checkpoint notes of its ranges: how much each has written, by whomever."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from bulkup.state.checkpoint_file import CheckpointFile

_TABLE = "CREATE TABLE IF NOT EXISTS range_writes (range TEXT PRIMARY KEY, writes INTEGER NOT NULL)"


class RangeWrites(CheckpointFile):
    """Of a run that is cut into ranges. Datastore's records of them go when the run is swept."""

    def ranges_have_written(self, writes: Mapping[str, int]) -> None:
        """Note how much each range has written by now, by its id; "": the run before it was cut."""
        with self._step():
            self._db.execute(_TABLE)
            self._db.executemany(
                "INSERT INTO range_writes VALUES (?, ?) "
                "ON CONFLICT DO UPDATE SET writes = max(writes, excluded.writes)",
                writes.items(),
            )

    def range_writes(self) -> dict[str, int]:
        """What was noted; empty: nothing was, since no process of this machine has ended yet."""
        try:
            return dict(self._db.execute("SELECT range, writes FROM range_writes ORDER BY range"))
        except sqlite3.OperationalError:  # there is no such table
            return {}

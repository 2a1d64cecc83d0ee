"""Temporary tables that may be too large for memory: SQLite in an unnamed file."""

from __future__ import annotations

import sqlite3

from bulkup.core.closing import Closing
from bulkup.core.errors import StateError


class Scratch(Closing):
    """Temporary tables with facts about before-images. Belongs to one thread."""

    def __init__(self, schema: str) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        # Nobody reads this file after a crash.
        self._db.executescript(f"PRAGMA synchronous = OFF; PRAGMA journal_mode = OFF; {schema}")
        self._db.execute("BEGIN")

    def _execute(self, statement: str, values: tuple[object, ...] = ()) -> sqlite3.Cursor:
        """Raises StateError."""
        try:
            return self._db.execute(statement, values)
        except sqlite3.Error as error:
            raise cannot_write(error) from error

    def close(self) -> None:
        self._db.close()


def cannot_write(error: sqlite3.Error) -> StateError:
    return StateError(
        f"cannot write a temporary list of before-images ({error}); free disk space, or name a "
        "folder with more of it in TMPDIR"
    )

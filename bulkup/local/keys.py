"""Ids that the server gives: 16 digits, scattered, none twice."""

from __future__ import annotations

import sqlite3
from typing import Any

from bulkup.local.storage import Storage

_BASE = 1 << 52
_STEP = 0x9E3779B97F4A7
"""Odd, so that counting steps of it modulo 2**52 meets every id once before any twice; far apart,
so that new entities spread over the key range as the service's do. Ids stay below 2**53, which a
JSON number holds."""


def allocate_id(storage: Storage, db: sqlite3.Connection, part: int) -> int:
    """An id that this file has neither given before nor been told to reserve."""
    while True:
        number = _BASE + storage.next_id * _STEP % _BASE
        storage.next_id += 1
        db.execute("UPDATE meta SET value = ? WHERE name = 'next_id'", (storage.next_id,))
        taken = db.execute(
            "SELECT 1 FROM reserved WHERE part = ? AND id = ?", (part, number)
        ).fetchone()
        if taken is None:
            return number


def reserve_id(db: sqlite3.Connection, part: int, key: Any) -> None:
    """Never allocate the key's id. Names need no reserving."""
    if key.path[-1].id > 0:
        db.execute("INSERT OR IGNORE INTO reserved VALUES (?, ?)", (part, key.path[-1].id))

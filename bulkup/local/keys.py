"""Ids that the server allocates: 16 digits, scattered, none twice."""

from __future__ import annotations

import sqlite3
from typing import Any

from bulkup.local.catalog import Catalog

_BASE = 1 << 52
_STEP = 0x9E3779B97F4A7
"""Odd, so that multiples of it modulo 2**52 meet every id once before any id twice. Large, so that
new entities spread over the key range, as those of the service do. Ids stay below 2**53, the
largest integer that every JSON reader keeps exact."""


def allocate_id(catalog: Catalog, db: sqlite3.Connection, part: int) -> int:
    """An id that this file has neither allocated nor reserved."""
    while True:
        number = _BASE + catalog.next_id * _STEP % _BASE
        catalog.next_id += 1
        db.execute("UPDATE meta SET value = ? WHERE name = 'next_id'", (catalog.next_id,))
        taken = db.execute(
            "SELECT 1 FROM reserved WHERE part = ? AND id = ?", (part, number)
        ).fetchone()
        if taken is None:
            return number


def reserve_id(db: sqlite3.Connection, part: int, key: Any) -> None:
    """Never allocate the key's id. Names need no reserving."""
    if key.path[-1].id > 0:
        db.execute("INSERT OR IGNORE INTO reserved VALUES (?, ?)", (part, key.path[-1].id))

"""Ids that the server allocates: 16 digits, scattered, never repeated."""

from __future__ import annotations

import sqlite3
from typing import Any

from bulkup.local.catalog import Catalog

_BASE = 1 << 52
_STEP = 0x9E3779B97F4A7
"""Odd, so that its multiples modulo 2**52 reach every id once before any id repeats. Large, so that
new entities spread over the key range, as in the service. Ids stay below 2**53, the largest integer
that every JSON reader keeps exact."""

_NUMBER_OF_STEP = pow(_STEP, -1, _BASE)
_MOST_ALLOCATED = 1 << 40
"""More ids than a file can ever hold. Ids that would be allocated after these need not be reserved:
all but one in 4,096 of the random 16-digit ids that the service allocates."""


def may_be_allocated(number: int, next_id: int) -> bool:
    """Whether `allocate_id` could reach an id, which must then be reserved."""
    if not _BASE <= number < 2 * _BASE:
        return False
    return next_id <= (number - _BASE) * _NUMBER_OF_STEP % _BASE < _MOST_ALLOCATED


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
    """Reserve the key's id, so that it is never allocated. Names need no reserving."""
    if key.path[-1].id > 0:
        db.execute("INSERT OR IGNORE INTO reserved VALUES (?, ?)", (part, key.path[-1].id))

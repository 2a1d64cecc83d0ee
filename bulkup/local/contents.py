"""Everything that an open file holds, for a test that compares it before and after."""

from __future__ import annotations

from typing import Any

from bulkup.local import messages as m
from bulkup.local.storage import Storage


def contents(storage: Storage) -> list[Any]:
    """The Entity messages of all partitions, in the order of their keys."""
    with storage.reading() as snapshot:
        rows = snapshot.db.execute("SELECT body FROM entities ORDER BY part, path")
        return [m.Entity.FromString(body) for (body,) in rows]

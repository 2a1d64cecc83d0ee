"""Which projects and databases a file holds; the Datastore API has no call that lists them."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

_HOLDING = """
SELECT DISTINCT project, database FROM partitions JOIN kinds ON kinds.part = partitions.id
WHERE substr(kinds.name, 1, 2) <> '__' AND EXISTS(SELECT 1 FROM entities WHERE kind = kinds.id)
"""


def databases_in(path: str, without: Collection[str] = ()) -> list[tuple[str, str]]:
    """The projects and databases that hold entities of other kinds than `without`, sorted.

    Only for a file that another process serves: if this process served it, closing it here would
    release the server's locks. Send the server a query first, so that it writes its pending rows.
    """
    marks = ",".join("?" * len(without))
    query = f"{_HOLDING} AND kinds.name NOT IN ({marks}) ORDER BY project, database"
    with closing(sqlite3.connect(f"{Path(path).as_uri()}?mode=ro", uri=True, timeout=10)) as file:
        return file.execute(query, tuple(without)).fetchall()

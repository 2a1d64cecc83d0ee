"""What differs between two copies of one file, each of which was changed on its own.

An entity's version is the time of the commit that wrote it, so an entity that neither side has
written has the same version on both, and its body need not be read. If the file is ahead of the
clock, its commits get the next numbers instead of the time. The two sides may then give the same
version to different commits, unless one side is the file itself.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from bulkup.local.file import connect
from bulkup.local.storage import Storage

_SAME_KINDS = """
CREATE TEMP TABLE same_kinds AS
SELECT one.id AS one, other.id AS other, one.name AS name
FROM {one}.kinds one JOIN {one}.partitions p ON p.id = one.part
LEFT JOIN {other}.partitions q
  ON q.project = p.project AND q.database = p.database AND q.namespace = p.namespace
LEFT JOIN {other}.kinds other ON other.part = q.id AND other.name = one.name
"""
_WRITTEN = """
SELECT other.body, one.body FROM {one}.entities one
LEFT JOIN {other}.entities other ON other.kind = ? AND other.path = one.path
WHERE one.kind = ? AND (
  other.eid IS NULL
  OR ((other.version <> one.version OR one.version > ?) AND other.body <> one.body))
ORDER BY one.path
"""
_GONE = """
SELECT other.body FROM {other}.entities other
LEFT JOIN {one}.entities one ON one.kind = ? AND one.path = other.path
WHERE other.kind = ? AND one.eid IS NULL
ORDER BY other.path
"""

_AT = "SELECT body FROM entities WHERE part IN (SELECT id FROM partitions) AND path = ?"


class Changed(NamedTuple):
    """An entity that differs between the two sides, as serialized Entity messages."""

    before: bytes | None
    after: bytes | None


def settle(path: Path) -> None:
    """Write the commits in a file's log into its rows, so that `changes` sees them. Nobody may have
    the file open. Raises StateError."""
    storage = Storage(path)
    try:
        with storage.reading():
            pass
    finally:
        storage.close()


def changes(
    before: Path, after: Path, without: Collection[str] = (), *, base: Path | None = None
) -> Iterator[Changed]:
    """The entities of all partitions that are not byte-identical on both sides, except those of
    reserved kinds and of the kinds in `without`. Ordered by kind, then key; deleted entities come
    last.

    Both must be `settle`d copies of the same file, and nobody may write to them meanwhile. `base`:
    that file as it was copied; None if that is `before`.
    """
    common = _last_version(base or before)
    with _both(before, after) as db:
        names = {"one": "main", "other": "before"}
        for one, other in _kinds(db, names, without):
            written = db.execute(_WRITTEN.format_map(names), (other, one, common))
            yield from map(Changed._make, written)
        for of_before, of_after in _kinds(db, {"one": "before", "other": "main"}, without):
            for (body,) in db.execute(_GONE.format_map(names), (of_after, of_before)):
                yield Changed(body, None)


def counted(path: Path, without: Collection[str] = ()) -> list[tuple[str, int]]:
    """The kinds of all partitions and how many entities each has, the largest first."""
    marks = ", ".join("?" * len(without))
    with closing(connect(path)) as db:
        return db.execute(
            "SELECT kinds.name, count(*) AS n FROM kinds JOIN entities ON entities.kind = kinds.id "  # noqa: S608
            f"WHERE substr(kinds.name, 1, 2) <> '__' AND kinds.name NOT IN ({marks}) "
            "GROUP BY kinds.name ORDER BY n DESC, kinds.name",
            tuple(without),
        ).fetchall()


def entities_at(path: Path, keys: Collection[bytes]) -> Iterator[bytes]:
    """Bodies of the entities of all partitions that have these encoded paths."""
    with closing(connect(path)) as db:
        for key in keys:
            for (body,) in db.execute(_AT, (key,)):
                yield body


def _last_version(path: Path) -> int:
    with closing(connect(path)) as db:
        (version,) = db.execute("SELECT value FROM meta WHERE name = 'last_version'").fetchone()
        return int(version)


@contextmanager
def _both(before: Path, after: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(after)) as db:
        db.execute("ATTACH ? AS before", (str(before),))
        yield db


def _kinds(
    db: sqlite3.Connection, names: dict[str, str], without: Collection[str]
) -> list[tuple[int, int | None]]:
    """The number of each kind on one side, and on the other; None if the other has no such kind."""
    db.execute("DROP TABLE IF EXISTS temp.same_kinds")
    db.execute(_SAME_KINDS.format_map(names))
    rows = db.execute("SELECT one, other, name FROM same_kinds ORDER BY one").fetchall()
    return [
        (one, other)
        for one, other, name in rows
        if name not in without and not name.startswith("__")
    ]

# ruff: noqa: S608 - built from constants of this package; every value is a parameter
"""Pieces of SQL that queries are built from, and reads that are one statement."""

from __future__ import annotations

import re
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence

from bulkup.local.intervals import EVERYTHING, HIGHEST, LOWEST, Intervals


class Parameters:
    """Collects the values of numbered parameters."""

    def __init__(self) -> None:
        self.values: list[object] = []

    def __call__(self, value: object) -> str:
        self.values.append(value)
        return f"?{len(self.values)}"


_TAKEN_FOR_NAMED = (3, 12) <= sys.version_info < (3, 12, 4)
_NUMBER = re.compile(r"\?([0-9]+)")


def execute(db: sqlite3.Connection, sql: str, values: Sequence[object]) -> sqlite3.Cursor:
    """Execute SQL with numbered parameters.

    Python 3.12.0 to 3.12.3 take ?1 for a named parameter, and warn if it gets a sequence
    (gh-117995). A user's test that serves a file in its own process would fail because of it.
    """
    if not _TAKEN_FOR_NAMED:
        return db.execute(sql, values)
    named = {f"p{number}": value for number, value in enumerate(values, 1)}
    return db.execute(_NUMBER.sub(r":p\1", sql), named)


def alive(alias: str, at: str | None) -> str:
    """A condition that a row of `entries` is valid, now or at a version."""
    if at is None:
        return f"{alias}.until IS NULL"
    return f"{alias}.since <= {at} AND ({alias}.until IS NULL OR {alias}.until > {at})"


def within(
    expression: str, intervals: Intervals, p: Parameters, form: Callable[[bytes], object] = bytes
) -> str:
    """A condition that an expression is in one of the intervals."""
    if intervals == EVERYTHING:
        return "1"
    terms = []
    for low, high in intervals:
        term = []
        if low != LOWEST:
            term.append(f"{expression} >= {p(form(low))}")
        if high != HIGHEST:
            term.append(f"{expression} < {p(form(high))}")
        terms.append(" AND ".join(term) or "1")
    return terms[0] if len(terms) == 1 else "(" + " OR ".join(f"({term})" for term in terms) + ")"


def packed_of(alias: str, at: str | None, kind: int | None) -> str:
    """The packed entries of a row's entity, now or at a version."""
    live = f"SELECT packed FROM entities WHERE eid = {alias}.eid"
    if at is None:
        return f"({live})"
    assert kind is not None, "a query over all kinds has no properties"
    return (
        f"({live} AND version <= {at} UNION ALL SELECT packed FROM entities_past "
        f"WHERE kind = {kind} AND path = {alias}.path AND version <= {at} AND until > {at})"
    )


def one_entity(db: sqlite3.Connection, eid: int) -> tuple[int, int, bytes]:
    """(version, created, body) of a live entity."""
    row: tuple[int, int, bytes] = db.execute(
        "SELECT version, created, body FROM entities WHERE eid = ?", (eid,)
    ).fetchone()
    return row


def by_path(
    db: sqlite3.Connection, kind: int, path: bytes, at: int | None
) -> tuple[int, int, bytes] | None:
    """(version, created, body) by key, now or as it was at a version."""
    row: tuple[int, int, bytes] | None = db.execute(
        "SELECT version, created, body FROM entities WHERE kind = ? AND path = ?", (kind, path)
    ).fetchone()
    if at is None or (row is not None and row[0] <= at):
        return row
    row = db.execute(
        "SELECT version, created, body FROM entities_past "
        "WHERE kind = ? AND path = ? AND until > ? AND version <= ? ORDER BY until LIMIT 1",
        (kind, path, at, at),
    ).fetchone()
    return row  # noqa: RET504 - the annotation above is its type


def by_paths(
    db: sqlite3.Connection, places: Sequence[tuple[int, bytes]], at: int | None
) -> Iterator[tuple[int, int, bytes] | None]:
    """Like `by_path`, for each (kind, path) in turn; only a few are in memory at a time. Kind 0 has
    no entities."""
    start, few = 0, _FEW
    while start < len(places):
        some = places[start : start + few]
        start += few
        size = 0
        found: dict[tuple[int, bytes], tuple[int, int, bytes]] = {}
        if at is None:
            for kind in {kind for kind, _ in some}:
                paths = [path for number, path in some if number == kind]
                for path, version, created, body in db.execute(
                    "SELECT path, version, created, body FROM entities "
                    f"WHERE kind = ? AND path IN ({', '.join('?' * len(paths))})",
                    (kind, *paths),
                ):
                    found[kind, path] = version, created, body
                    size += len(body)
            yield from map(found.get, some)
            # Reading many small entities together is faster.
            few = _TOGETHER if size < len(some) * _SMALL_BYTES else _FEW
        else:
            for kind, path in some:
                yield by_path(db, kind, path, at)


Stored = tuple[int, int, int, bytes, str]
"""A row of `entities`: (eid, version, created, body, packed)."""
_TOGETHER = 100
_FEW = 20
"""How many entities, of up to 1 MiB, a lookup reads at once: it may stop after the first ones."""
_SMALL_BYTES = 4096
"""If those read last were smaller than this on average, `_TOGETHER` are read at once."""


def stored_rows(
    db: sqlite3.Connection, kind: int, paths: Sequence[bytes], *, whole: bool = True
) -> Iterator[tuple[bytes, Stored]]:
    """The live entities of a kind at some paths; `packed` is empty unless `whole`."""
    packed = "packed" if whole else "''"
    for start in range(0, len(paths), _TOGETHER):
        some = paths[start : start + _TOGETHER]
        for path, *stored in db.execute(
            f"SELECT path, eid, version, created, body, {packed} FROM entities "
            f"WHERE kind = ? AND path IN ({', '.join('?' * len(some))})",
            (kind, *some),
        ):
            yield path, tuple(stored)

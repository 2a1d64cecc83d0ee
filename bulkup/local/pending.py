"""Commits that are durable, but whose rows have not been written yet.

Most of a commit's time goes into its rows: an entity with ten properties has a dozen, spread over
the file. Commits that follow one another without a query between them go to the table `log`
instead, as one row each, where they are just as durable. Their rows are written together, in order,
each with the version of its commit, before anybody reads rows (`write_pending` in rows.py). Until
then, this module holds the state of each changed key. It is filled from `log` again when a file is
opened.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

Place = tuple[int, bytes]
"""Kind number and encoded path."""


class Record(NamedTuple):
    """An entity as a commit left it."""

    kind: int
    path: bytes
    created: int
    body: bytes | None
    """None for a deleted entity."""


class State(NamedTuple):
    version: int
    created: int
    body: bytes | None


_HEAD = struct.Struct("<IIQi")
"""Kind, length of the path, created, length of the body (-1 for none)."""


def encode(records: Iterable[Record]) -> bytes:
    """The records of a commit as a row of `log`."""
    out = []
    for kind, path, created, body in records:
        out.append(_HEAD.pack(kind, len(path), created, -1 if body is None else len(body)))
        out.append(path)
        if body is not None:
            out.append(body)
    return b"".join(out)


def decode(data: bytes) -> Iterator[Record]:
    at = 0
    while at < len(data):
        kind, length, created, size = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        path = data[at : at + length]
        at += length
        body = None if size < 0 else data[at : at + size]
        at += max(size, 0)
        yield Record(kind, path, created, body)


class Pending:
    """The contents of the log, by commit and by key. `Storage` does the locking."""

    def __init__(self) -> None:
        self._commits: deque[tuple[int, list[Record]]] = deque()
        self._states: dict[Place, tuple[State, State | None]] = {}
        self.size = 0
        """Bytes of all bodies."""

    def __len__(self) -> int:
        """Number of commits."""
        return len(self._commits)

    def add(self, version: int, records: list[Record]) -> None:
        """Add a commit before it is committed; `take_back` removes it if that fails."""
        self._commits.append((version, records))
        states = self._states
        size = 0
        for kind, path, created, body in records:
            place = kind, path
            before = states.get(place)
            states[place] = State(version, created, body), before[0] if before else None
            if body is not None:
                size += len(body)
        self.size += size

    def take_back(self, version: int) -> None:
        """Remove the commit of a version, if it is the last one."""
        if not self._commits or self._commits[-1][0] != version:
            return
        _, records = self._commits.pop()
        for record in records:
            place = record[:2]
            _, before = self._states.pop(place)
            if before is not None:
                self._states[place] = before, None
            self.size -= len(record.body or b"")

    def oldest(self, rows: int) -> list[tuple[int, list[Record]]]:
        """The oldest commits, with at least `rows` records in all if there are that many."""
        count = found = 0
        for _, records in self._commits:
            if found >= rows:
                break
            count += 1
            found += len(records)
        return list(islice(self._commits, count))

    def drop(self, count: int) -> None:
        """Remove the `count` oldest commits, whose rows have been written."""
        for _ in range(count):
            version, records = self._commits.popleft()
            for record in records:
                state = self._states.get(record[:2])
                if state is not None and state[0].version <= version:
                    del self._states[record[:2]]
                self.size -= len(record.body or b"")

    def at(self, places: Iterable[Place], version: int) -> dict[Place, State]:
        """The pending states of some keys. `version` is the present, so a commit that is still in
        progress is left out."""
        found = {}
        states = self._states
        for place in places:
            both = states.get(place)
            if both is not None:
                state = both[0] if both[0].version <= version else both[1]
                if state is not None:
                    found[place] = state
        return found

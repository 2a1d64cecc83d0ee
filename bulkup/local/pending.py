"""Commits that are on the disk, but whose rows are not made yet.

Most of a commit's time goes into rows: an entity with ten properties has a dozen, all over the
file. Commits that come one after another, with no query between them, are written to the table
`log` instead, one row each, in one place; they are as durable there. Their rows are made together,
in order, each with the version it was committed at, before anybody looks at rows (`settle` in
rows.py). Until then this tells what a key holds; it is filled anew from `log` when a file opens.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

Place = tuple[int, bytes]
"""Number of the kind, encoded path."""


class Record(NamedTuple):
    """What a commit left of an entity."""

    kind: int
    path: bytes
    created: int
    body: bytes | None
    """None: it is gone."""


class State(NamedTuple):
    version: int
    created: int
    body: bytes | None


_HEAD = struct.Struct("<IIQi")
"""Kind, length of the path, created, length of the body or -1 for none."""


def encode(records: Iterable[Record]) -> bytes:
    """The records of a commit as they are in `log`."""
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
    """What is in the log, by commit and by key. Not locked: `Storage` does that."""

    def __init__(self) -> None:
        self._commits: deque[tuple[int, list[Record]]] = deque()
        self._states: dict[Place, tuple[State, State | None]] = {}
        self.size = 0
        """Of the bodies, in bytes."""

    def __len__(self) -> int:
        """In commits."""
        return len(self._commits)

    def add(self, version: int, records: list[Record]) -> None:
        """Add a commit, before it is one: until it is, `take_back` forgets it."""
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
        """Forget the commit of a version, if it is the last one."""
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
        """The first commits, with at least so many records in all if there are."""
        count = found = 0
        for _, records in self._commits:
            if found >= rows:
                break
            count += 1
            found += len(records)
        return list(islice(self._commits, count))

    def drop(self, count: int) -> None:
        """The first so many commits are rows now."""
        for _ in range(count):
            version, records = self._commits.popleft()
            for record in records:
                state = self._states.get(record[:2])
                if state is not None and state[0].version <= version:
                    del self._states[record[:2]]
                self.size -= len(record.body or b"")

    def at(self, places: Iterable[Place], version: int) -> dict[Place, State]:
        """What some keys hold, of those that are pending; `version` is the present, which has
        everything but a commit that is not one yet."""
        found = {}
        states = self._states
        for place in places:
            both = states.get(place)
            if both is not None:
                state = both[0] if both[0].version <= version else both[1]
                if state is not None:
                    found[place] = state
        return found

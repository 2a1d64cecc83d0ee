"""The stored entities that a commit will change, read before its turn to write.

Reading them ahead keeps the single writer free for others. What was read is still valid when the
commit writes, unless the kind was written to since.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

from bulkup.local.encoding import Partition
from bulkup.local.mutations import Operation
from bulkup.local.pending import Place
from bulkup.local.sql import Stored, stored_rows
from bulkup.local.storage import Storage


class Prefetched:
    """The stored entities of a commit's operations."""

    def __init__(
        self, storage: Storage, operations: Sequence[Operation], *, deferring: bool = False
    ) -> None:
        self.deferring = deferring
        """Whether the commit defers its rows. If so, pending entities have only a version, a
        creation time and a body."""
        self._storage = storage
        self._rows: dict[Place, Stored | None] = {}
        places = self._places(operations)
        self._rows.update(dict.fromkeys(place for place in places if place is not None))
        if not (deferring and self._take_last_lookup()):
            self._read()
        rows = [None if place is None else self._rows[place] for place in places]
        irregular = storage.catalog.irregular
        self.bodies = [
            None if stored is None or (irregular and place and place[0] in irregular) else stored[3]
            for stored, place in zip(rows, places, strict=True)
        ]
        """The stored body for each operation. None if there is none, or if it may not have been
        checked when it was stored (`Catalog.irregular`)."""

    def row(self, db: sqlite3.Connection, version: int, kind: int, path: bytes) -> Stored | None:
        """What is stored under a key. Call this inside `writing()`, with its version."""
        place = kind, path
        if place in self._rows and self._storage.kind_version(kind) <= self._last:
            return self._rows[place]
        if self.deferring:
            pending = _as_stored(self._storage.pending.at([place], version))
            if place in pending:
                return pending[place]
        return next((stored for _, stored in stored_rows(db, kind, [path])), None)

    def _take_last_lookup(self) -> bool:
        """Take the entities from the last lookup if it read all of them; returns whether it did.
        `row` checks whether they are still valid."""
        last, states = self._storage.last_lookup
        for kind in {kind for kind, _ in self._rows}:
            if self._storage.kind_version(kind) > last:
                return False
        found = {place: states[place] for place in self._rows if place in states}
        if len(found) < len(self._rows):
            return False
        # Do what a snapshot would do, so that the commit gets the same version, deferred or not.
        self._storage.present()
        self._last = last
        self._rows = _as_stored(found)
        return True

    def _read(self) -> None:
        storage, deferring = self._storage, self.deferring
        with (
            storage.reading_keys(lambda: self._rows)
            if deferring
            else storage.reading(to_commit=True)
        ) as snapshot:
            self._last = snapshot.last
            found: dict[Place, Stored | None] = {}
            if deferring:
                found = {**self._from_last_lookup(), **_as_stored(snapshot.pending)}
            self._rows.update(found)
            paths: dict[int, list[bytes]] = {}
            for place in self._rows:
                if place not in found:
                    paths.setdefault(place[0], []).append(place[1])
            for kind, those in paths.items():
                for path, stored in stored_rows(snapshot.db, kind, those, whole=not deferring):
                    self._rows[kind, path] = stored

    def _from_last_lookup(self) -> dict[Place, Stored | None]:
        """Those of the entities that the last lookup read. Only valid after a snapshot was taken,
        which then has no later write to their kinds."""
        last, states = self._storage.last_lookup
        kinds = {kind for kind, _ in self._rows if self._storage.kind_version(kind) <= last}
        return _as_stored(
            {place: states[place] for place in self._rows if place[0] in kinds and place in states}
        )

    def _places(self, operations: Sequence[Operation]) -> list[Place | None]:
        """The place of each operation; None if it has none yet."""
        kinds: dict[tuple[Partition, str], int | None] = {}
        places: list[Place | None] = []
        partition, name, number = None, None, None
        for operation in operations:
            if operation.kind is not name or operation.partition is not partition:
                partition, name = operation.partition, operation.kind
                if (partition, name) not in kinds:
                    kinds[partition, name] = self._storage.catalog.kind(partition, name)
                number = kinds[partition, name]
            places.append((number, operation.path) if number and operation.path else None)
        return places


def _as_stored(
    states: Mapping[Place, tuple[int, int, bytes | None]],
) -> dict[Place, Stored | None]:
    """States in the form of rows, with placeholders for what only rows have."""
    return {
        place: None if body is None else (0, version, created, body, "")
        for place, (version, created, body) in states.items()
    }

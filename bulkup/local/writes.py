"""Mutations, applied to the stored entities.

Choices where servers differ, and why:

- `base_version` and `update_time` conditions are checked as the API reference says, in every mode
  and with every strategy: SERVER_VALUE (also unset) keeps the stored entity and reports
  `conflict_detected`; FAIL fails the commit with FAILED_PRECONDITION. (One of Google's emulators
  ignores SERVER_VALUE conditions, the others ignore `update_time`.)
- A condition is on what was stored before the commit, also for the second mutation of an entity
  (Google's newer emulator wants the same base version on both; so does this).
- FAIL on an entity that is gone is FAILED_PRECONDITION, as a condition that does not hold; without
  FAIL an `update` of it is NOT_FOUND, as every emulator has it.
- A failing mutation of a non-transactional commit ends the commit; those before it stay. The
  reference promises neither order nor atomicity there; every emulator behaves like this.
- Writing what is stored already changes nothing: neither version nor update time.
- Property masks and transforms follow the API reference.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import grpc

from bulkup.local import messages as m
from bulkup.local.changes import Changes
from bulkup.local.encoding import Partition, encode_path
from bulkup.local.indexing import Entries, index_entries
from bulkup.local.keys import allocate_id
from bulkup.local.limits import check_entity_size, key_text
from bulkup.local.masks import apply_mask
from bulkup.local.mutations import Operation
from bulkup.local.pending import Place, Record
from bulkup.local.rows import Change, Rows
from bulkup.local.sql import Stored, stored_rows
from bulkup.local.status import RpcError, invalid
from bulkup.local.storage import Storage
from bulkup.local.transforms import apply_transforms

_RECORDS_A_PAGE = 8
"""Of 500 bytes. Rows are all over the file, and a page each; records are in one place."""


class _Row:
    """An entity as this commit sees it: as stored, then as its mutations leave it."""

    __slots__ = ("body", "changes", "created", "entries", "stored", "version")

    def __init__(self, stored: Stored | None) -> None:
        self.stored = stored
        if stored is None:
            self.version, self.created, self.body = 0, 0, None
        else:
            _, self.version, self.created, self.body, _ = stored
        self.entries: Entries | None = None
        """Of `body`, once it is not the stored one; None where `changes` tells how it became."""
        self.changes: Changes | None = None


class Known:
    """The stored entities of a commit's operations, read together before its turn to write.

    What is read here saves others the waiting, and holds if nobody has written the kind since.
    """

    def __init__(
        self, storage: Storage, operations: Sequence[Operation], *, deferring: bool = False
    ) -> None:
        self.deferring = deferring
        """The commit will not make rows: what is pending is known by version, time and body."""
        self._storage = storage
        self._rows: dict[Place, Stored | None] = {}
        places = self._places(operations)
        self._rows.update(dict.fromkeys(place for place in places if place is not None))
        if not (deferring and self._all_looked_up()):
            self._read()
        rows = [None if place is None else self._rows[place] for place in places]
        self.bodies = [None if stored is None else stored[3] for stored in rows]
        """By operation; None where nothing is stored."""

    def _all_looked_up(self) -> bool:
        """Whether the last lookup read all of these; then that is what is known, as of then, and
        `row` sees whether it still holds."""
        last, states = self._storage.last_lookup
        for kind in {kind for kind, _ in self._rows}:
            if self._storage.kind_version(kind) > last:
                return False
        found = {place: states[place] for place in self._rows if place in states}
        if len(found) < len(self._rows):
            return False
        # As a snapshot does: the commit has the same version, deferred or not.
        self._storage.present()
        self._last = last
        self._rows = _stored(found)
        return True

    def _read(self) -> None:
        storage, deferring = self._storage, self.deferring
        with (
            storage.reading_keys(lambda: self._rows)
            if deferring
            else storage.reading(to_commit=True)
        ) as snapshot:
            self._last = snapshot.last
            found = {**self._looked_up(), **_stored(snapshot.pending)} if deferring else {}
            self._rows.update(found)
            paths: dict[int, list[bytes]] = {}
            for place in self._rows:
                if place not in found:
                    paths.setdefault(place[0], []).append(place[1])
            for kind, those in paths.items():
                for path, stored in stored_rows(snapshot.db, kind, those, whole=not deferring):
                    self._rows[kind, path] = stored

    def _looked_up(self) -> dict[Place, Stored | None]:
        """What the last lookup read of these; only after a snapshot was taken, which then has no
        write of their kinds since."""
        last, states = self._storage.last_lookup
        kinds = {kind for kind, _ in self._rows if self._storage.kind_version(kind) <= last}
        return _stored(
            {place: states[place] for place in self._rows if place[0] in kinds and place in states}
        )

    def _places(self, operations: Sequence[Operation]) -> list[Place | None]:
        """Of each, as far as there is one yet."""
        kinds: dict[tuple[Partition, str], int | None] = {}
        places: list[Place | None] = []
        partition, name, number = None, None, None
        for operation in operations:
            if operation.kind is not name or operation.partition is not partition:
                partition, name = operation.partition, operation.kind
                if (partition, name) not in kinds:
                    kinds[partition, name] = self._storage.kind(partition, name)
                number = kinds[partition, name]
            places.append((number, operation.path) if number and operation.path else None)
        return places

    def row(self, db: sqlite3.Connection, version: int, kind: int, path: bytes) -> Stored | None:
        """What is stored, inside `writing()` of that version."""
        place = kind, path
        if place in self._rows and self._storage.kind_version(kind) <= self._last:
            return self._rows[place]
        if self.deferring:
            pending = _stored(self._storage.pending.at([place], version))
            if place in pending:
                return pending[place]
        return next((stored for _, stored in stored_rows(db, kind, [path])), None)


def _stored(
    states: Mapping[Place, tuple[int, int, bytes | None]],
) -> dict[Place, Stored | None]:
    """As if they were rows, but for what only rows have."""
    return {
        place: None if body is None else (0, version, created, body, "")
        for place, (version, created, body) in states.items()
    }


class Writer:
    """Applies operations within one `Storage.writing()`; `finish` writes what they change."""

    def __init__(
        self, storage: Storage, db: sqlite3.Connection, version: int, known: Known
    ) -> None:
        self.storage = storage
        self.db = db
        self.version = version
        self._known = known
        self.index_updates = 0
        """None of a deferred commit: that is what is deferred."""
        self.rows = 0
        """Written; roughly, for who counts what has to be moved from the log into the file."""
        self.kinds: set[int] = set()
        """Kinds that changed."""
        self._kinds: dict[tuple[Partition, str], tuple[int, int]] = {}
        self._last_kind: tuple[Partition | None, str, tuple[int, int]] = None, "", (0, 0)
        self._rows: dict[Place, _Row] = {}
        self._applied: list[tuple[Operation, _Row, bool, bool, list[Any]]] = []

    def apply(self, operation: Operation) -> None:
        """Apply one. Raises RpcError when it cannot be."""
        part, kind = self._kind(operation.partition, operation.kind)
        allocated = False
        if not operation.path:
            operation.key.path[-1].id = allocate_id(self.storage, self.db, part)
            operation.path = encode_path(operation.key.path)
            allocated = True
        row = self._row(kind, operation.path)
        exists = row.body is not None
        name = operation.name
        conflict = "" if operation.base_version is None else self._conflict(operation, row)
        if conflict and operation.fail:
            raise RpcError(grpc.StatusCode.FAILED_PRECONDITION, conflict)
        if name == "insert" and exists:
            raise RpcError(
                grpc.StatusCode.ALREADY_EXISTS,
                f"entity already exists: {key_text(operation.key)}",
            )
        if name == "update" and not exists:
            raise RpcError(
                grpc.StatusCode.NOT_FOUND, f"no entity to update: {key_text(operation.key)}"
            )
        transformed: list[Any] = []
        if not conflict:
            if name == "delete":
                if exists:
                    row.body, row.entries, row.changes = None, None, None
                    row.version = self.version
                    self.kinds.add(kind)
            else:
                transformed = self._put(operation, row, kind)
        self._applied.append((operation, row, bool(conflict), allocated, transformed))

    def results(self) -> Iterator[bytes]:
        """The serialized MutationResult of each, as the field of a CommitResponse, once all are
        applied: several mutations of an entity all tell the version that it has in the end."""
        plain: dict[tuple[int, int], bytes] = {}
        for operation, row, conflict, allocated, transformed in self._applied:
            if conflict or allocated or transformed or row.body is None:
                result = self._result(operation, row, conflict, allocated, transformed)
                yield m.field(3, result)
                continue
            # Most results of a commit are one.
            times = row.version, row.created
            framed = plain.get(times)
            if framed is None:
                result = self._result(operation, row, False, False, [])
                framed = plain[times] = m.field(3, result)
            yield framed

    def _kind(self, partition: Partition, name: str) -> tuple[int, int]:
        """Numbers of a partition and of a kind in it."""
        last = self._last_kind
        if last[0] is partition and last[1] is name:
            return last[2]
        found = self._kinds.get((partition, name))
        if found is None:
            part = self.storage.intern_part(partition)
            found = self._kinds[partition, name] = part, self.storage.intern_kind(part, name)
        self._last_kind = partition, name, found
        return found

    def _row(self, kind: int, path: bytes) -> _Row:
        row = self._rows.get((kind, path))
        if row is None:
            row = self._rows[kind, path] = _Row(self._known.row(self.db, self.version, kind, path))
        return row

    def _conflict(self, operation: Operation, row: _Row) -> str:
        """Why the operation's condition does not hold; empty when it does."""
        stored = row.stored[1] if row.stored is not None else 0
        assert operation.base_version is not None
        if stored != operation.base_version:
            if 0 < stored < operation.base_version:
                raise invalid(
                    "Invalid base version, it is greater than the stored version: "
                    f"{key_text(operation.key)}"
                )
            return (
                f"the stored version ({stored}) does not match the required base version "
                f"({operation.base_version}): {key_text(operation.key)}"
            )
        return ""

    def _put(self, operation: Operation, row: _Row, kind: int) -> list[Any]:
        entries = operation.entries
        transformed: list[Any] = []
        entity = operation.entity if operation.body is None else None
        if operation.mask is not None or operation.transforms:
            if operation.mask is not None:
                before = None if row.body is None else m.Entity.FromString(row.body)
                entity = apply_mask(operation.mask, before, entity)
            transformed = apply_transforms(entity, operation.transforms, self.version)
            entries = index_entries(entity)
        body = operation.body
        if body is None:
            assert entity is not None
            body = entity.SerializeToString(deterministic=True)
            check_entity_size(len(body))
        if body != row.body:
            if row.body is None:
                row.created = self.version
            changes = operation.changes
            if changes is not None and row.body != changes.base:
                changes = None
            if changes is None and entries is None and not self._known.deferring:
                entries = index_entries(operation.entity if entity is None else entity)
            row.body, row.entries, row.changes = body, entries, changes
            row.version = self.version
            self.kinds.add(kind)
            stored = row.stored
            if stored is not None and stored[2] == row.created and stored[3] == body:
                # Changed and changed back in one commit: nothing has changed.
                row.version = stored[1]
        return transformed

    def _result(
        self, operation: Operation, row: _Row, conflict: bool, allocated: bool, results: list[Any]
    ) -> bytes:
        gone = row.body is None
        # Nothing there and nothing changed: newer than what was, older than what may come.
        version = (0 if conflict else self.version) if gone else row.version
        out = b""
        if allocated:
            out += m.field(3, operation.key.SerializeToString())
        if version:
            out += b"\x20" + m.varint(version)
        if conflict:
            out += b"\x28\x01"
        if not gone:
            out += m.mutation_times(row.version, row.created)
        for value in results:
            out += m.field(8, value.SerializeToString())
        return out

    def finish(self) -> None:
        """Write what changed: rows, or a record of it in the log."""
        changed = [
            (place, row)
            for place, row in self._rows.items()
            if row.version == self.version and (row.stored is not None or row.body is not None)
        ]
        if self._known.deferring:
            records = [Record(*place, row.created, row.body) for place, row in changed]
            if records:
                self.storage.defer(self.version, records)
            self.rows = len(records) // _RECORDS_A_PAGE
            return
        rows = Rows(self.storage, self.db)
        for (kind, path), row in changed:
            rows.add(
                Change(
                    kind,
                    path,
                    self.version,
                    row.created,
                    row.body,
                    row.stored,
                    row.entries,
                    row.changes,
                )
            )
        rows.flush()
        self.index_updates = rows.index_updates
        self.rows = len(changed) + rows.index_updates

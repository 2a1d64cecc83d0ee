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

import json
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import grpc

from bulkup.local import messages as m
from bulkup.local.changes import Changes
from bulkup.local.encoding import encode_path
from bulkup.local.indexing import SCATTER, Entries, index_entries, scatter_entry
from bulkup.local.keys import allocate_id
from bulkup.local.limits import check_entity_size, key_text
from bulkup.local.masks import apply_mask
from bulkup.local.mutations import Operation
from bulkup.local.packing import Packed, Values, add, dumps, each, replaced, values_of
from bulkup.local.sql import Stored, stored_rows
from bulkup.local.status import RpcError, invalid
from bulkup.local.storage import Storage
from bulkup.local.transforms import apply_transforms


class _Row:
    """An entity as this commit sees it: as stored, then as its mutations leave it."""

    __slots__ = ("body", "changes", "created", "eid", "entries", "path", "stored", "version")

    def __init__(self, path: bytes, stored: Stored | None) -> None:
        self.path = path
        self.stored = stored
        self.eid, self.version, self.created = stored[:3] if stored else (0, 0, 0)
        self.body: bytes | None = stored[3] if stored else None
        self.entries: Entries | None = None
        """Of `body`, once it is not the stored one; None where `changes` tells how it became."""
        self.changes: Changes | None = None


class Known:
    """The stored entities of a commit's operations, read together before its turn to write.

    What is read here saves others the waiting, and holds if nobody has written the kind since.
    """

    def __init__(self, storage: Storage, operations: Sequence[Operation]) -> None:
        self._storage = storage
        self._rows: dict[tuple[int, bytes], Stored | None] = {}
        places = [self._place(operation) for operation in operations]
        paths: dict[int, list[bytes]] = {}
        for place in places:
            if place is not None and place not in self._rows:
                self._rows[place] = None
                paths.setdefault(place[0], []).append(place[1])
        with storage.reading() as snapshot:
            self._last = snapshot.last
            for kind, those in paths.items():
                for path, stored in stored_rows(snapshot.db, kind, those):
                    self._rows[kind, path] = stored
        found = [None if place is None else self._rows[place] for place in places]
        self.bodies = [None if stored is None else stored[3] for stored in found]
        """By operation; None where nothing is stored."""

    def _place(self, operation: Operation) -> tuple[int, bytes] | None:
        kind = self._storage.kind(operation.partition, operation.key.path[-1].kind)
        return None if kind is None or not operation.path else (kind, operation.path)

    def row(self, db: sqlite3.Connection, kind: int, path: bytes) -> Stored | None:
        """What is stored, inside `writing()`."""
        if (kind, path) in self._rows and self._storage.kind_version(kind) <= self._last:
            return self._rows[kind, path]
        return next((stored for _, stored in stored_rows(db, kind, [path])), None)


class Writer:
    """Applies operations within one `Storage.writing()`; `flush` makes them rows."""

    def __init__(
        self, storage: Storage, db: sqlite3.Connection, version: int, known: Known
    ) -> None:
        self.storage = storage
        self.db = db
        self.version = version
        self._known = known
        self.index_updates = 0
        self.kinds: set[int] = set()
        """Kinds that changed."""
        self._rows: dict[tuple[int, bytes], _Row] = {}
        self._applied: list[tuple[Operation, _Row, bool, bool, list[Any]]] = []

    def apply(self, operation: Operation) -> None:
        """Apply one. Raises RpcError when it cannot be."""
        storage = self.storage
        part = storage.intern_part(operation.partition)
        allocated = False
        if not operation.path:
            operation.key.path[-1].id = allocate_id(storage, self.db, part)
            operation.path = encode_path(operation.key.path)
            allocated = True
        kind = storage.intern_kind(part, operation.key.path[-1].kind)
        row = self._row(kind, operation.path)
        exists = row.body is not None
        name = operation.name
        conflict = self._conflict(operation, row)
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
        """The serialized MutationResult of each, once all are applied: several mutations of an
        entity all tell the version that it has in the end."""
        return (self._result(*applied) for applied in self._applied)

    def _row(self, kind: int, path: bytes) -> _Row:
        row = self._rows.get((kind, path))
        if row is None:
            stored = self._known.row(self.db, kind, path)
            row = self._rows[kind, path] = _Row(path, stored)
        return row

    def _conflict(self, operation: Operation, row: _Row) -> str:
        """Why the operation's condition does not hold; empty when it does."""
        stored = row.stored[1] if row.stored is not None else 0
        if operation.base_version is not None and stored != operation.base_version:
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
        entity, entries = operation.entity, operation.entries
        transformed: list[Any] = []
        if operation.mask is not None or operation.transforms:
            if operation.mask is not None:
                before = None if row.body is None else m.Entity.FromString(row.body)
                entity = apply_mask(operation.mask, before, entity)
            transformed = apply_transforms(entity, operation.transforms, self.version)
            entries = index_entries(entity)
        body = operation.body
        if body is None:
            body = entity.SerializeToString(deterministic=True)
            check_entity_size(len(body))
        if body != row.body:
            if row.body is None:
                row.created = self.version
            changes = operation.changes
            if changes is not None and row.body != changes.base:
                changes = None
            if changes is None and entries is None:
                entries = index_entries(entity)
            row.body, row.entries, row.changes = body, entries, changes
            row.version = self.version
            self.kinds.add(kind)
            if row.stored is not None and row.stored[2:4] == (row.created, body):
                # Changed and changed back in one commit: nothing has changed.
                row.version = row.stored[1]
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

    # -- rows ----------------------------------------------------------------------------------

    def flush(self) -> None:
        """Write what changed."""
        storage, version = self.storage, self.version
        past: list[int] = []
        gone: list[tuple[int]] = []
        changed: list[tuple[object, ...]] = []
        new: list[tuple[object, ...]] = []
        closed: list[tuple[object, ...]] = []
        opened: list[tuple[int, bytes, bytes, int, int]] = []
        parts = {kind: part for (part, _), kind in storage.kinds.items()}
        for (kind, path), row in self._rows.items():
            stored = row.stored
            if row.version != version or (stored is None and row.body is None):
                continue
            if stored is None:
                row.eid = storage.next_eid
                storage.next_eid += 1
                now: Packed = {}
                for slot, values in self._slots(kind, path, row.entries):
                    add(now, slot, values)
                    for value in (values,) if isinstance(values, bytes) else values:
                        opened.append((slot, value, path, version, row.eid))
                new.append(
                    (row.eid, parts[kind], kind, path, version, version, dumps(now), row.body)
                )
                continue
            past.append(row.eid)
            text = self._replace(kind, row, stored[4], opened, closed)
            if row.body is None:
                gone.append((row.eid,))
            else:
                changed.append((version, row.created, text, row.body, row.eid))
        self._execute(past, gone, changed, new)
        if closed:
            closed.sort()
            self.db.executemany(
                "UPDATE entries SET until = ? WHERE slot = ? AND value = ? AND path = ? "
                "AND until IS NULL",
                closed,
            )
        # In the order of the b-tree: neighbours share pages.
        opened.sort()
        insert_many(self.db, "entries(slot, value, path, since, eid)", opened)
        self.index_updates += len(closed) + len(opened)

    def _replace(
        self,
        kind: int,
        row: _Row,
        text: str,
        opened: list[tuple[int, bytes, bytes, int, int]],
        closed: list[tuple[object, ...]],
    ) -> str:
        """The packed entries of a row that had those in `text`."""
        if row.changes is not None:
            return self._change(kind, row, row.changes, text, opened, closed)
        now: Packed = {}
        for slot, values in self._slots(kind, row.path, row.entries):
            add(now, slot, values)
        self._compare(row, json.loads(text), now, opened, closed)
        return dumps(now)

    def _change(
        self,
        kind: int,
        row: _Row,
        changes: Changes,
        text: str,
        opened: list[tuple[int, bytes, bytes, int, int]],
        closed: list[tuple[object, ...]],
    ) -> str:
        before, after = changes.before, changes.after
        for prop in before.keys() | after.keys():
            old, new = before.get(prop), after.get(prop)
            slot = self._slot(kind, prop, new)
            replacement = replaced(text, slot, old, new)
            if replacement is None:
                raise AssertionError(f"slot {slot} of entity {row.eid} is not what it was")
            text = replacement
            olds, news = each(old), each(new)
            for value in news - olds:
                opened.append((slot, value, row.path, self.version, row.eid))
            for value in olds - news:
                closed.append((self.version, slot, value, row.path))
        return text

    def _slot(self, kind: int, prop: str, values: Values | None) -> int:
        """The slot of a property that gets these values."""
        slot = self.storage.slots.get((kind, prop)) or self.storage.intern_slot(kind, prop)
        if isinstance(values, dict) and len(values) > 1:
            self.storage.mark_multi(slot)
        return slot

    def _slots(
        self, kind: int, path: bytes, entries: Entries | None
    ) -> Iterator[tuple[int, Values]]:
        """The entries by slot; none of an entity that is gone."""
        if entries is None:
            return
        for prop, values in entries.items():
            yield self._slot(kind, prop, values), values
        scatter = scatter_entry(path)
        if scatter is not None:
            yield self._slot(kind, SCATTER, scatter), scatter

    def _compare(
        self,
        row: _Row,
        old: Packed,
        now: Packed,
        opened: list[tuple[int, bytes, bytes, int, int]],
        closed: list[tuple[object, ...]],
    ) -> None:
        for slot in {slot for slot, value in now.items() if old.get(slot) != value}.union(
            old.keys() - now.keys()
        ):
            if slot[0] == "t":
                continue
            number = int(slot)
            before, after = values_of(old, slot), values_of(now, slot)
            for value in after - before:
                opened.append((number, value, row.path, self.version, row.eid))
            for value in before - after:
                closed.append((self.version, number, value, row.path))

    def _execute(
        self,
        past: list[int],
        gone: list[tuple[int]],
        changed: list[tuple[object, ...]],
        new: list[tuple[object, ...]],
    ) -> None:
        db = self.db
        if past:
            db.execute(
                "INSERT INTO entities_past SELECT eid, part, kind, path, version, created, ?, "
                "packed, body FROM entities WHERE eid IN (SELECT value FROM json_each(?))",
                (self.version, dumps(past)),
            )
        if gone:
            db.executemany("DELETE FROM entities WHERE eid = ?", gone)
        if changed:
            db.executemany(
                "UPDATE entities SET version = ?, created = ?, packed = ?, body = ? WHERE eid = ?",
                changed,
            )
        insert_many(db, "entities", new)


_TOGETHER = 64
"""Rows that one INSERT takes: nearly twice as fast as one a row, and no faster beyond."""


def insert_many(db: sqlite3.Connection, table: str, rows: Sequence[tuple[object, ...]]) -> None:
    """INSERT rows into a table of ours."""
    if not rows:
        return
    one = f"({', '.join('?' * len(rows[0]))})"
    insert = f"INSERT INTO {table} VALUES "  # noqa: S608 - tables are named in this module only
    whole = len(rows) - len(rows) % _TOGETHER
    many = insert + ", ".join([one] * _TOGETHER)
    for start in range(0, whole, _TOGETHER):
        db.execute(many, list(chain.from_iterable(rows[start : start + _TOGETHER])))
    if whole < len(rows):
        db.executemany(insert + one, rows[whole:])

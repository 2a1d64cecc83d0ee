"""Mutations, applied to the stored entities.

Choices where servers differ, and why:

- `base_version` and `update_time` conditions are checked as the API reference says, in every mode
  and with every strategy: SERVER_VALUE (the default) keeps the stored entity and reports
  `conflict_detected`; FAIL fails the commit with FAILED_PRECONDITION. (One of Google's emulators
  ignores SERVER_VALUE conditions, the others ignore `update_time`.)
- A condition applies to what was stored before the commit, even for the second mutation of an
  entity. Like Google's newer emulator, this requires the same base version on both.
- FAIL on an entity that does not exist is FAILED_PRECONDITION, because the condition does not hold.
  Without FAIL an `update` of it is NOT_FOUND, as on every emulator.
- A failing mutation ends a non-transactional commit; those before it stay. The reference promises
  neither order nor atomicity there; every emulator behaves like this.
- Writing what is already stored changes nothing, neither version nor update time.
- Property masks and transforms follow the API reference.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

import grpc

from bulkup.local import messages as m
from bulkup.local.changes import EntryChanges
from bulkup.local.encoding import Partition, encode_path
from bulkup.local.indexing import Entries, index_entries
from bulkup.local.keys import allocate_id
from bulkup.local.limits import check_entity_size, key_text
from bulkup.local.masks import apply_mask
from bulkup.local.mutations import Operation
from bulkup.local.pending import Place, Record
from bulkup.local.prefetch import Prefetched
from bulkup.local.rows import Change, Rows
from bulkup.local.sql import Stored
from bulkup.local.status import RpcError, invalid
from bulkup.local.storage import Storage
from bulkup.local.transforms import apply_transforms

_RECORDS_A_PAGE = 8
"""For records of 500 bytes. Rows are spread over the file and dirty a page each; records are stored
together."""


class _Row:
    """An entity as this commit sees it: as stored, then as each of its mutations leaves it."""

    __slots__ = ("body", "created", "entries", "entry_changes", "stored", "version")

    def __init__(self, stored: Stored | None) -> None:
        self.stored = stored
        if stored is None:
            self.version, self.created, self.body = 0, 0, None
        else:
            _, self.version, self.created, self.body, _ = stored
        self.entries: Entries | None = None
        """The entries of a changed body, unless `entry_changes` says how they change."""
        self.entry_changes: EntryChanges | None = None


class _Applied(NamedTuple):
    """An operation that has been applied, for its MutationResult."""

    operation: Operation
    row: _Row
    conflict: bool
    allocated: bool
    transformed: list[Any]
    """The results of its transforms."""

    def is_usual(self) -> bool:
        """Whether the result holds nothing but a version and times."""
        return not (self.conflict or self.allocated or self.transformed or self.row.body is None)


class Writer:
    """Applies operations within one `Storage.writing()`; `finish` writes what they change."""

    def __init__(
        self, storage: Storage, db: sqlite3.Connection, version: int, prefetched: Prefetched
    ) -> None:
        self.storage = storage
        self.db = db
        self.version = version
        self._prefetched = prefetched
        self.index_updates = 0
        """0 for a deferred commit, whose index entries are written later."""
        self.rows = 0
        """Rows written, roughly: an estimate of what the next checkpoint has to move."""
        self.kinds: set[int] = set()
        """Kinds that changed."""
        self._kinds: dict[tuple[Partition, str], tuple[int, int]] = {}
        self._last_kind: tuple[Partition | None, str, tuple[int, int]] = None, "", (0, 0)
        self._rows: dict[Place, _Row] = {}
        self._applied: list[_Applied] = []

    def apply(self, operation: Operation) -> None:
        """Apply one operation. Raises RpcError when that is impossible."""
        part, kind = self._kind(operation.partition, operation.kind)
        allocated = False
        if not operation.path:
            operation.key.path[-1].id = allocate_id(self.storage.catalog, self.db, part)
            operation.path = encode_path(operation.key.path)
            allocated = True
        row = self._row(kind, operation.path)
        conflict = self._check(operation, row)
        transformed: list[Any] = []
        if not conflict:
            if operation.name == "delete":
                self._delete(row, kind)
            else:
                transformed = self._put(operation, row, kind)
        self._applied.append(_Applied(operation, row, conflict, allocated, transformed))

    def _check(self, operation: Operation, row: _Row) -> bool:
        """Whether the operation conflicts and must leave the stored entity as it is. Raises
        RpcError if the operation fails the commit."""
        exists = row.body is not None
        conflict = "" if operation.base_version is None else self._conflict(operation, row)
        if conflict and operation.fail:
            raise RpcError(grpc.StatusCode.FAILED_PRECONDITION, conflict)
        if operation.name == "insert" and exists:
            raise RpcError(
                grpc.StatusCode.ALREADY_EXISTS,
                f"entity already exists: {key_text(operation.key)}",
            )
        if operation.name == "update" and not exists:
            raise RpcError(
                grpc.StatusCode.NOT_FOUND, f"no entity to update: {key_text(operation.key)}"
            )
        return bool(conflict)

    def _delete(self, row: _Row, kind: int) -> None:
        if row.body is not None:
            row.body, row.entries, row.entry_changes = None, None, None
            row.version = self.version
            self.kinds.add(kind)

    def results(self) -> Iterator[bytes]:
        """The MutationResults as serialized fields of a CommitResponse, once all operations have
        been applied: several mutations of one entity all report its final version."""
        usual: dict[tuple[int, int], bytes] = {}
        for applied in self._applied:
            if not applied.is_usual():
                yield m.field(3, self._result(applied))
                continue
            # Most results of a commit are the same.
            times = applied.row.version, applied.row.created
            framed = usual.get(times)
            if framed is None:
                framed = usual[times] = m.field(3, self._result(applied))
            yield framed

    def _kind(self, partition: Partition, name: str) -> tuple[int, int]:
        """Numbers of a partition and of one of its kinds."""
        last = self._last_kind
        if last[0] is partition and last[1] is name:
            return last[2]
        found = self._kinds.get((partition, name))
        if found is None:
            part = self.storage.catalog.intern_part(partition)
            number = self.storage.catalog.intern_kind(part, name)
            found = self._kinds[partition, name] = part, number
        self._last_kind = partition, name, found
        return found

    def _row(self, kind: int, path: bytes) -> _Row:
        row = self._rows.get((kind, path))
        if row is None:
            row = self._rows[kind, path] = _Row(
                self._prefetched.row(self.db, self.version, kind, path)
            )
        return row

    def _conflict(self, operation: Operation, row: _Row) -> str:
        """Why the operation's condition does not hold; empty when it holds."""
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
            changes = operation.entry_changes
            if changes is not None and row.body != changes.base:
                changes = None
            if changes is None and entries is None and not self._prefetched.deferring:
                entries = index_entries(operation.entity if entity is None else entity)
            row.body, row.entries, row.entry_changes = body, entries, changes
            row.version = self.version
            self.kinds.add(kind)
            stored = row.stored
            if stored is not None and stored[2] == row.created and stored[3] == body:
                # Changed and changed back in one commit, so nothing has changed.
                row.version = stored[1]
        return transformed

    def _result(self, applied: _Applied) -> bytes:
        operation, row, conflict, allocated, transformed = applied
        gone = row.body is None
        # Without an entity, report a version above every earlier one and below every later one.
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
        for value in transformed:
            out += m.field(8, value.SerializeToString())
        return out

    def finish(self) -> None:
        """Write what changed: as rows, or as records in the log."""
        changed = [
            (place, row)
            for place, row in self._rows.items()
            if row.version == self.version and (row.stored is not None or row.body is not None)
        ]
        records = [Record(*place, row.created, row.body) for place, row in changed]
        if self._prefetched.deferring:
            if records:
                self.storage.defer(self.version, records)
            self.rows = len(records) // _RECORDS_A_PAGE
            return
        rows = Rows(self.storage.catalog, self.db)
        for record, (_, row) in zip(records, changed, strict=True):
            rows.add(Change(record, self.version, row.stored, row.entries, row.entry_changes))
        rows.flush()
        self.index_updates = rows.index_updates
        self.rows = len(changed) + rows.index_updates

"""The rows of changed entities: what is written, what is closed, what becomes the past."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from bulkup.local import messages as m
from bulkup.local.catalog import Catalog
from bulkup.local.changes import EntryChanges, entry_changes
from bulkup.local.indexing import SCATTER, Entries, index_entries, scatter_entry
from bulkup.local.packing import Packed, Values, add, dumps, encoded_values, replaced, values_of
from bulkup.local.pending import Record
from bulkup.local.sql import Stored, stored_rows


class Change(NamedTuple):
    """An entity as it is from a version on, and as it was stored before."""

    record: Record
    version: int
    stored: Stored | None
    entries: Entries | None
    """The entries of the new body, unless `entry_changes` says how they changed."""
    entry_changes: EntryChanges | None


class Rows:
    """Collects changes, at most one per entity; `flush` writes their rows.

    Use it only inside a transaction of the writer.
    """

    def __init__(
        self, catalog: Catalog, db: sqlite3.Connection, *, with_entries: bool = True
    ) -> None:
        """`with_entries`: if False, the entries of new entities are left to
        `importing/index.py`."""
        self.catalog = catalog
        self.db = db
        self._with_entries = with_entries
        self.index_updates = 0
        self._parts = {kind: part for (part, _), kind in catalog.kinds.items()}
        self._clear()

    def _clear(self) -> None:
        self._past: dict[int, list[int]] = {}
        self._gone: list[tuple[int]] = []
        self._changed: list[tuple[object, ...]] = []
        self._new: list[tuple[object, ...]] = []
        self._closed: list[tuple[object, ...]] = []
        self._opened: list[tuple[int, bytes, bytes, int, int]] = []

    def add(self, change: Change) -> None:
        record, version, stored, entries, _ = change
        kind, path, created, body = record
        if stored is None:
            eid = self.catalog.next_eid
            self.catalog.next_eid += 1
            now: Packed = {}
            opened = self._opened
            for slot, values in self._slots(kind, path, entries):
                add(now, slot, values)
                if self._with_entries:
                    for value in (values,) if isinstance(values, bytes) else values:
                        opened.append((slot, value, path, version, eid))
            self._new.append(
                (eid, self._parts[kind], kind, path, version, created, dumps(now), body)
            )
            return
        eid = stored[0]
        self._past.setdefault(version, []).append(eid)
        text = self._replace(change, stored)
        if body is None:
            self._gone.append((eid,))
        else:
            self._changed.append((version, created, text, body, eid))

    def flush(self) -> None:
        """Write the rows of the added changes."""
        db = self.db
        for version, eids in self._past.items():
            db.execute(
                "INSERT INTO entities_past SELECT eid, part, kind, path, version, created, ?, "
                "packed, body FROM entities WHERE eid IN (SELECT value FROM json_each(?))",
                (version, dumps(eids)),
            )
        if self._gone:
            db.executemany("DELETE FROM entities WHERE eid = ?", self._gone)
        if self._changed:
            db.executemany(
                "UPDATE entities SET version = ?, created = ?, packed = ?, body = ? WHERE eid = ?",
                self._changed,
            )
        insert_many(db, "entities", self._new)
        if self._closed:
            self._closed.sort()
            db.executemany(
                "UPDATE entries SET until = ? WHERE slot = ? AND value = ? AND path = ? "
                "AND until IS NULL",
                self._closed,
            )
        # In the order of the b-tree: neighbours share pages.
        self._opened.sort()
        insert_many(db, "entries(slot, value, path, since, eid)", self._opened)
        self.index_updates += len(self._closed) + len(self._opened)
        self._clear()

    def _replace(self, change: Change, stored: Stored) -> str:
        """The packed entries that replace those of `stored`."""
        eid, text = stored[0], stored[4]
        if change.entry_changes is not None:
            return self._apply_changes(change, change.entry_changes, eid, text)
        now: Packed = {}
        for slot, values in self._slots(change.record.kind, change.record.path, change.entries):
            add(now, slot, values)
        self._compare(change, eid, json.loads(text), now)
        return dumps(now)

    def _apply_changes(self, change: Change, changed: EntryChanges, eid: int, text: str) -> str:
        before, after = changed.before, changed.after
        path, version = change.record.path, change.version
        for prop in before.keys() | after.keys():
            old, new = before.get(prop), after.get(prop)
            slot = self._slot(change.record.kind, prop, new)
            replacement = replaced(text, slot, old, new)
            if replacement is None:
                raise AssertionError(f"slot {slot} of entity {eid} has other entries than its body")
            text = replacement
            olds, news = encoded_values(old), encoded_values(new)
            for value in news - olds:
                self._opened.append((slot, value, path, version, eid))
            for value in olds - news:
                self._closed.append((version, slot, value, path))
        return text

    def _slot(self, kind: int, prop: str, values: Values | None) -> int:
        """The slot of a property that gets `values`."""
        slot = self.catalog.slots.get((kind, prop)) or self.catalog.intern_slot(kind, prop)
        if isinstance(values, dict) and len(values) > 1:
            self.catalog.mark_multi(slot)
        return slot

    def _slots(
        self, kind: int, path: bytes, entries: Entries | None
    ) -> Iterator[tuple[int, Values]]:
        """The entries by slot; none for a deleted entity."""
        if entries is None:
            return
        for prop, values in entries.items():
            yield self._slot(kind, prop, values), values
        scatter = scatter_entry(path)
        if scatter is not None:
            yield self._slot(kind, SCATTER, scatter), scatter

    def _compare(self, change: Change, eid: int, old: Packed, now: Packed) -> None:
        path = change.record.path
        for slot in {slot for slot, value in now.items() if old.get(slot) != value}.union(
            old.keys() - now.keys()
        ):
            if slot[0] == "t":
                continue
            number = int(slot)
            before, after = values_of(old, slot), values_of(now, slot)
            for value in after - before:
                self._opened.append((number, value, path, change.version, eid))
            for value in before - after:
                self._closed.append((change.version, number, value, path))


def write_pending(
    catalog: Catalog, db: sqlite3.Connection, commits: Sequence[tuple[int, list[Record]]]
) -> int:
    """Write the rows of pending commits, in their order; returns how many rows that was."""
    rows = Rows(catalog, db)
    added: set[tuple[int, bytes]] = set()
    count = 0
    for version, records in commits:
        places = {record[:2] for record in records}
        if not added.isdisjoint(places):
            # Flush first: the stored rows read below must be those of the commit before this one.
            rows.flush()
            added.clear()
        added |= places
        stored: dict[tuple[int, bytes], Stored] = {}
        for kind in {kind for kind, _ in places}:
            paths = [record.path for record in records if record.kind == kind]
            for path, row in stored_rows(db, kind, paths):
                stored[kind, path] = row
        for record in records:
            before = stored.get(record[:2])
            entries = changed = None
            if record.body is not None:
                if before is not None and record.kind not in catalog.irregular:
                    changed = entry_changes(before[3], record.body)
                if changed is None:
                    entries = index_entries(m.Entity.FromString(record.body))
            rows.add(Change(record, version, before, entries, changed))
        count += len(records)
    rows.flush()
    return count + rows.index_updates


_TOGETHER = 64
"""Rows per INSERT: nearly twice as fast as one row each; more are no faster."""


def insert_many(db: sqlite3.Connection, table: str, rows: Sequence[tuple[object, ...]]) -> None:
    """INSERT rows into one of the tables."""
    if not rows:
        return
    one = f"({', '.join('?' * len(rows[0]))})"
    insert = f"INSERT INTO {table} VALUES "  # noqa: S608 - only this module names tables
    whole = len(rows) - len(rows) % _TOGETHER
    many = insert + ", ".join([one] * _TOGETHER)
    for start in range(0, whole, _TOGETHER):
        db.execute(many, list(chain.from_iterable(rows[start : start + _TOGETHER])))
    if whole < len(rows):
        db.executemany(insert + one, rows[whole:])

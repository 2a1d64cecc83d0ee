"""The rows of entities: what of them a change writes, closes and keeps as the past."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from bulkup.local import messages as m
from bulkup.local.changes import Changes, changes
from bulkup.local.indexing import SCATTER, Entries, index_entries, scatter_entry
from bulkup.local.packing import Packed, Values, add, dumps, each, replaced, values_of
from bulkup.local.pending import Record
from bulkup.local.sql import Stored, stored_rows

if TYPE_CHECKING:
    from bulkup.local.storage import Storage


class Change(NamedTuple):
    """An entity as it was stored and as it is from a version on."""

    kind: int
    path: bytes
    version: int
    created: int
    body: bytes | None
    """None: it is gone."""
    stored: Stored | None
    entries: Entries | None
    """Of `body`, where `changes` does not say how they became."""
    changes: Changes | None


class Rows:
    """Collects changes, of an entity one at most; `flush` makes rows of them.

    Only inside a transaction of the writer's.
    """

    def __init__(self, storage: Storage, db: sqlite3.Connection) -> None:
        self.storage = storage
        self.db = db
        self.index_updates = 0
        self._parts = {kind: part for (part, _), kind in storage.kinds.items()}
        self._clear()

    def _clear(self) -> None:
        self._past: dict[int, list[int]] = {}
        self._gone: list[tuple[int]] = []
        self._changed: list[tuple[object, ...]] = []
        self._new: list[tuple[object, ...]] = []
        self._closed: list[tuple[object, ...]] = []
        self._opened: list[tuple[int, bytes, bytes, int, int]] = []

    def add(self, change: Change) -> None:
        kind, path, version, created, body, stored, entries, _ = change
        if stored is None:
            eid = self.storage.next_eid
            self.storage.next_eid += 1
            now: Packed = {}
            opened = self._opened
            for slot, values in self._slots(kind, path, entries):
                add(now, slot, values)
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
        """Write what was added."""
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
        """The packed entries of an entity that had those of `stored`."""
        eid, text = stored[0], stored[4]
        if change.changes is not None:
            return self._change(change, change.changes, eid, text)
        now: Packed = {}
        for slot, values in self._slots(change.kind, change.path, change.entries):
            add(now, slot, values)
        self._compare(change, eid, json.loads(text), now)
        return dumps(now)

    def _change(self, change: Change, changed: Changes, eid: int, text: str) -> str:
        before, after = changed.before, changed.after
        path, version = change.path, change.version
        for prop in before.keys() | after.keys():
            old, new = before.get(prop), after.get(prop)
            slot = self._slot(change.kind, prop, new)
            replacement = replaced(text, slot, old, new)
            if replacement is None:
                raise AssertionError(f"slot {slot} of entity {eid} is not what it was")
            text = replacement
            olds, news = each(old), each(new)
            for value in news - olds:
                self._opened.append((slot, value, path, version, eid))
            for value in olds - news:
                self._closed.append((version, slot, value, path))
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

    def _compare(self, change: Change, eid: int, old: Packed, now: Packed) -> None:
        for slot in {slot for slot, value in now.items() if old.get(slot) != value}.union(
            old.keys() - now.keys()
        ):
            if slot[0] == "t":
                continue
            number = int(slot)
            before, after = values_of(old, slot), values_of(now, slot)
            for value in after - before:
                self._opened.append((number, value, change.path, change.version, eid))
            for value in before - after:
                self._closed.append((change.version, number, value, change.path))


def settle(
    storage: Storage, db: sqlite3.Connection, commits: Sequence[tuple[int, list[Record]]]
) -> int:
    """Make the rows of pending commits, in their order; gives how many there were to make."""
    rows = Rows(storage, db)
    added: set[tuple[int, bytes]] = set()
    count = 0
    for version, records in commits:
        places = {record[:2] for record in records}
        if not added.isdisjoint(places):
            # What is stored of them is not yet what it was at this commit.
            rows.flush()
            added.clear()
        added |= places
        stored: dict[tuple[int, bytes], Stored] = {}
        for kind in {kind for kind, _ in places}:
            paths = [record.path for record in records if record.kind == kind]
            for path, row in stored_rows(db, kind, paths):
                stored[kind, path] = row
        for kind, path, created, body in records:
            before = stored.get((kind, path))
            entries = changed = None
            if body is not None:
                if before is not None:
                    changed = changes(before[3], body)
                if changed is None:
                    entries = index_entries(m.Entity.FromString(body))
            rows.add(Change(kind, path, version, created, body, before, entries, changed))
        count += len(records)
    rows.flush()
    return count + rows.index_updates


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

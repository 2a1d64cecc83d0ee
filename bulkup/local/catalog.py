"""The names in a file, and the numbers that stand for them in its rows.

Rows refer to a partition, a kind of a partition and a property of a kind (a *slot*) by number. All
of these numbers are kept in memory, as are the counters for row ids and allocated ids.
"""

from __future__ import annotations

import sqlite3

from bulkup.local.encoding import Partition

_IRREGULAR = "irregular "
"""Prefix of the names in `meta` that mark irregular kinds; the kind's number follows."""


class Catalog:
    """The contents of a file's `partitions`, `kinds` and `slots` tables, and its counters.

    Anyone may read; only the writer may change it, inside its transaction. After a rollback the
    writer calls `undo`.
    """

    partitions: dict[Partition, int]
    kinds: dict[tuple[int, str], int]
    """Kind numbers, by partition number and name."""
    slots: dict[tuple[int, str], int]
    """Slot numbers, by kind number and property."""
    multi: set[int]
    """Slots in which an entity has, or had, several values. The others have one per entity."""
    irregular: set[int]
    """Kinds with imported entities that a commit would refuse (importing/irregular.py). Their
    stored entities may never have been checked."""
    next_id: int
    next_eid: int

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._interned = False
        self._counters = (0, 0)
        self.load()

    def load(self) -> None:
        db = self._db
        self.partitions = {
            Partition(project, database, namespace): number
            for number, project, database, namespace in db.execute("SELECT * FROM partitions")
        }
        self.kinds = {
            (part, name): number for number, part, name in db.execute("SELECT * FROM kinds")
        }
        slots = db.execute("SELECT * FROM slots").fetchall()
        self.slots = {(kind, prop): number for number, kind, prop, _ in slots}
        self.multi = {number for number, _, _, multi in slots if multi}
        self.irregular = {
            int(name.removeprefix(_IRREGULAR))
            for (name,) in db.execute(
                "SELECT name FROM meta WHERE name GLOB ?", (f"{_IRREGULAR}*",)
            )
        }
        self.next_id = db.execute("SELECT value FROM meta WHERE name = 'next_id'").fetchone()[0]
        self.next_eid = 1 + max(
            db.execute("SELECT coalesce(max(eid), 0) FROM entities").fetchone()[0],
            db.execute("SELECT coalesce(max(eid), 0) FROM entities_past").fetchone()[0],
        )

    def begin(self) -> None:
        """Call this when a transaction of the writer begins."""
        self._interned = False
        self._counters = self.next_id, self.next_eid

    def undo(self) -> None:
        """Call this after the transaction was rolled back."""
        self.next_id, self.next_eid = self._counters
        if self._interned:
            self.load()

    def kind(self, partition: Partition, name: str) -> int | None:
        """The number of a kind; None if no entity of it was ever written."""
        part = self.partitions.get(partition)
        return None if part is None else self.kinds.get((part, name))

    def intern_part(self, partition: Partition) -> int:
        """The number of a partition, which is added if it is new."""
        number = self.partitions.get(partition)
        if number is None:
            number = self._insert(
                "INSERT INTO partitions(project, database, namespace) VALUES (?, ?, ?)", partition
            )
            self.partitions[partition] = number
        return number

    def intern_kind(self, part: int, name: str) -> int:
        number = self.kinds.get((part, name))
        if number is None:
            number = self._insert("INSERT INTO kinds(part, name) VALUES (?, ?)", (part, name))
            self.kinds[part, name] = number
        return number

    def intern_slot(self, kind: int, prop: str) -> int:
        number = self.slots.get((kind, prop))
        if number is None:
            number = self._insert(
                "INSERT INTO slots(kind, prop, multi) VALUES (?, ?, 0)", (kind, prop)
            )
            self.slots[kind, prop] = number
        return number

    def mark_multi(self, slot: int) -> None:
        """Note that an entity has several values in a slot."""
        if slot not in self.multi:
            self._interned = True
            self._db.execute("UPDATE slots SET multi = 1 WHERE id = ?", (slot,))
            self.multi.add(slot)

    def mark_irregular(self, kind: int) -> None:
        """Note that the kind has an entity that a commit would refuse."""
        if kind not in self.irregular:
            self._interned = True
            self._db.execute("INSERT INTO meta VALUES (?, 1)", (f"{_IRREGULAR}{kind}",))
            self.irregular.add(kind)

    def _insert(self, sql: str, values: tuple[object, ...]) -> int:
        self._interned = True
        number = self._db.execute(sql, values).lastrowid
        assert number is not None
        return number

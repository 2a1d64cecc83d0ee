"""The rows of a query: from a valid request to its plan for what is stored, then to rows in
order."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from bulkup.local.catalog import Catalog
from bulkup.local.cursors import Position
from bulkup.local.drivers import Order, Plan, Sort, Source
from bulkup.local.filters import KEY
from bulkup.local.plan import Select
from bulkup.local.query import Request
from bulkup.local.sql import execute

Row = tuple[Any, ...]
"""Sort values..., path, eid."""


def bind(request: Request, catalog: Catalog, at: int | None) -> Plan | None:
    """The plan of a query at version `at`; None when nothing of its kind was ever stored."""
    part = catalog.partitions.get(request.partition)
    if part is None:
        return None
    kind: int | None = None
    if request.kind:
        kind = catalog.kinds.get((part, request.kind))
        if kind is None:
            return None
    slots = {}
    names = {name for one in request.alternatives for name, _ in one.equal}
    names |= {name for one in request.alternatives for name in one.ranges}
    for name in names:
        slot = catalog.slots.get((kind or 0, name))
        if slot is not None:
            slots[name] = slot
    sorts = []
    for name, descending in request.orders:
        slot = -1 if name == KEY else catalog.slots.get((kind or 0, name))
        if slot is None:
            return None
        sorts.append(Sort(name, slot, descending))
    if sorts and sorts[-1].prop == KEY:
        sorts.pop()
    return Plan(
        Source(part, kind, at),
        Order(sorts, request.directions[-1]),
        request.alternatives,
        slots,
        catalog.multi,
        exploded=bool(request.selection.projection),
    )


class Rows:
    """Rows of a query in order, from a position on."""

    def __init__(self, request: Request, plan: Plan, db: sqlite3.Connection) -> None:
        self._plan = plan
        self._db = db
        self._until = request.window.end
        self._prefix = len(request.selection.distinct)

    def after(self, position: Position | None, limit: int) -> Iterator[Row]:
        if not self._prefix:
            yield from self._run(position, limit)
            return
        for _ in range(limit):
            row = next(self._run(self._past_distinct(position), 1), None)
            if row is None:
                return
            yield row
            position = Position(row[:-1])

    def skip(self, position: Position | None, count: int) -> tuple[int, Row | None]:
        """Skip up to `count` rows. Returns how many there were, and the last one; None if there
        were none."""
        if self._prefix:
            rows = list(self.after(position, count))
            return len(rows), rows[-1] if rows else None
        row = next(self._run(position, 1, count - 1), None)
        if row is not None:
            return count, row
        statement = Select(self._plan, self._db, position, self._until).sql(count)
        if statement is None:
            return 0, None
        counted = f"SELECT count(*) FROM ({statement[0]})"  # noqa: S608 - SQL from plan.py
        total: int = execute(self._db, counted, statement[1]).fetchone()[0]
        if not total:
            return 0, None
        return total, next(self._run(position, 1, total - 1), None)

    def _past_distinct(self, position: Position | None) -> Position | None:
        """The position after all rows that have the same distinct values as this one."""
        if position is None or not position.values or position.inclusive:
            return position
        return Position(position.values[: self._prefix])

    def _run(self, position: Position | None, limit: int, offset: int = 0) -> Iterator[Row]:
        statement = Select(self._plan, self._db, position, self._until).sql(limit + offset)
        if statement is None:
            return
        sql, values = statement
        if offset:
            sql += f" OFFSET {offset}"
        if not self._plan.order.sorts:
            yield from execute(self._db, sql, values)
            return
        for row in execute(self._db, sql, values):
            # Sort values that are not from the index are in hexadecimal.
            yield tuple([bytes.fromhex(one) if type(one) is str else one for one in row])

"""A query as SQL.

Each alternative of the filter becomes one SELECT, or one per interval of its driver (drivers.py).
Everything else is looked up per row: other equalities in `entries`, other sort values in `packed`.
SELECTs are ordered and limited one by one and joined by UNION, so a page costs no more than its
rows, and the rows before it cost nothing: a cursor is a position in the index.

An entity sorts by the smallest of its values of a property, or by the largest when descending,
among those that the query's filter on that property accepts; it is one result (documented). In a
projection it is one result per combination of values. Ties are broken by key, in the direction of
the last order. Inequality properties that no order names follow that direction too (as on Google's
newer emulator; the documentation leaves both open).
"""

# ruff: noqa: S608 - built from constants of this package; every value is a parameter
from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from bulkup.local.cursors import Position
from bulkup.local.drivers import Driver, Plan, choose_driver, entities_table, scope
from bulkup.local.filters import KEY, Alternative
from bulkup.local.intervals import EVERYTHING, Interval
from bulkup.local.packing import hexadecimal, json_path
from bulkup.local.sql import Parameters, alive, packed_of, within


@dataclass(frozen=True)
class _Column:
    """A sort column of an arm: bytes if it comes from `entries` or `path`, else hexadecimal."""

    sql: str
    hex: bool = False

    def mark(self, value: bytes, p: Parameters) -> str:
        return p(hexadecimal(value) if self.hex else value)


@dataclass(frozen=True)
class _Arm:
    sql: str
    sorts: list[_Column]

    def columns(self) -> str:
        """The columns to select so that arms can be compared: sort values in hexadecimal."""
        names = [
            f"s{n}" if c.hex else f"lower(hex(s{n})) AS s{n}" for n, c in enumerate(self.sorts)
        ]
        return ", ".join([*names, "path", "eid"])


class Select:
    """The SELECT of a plan between two positions."""

    def __init__(
        self,
        plan: Plan,
        db: sqlite3.Connection,
        after: Position | None = None,
        until: Position | None = None,
    ) -> None:
        self.plan = plan
        self.db = db
        self.after = after if after is not None and after.values else None
        self.until = until if until is not None and until.values else None
        self.nothing = until is not None and not until.values
        self.columns = ", ".join(
            [*(f"s{number}" for number in range(len(plan.order.sorts))), "path", "eid"]
        )
        names = [f"s{number}" for number in range(len(plan.order.sorts))] + ["path"]
        self.order = ", ".join(
            name + (" DESC" if descending else "")
            for name, descending in zip(names, plan.order.directions, strict=True)
        )

    def sql(self, limit: int | None) -> tuple[str, list[object]] | None:
        """A query for rows (sort values..., path, eid) in order; None when there are none."""
        p = Parameters()
        plan = self.plan
        possible = [one for one in plan.alternatives if self._possible(one)]
        if not possible or self.nothing:
            return None
        bound = "" if limit is None else f" LIMIT {p(limit)}"
        if self._overlap(possible):
            return self._first_of_overlapping(possible, bound, p)
        arms = [arm for one in possible for arm in self._arms(one, p)]
        if len(arms) == 1:
            return f"{arms[0].sql} ORDER BY {self.order}{bound}", p.values
        # Every arm is sorted, and limited to the number of rows wanted from all arms together.
        inner = " UNION ".join(
            f"SELECT {arm.columns()} FROM ({arm.sql} ORDER BY {self.order}{bound})" for arm in arms
        )
        return f"{inner} ORDER BY {self.order}{bound}", p.values

    def _possible(self, one: Alternative) -> bool:
        names = {name for name, _ in one.equal} | one.ranges.keys()
        return names <= self.plan.slots.keys()

    def _overlap(self, alternatives: list[Alternative]) -> bool:
        """Whether an entity may be found at several positions. It may if alternatives accept
        different values of a sort property that can have several."""
        plan = self.plan
        if plan.exploded:
            return False
        return any(
            sort.slot in plan.multi
            and len({self._allowed(one, sort.prop) for one in alternatives}) > 1
            for sort in plan.order.sorts
        )

    @staticmethod
    def _allowed(one: Alternative, prop: str) -> tuple[object, ...]:
        equal = tuple(sorted(value for name, value in one.equal if name == prop))
        return equal, one.ranges.get(prop)

    def _first_of_overlapping(
        self, alternatives: list[Alternative], bound: str, p: Parameters
    ) -> tuple[str, list[object]]:
        after, until = self.after, self.until
        self.after = self.until = None
        arms = [
            f"SELECT {arm.columns()} FROM ({arm.sql})"
            for one in alternatives
            for arm in self._arms(one, p)
        ]
        self.after, self.until = after, until
        names = [f"s{number}" for number in range(len(self.plan.order.sorts))]
        where = self._between([*(_Column(name, True) for name in names), _Column("path")], p)
        return (
            f"SELECT {self.columns} FROM (SELECT *, row_number() OVER "
            f"(PARTITION BY path ORDER BY {self.order}) AS place FROM ({' UNION '.join(arms)})) "
            f"WHERE place = 1 AND {' AND '.join(where) or '1'} ORDER BY {self.order}{bound}"
        ), p.values

    # -- one alternative -----------------------------------------------------------------------

    def _arms(self, one: Alternative, p: Parameters) -> list[_Arm]:
        driver = choose_driver(self.plan, one, self.db)
        if driver.name == "equal":
            return [self._arm(one, driver, None, p)]
        return [self._arm(one, driver, interval, p) for interval in driver.intervals]

    def _entities(self, interval: Interval, p: Parameters) -> tuple[str, list[str]]:
        at = self.plan.source.at
        paths = (interval,)
        if at is None:
            return entities_table(self.plan), [scope(self.plan, "d", p), within("d.path", paths, p)]
        version = p(at)
        live = (
            f"SELECT d.eid, d.path, d.packed FROM {entities_table(self.plan)} "
            f"WHERE {scope(self.plan, 'd', p)} AND {within('d.path', paths, p)} "
            f"AND d.version <= {version}"
        )
        # Without a kind, no index covers this, but the past is at most an hour of writes.
        index = "" if self.plan.source.kind is None else "INDEXED BY past_by_key"
        past = (
            f"SELECT d.eid, d.path, d.packed FROM entities_past d {index} "
            f"WHERE {scope(self.plan, 'd', p)} AND {within('d.path', paths, p)} "
            f"AND d.version <= {version} AND d.until > {version}"
        )
        return f"({live} UNION ALL {past}) d", []

    def _arm(
        self, one: Alternative, driver: Driver, interval: Interval | None, p: Parameters
    ) -> _Arm:
        plan = self.plan
        at = None if plan.source.at is None else p(plan.source.at)
        where: list[str] = []
        if driver.name == "entities":
            assert interval is not None
            table, where = self._entities(self._narrowed(interval, driver), p)
        else:
            table = "entries d"
            if driver.name == "equal":
                assert driver.equal is not None
                where.append(f"d.slot = {p(plan.slots[driver.equal[0]])}")
                where.append(f"d.value = {p(driver.equal[1])}")
            else:
                assert interval is not None
                where.append(f"d.slot = {p(plan.order.sorts[driver.column].slot)}")
                where.append(within("d.value", (self._narrowed(interval, driver),), p))
            where.append(alive("d", at))
            where.append(within("d.path", one.paths, p))
        for name, value in sorted(one.equal):
            if driver.equal != (name, value):
                where.append(
                    f"EXISTS (SELECT 1 FROM entries x WHERE x.slot = {p(plan.slots[name])} "
                    f"AND x.value = {p(value)} AND x.path = d.path AND {alive('x', at)})"
                )
        tables = [table]
        packed = "d.packed" if driver.name == "entities" else packed_of("d", at, plan.source.kind)
        columns = self._sort_columns(one, driver, packed, tables, where, p)
        sorted_by = {sort.prop for sort in plan.order.sorts}
        for name in sorted(one.ranges.keys() - sorted_by):
            where.append(
                f"EXISTS (SELECT 1 FROM json_each({packed}, {p(json_path(plan.slots[name]))}) x "
                f"WHERE {within('x.value', one.ranges[name], p, hexadecimal)})"
            )
        if plan.changed_since is not None:
            since = p(plan.changed_since)
            where.append(
                f"NOT EXISTS (SELECT 1 FROM entities x WHERE x.eid = d.eid "
                f"AND x.version <= {since})"
            )
        where += self._between([*columns, _Column("d.path")], p)
        selected = [f"{column.sql} AS s{number}" for number, column in enumerate(columns)]
        return _Arm(
            f"SELECT {', '.join([*selected, 'd.path AS path', 'd.eid AS eid'])} "
            f"FROM {' CROSS JOIN '.join(tables)} "
            f"WHERE {' AND '.join(term for term in where if term != '1') or '1'}",
            columns,
        )

    def _sort_columns(
        self,
        one: Alternative,
        driver: Driver,
        packed: str,
        tables: list[str],
        where: list[str],
        p: Parameters,
    ) -> list[_Column]:
        """The sort columns of an arm. Adds what they need to `tables` and `where`."""
        plan = self.plan
        constant = dict(sorted(one.equal, reverse=True))
        columns = []
        for number, sort in enumerate(plan.order.sorts):
            intervals = one.ranges.get(sort.prop, EVERYTHING)
            if sort.prop == KEY:
                columns.append(_Column("d.path"))
                continue
            if sort.prop in constant and sort.prop not in one.ranges:
                value = hexadecimal(constant[sort.prop])
                columns.append(_Column(f"CAST({p(value)} AS TEXT)", hex=True))
                continue
            if driver.name == "sort" and number == driver.column:
                column, own = _Column("d.value"), "lower(hex(d.value))"
            else:
                own = f"v{number}.value"
                column = _Column(own, hex=True)
                tables.append(f"json_each({packed}, {p(json_path(sort.slot))}) v{number}")
                where.append(within(own, intervals, p, hexadecimal))
            columns.append(column)
            if sort.slot in plan.multi and not plan.exploded:
                compare = ">" if sort.descending else "<"
                where.append(
                    f"NOT EXISTS (SELECT 1 FROM json_each({packed}, {p(json_path(sort.slot))}) m "
                    f"WHERE m.value {compare} {own} "
                    f"AND {within('m.value', intervals, p, hexadecimal)})"
                )
        return columns

    # -- positions -----------------------------------------------------------------------------

    def _narrowed(self, interval: Interval, driver: Driver) -> Interval:
        """The interval of the driver's own column, narrowed to what is between the positions if
        possible."""
        low, high = interval
        sorts = self.plan.order.sorts
        if driver.column or (driver.name == "entities" and sorts and sorts[0].prop != KEY):
            return interval
        descending = self.plan.order.directions[0]
        for position, is_after in ((self.after, True), (self.until, False)):
            if position is None:
                continue
            value = position.values[0]
            if is_after != descending:
                low = max(low, value)
            else:
                high = min(high, value + b"\x00")
        return low, high

    def _between(self, columns: list[_Column], p: Parameters) -> list[str]:
        terms = []
        if self.after is not None:
            terms.append(self._compare(columns, self.after, True, p))
        if self.until is not None:
            terms.append(self._compare(columns, self.until, False, p))
        return terms

    def _compare(
        self, sorts: list[_Column], position: Position, is_after: bool, p: Parameters
    ) -> str:
        """A condition that the columns are past a position, or not past it yet.

        If all columns have the same direction, a row comparison lets SQLite seek in the index. A
        position with fewer values than columns is past all rows that begin with these values.
        """
        values = position.values
        columns = [column.sql for column in sorts[: len(values)]]
        directions = self.plan.order.directions[: len(values)]
        or_equal = is_after == position.inclusive
        marks = [column.mark(value, p) for column, value in zip(sorts, values, strict=False)]
        if len(set(directions)) == 1:
            operator = ">" if is_after != directions[0] else "<"
            operator += "=" if or_equal else ""
            if len(columns) == 1:
                return f"{columns[0]} {operator} {marks[0]}"
            return f"({', '.join(columns)}) {operator} ({', '.join(marks)})"
        terms = []
        for number, (column, mark, descending) in enumerate(
            zip(columns, marks, directions, strict=True)
        ):
            equal = [f"{c} = {v}" for c, v in zip(columns[:number], marks[:number], strict=True)]
            operator = ">" if is_after != descending else "<"
            if or_equal and number == len(columns) - 1:
                operator += "="
            terms.append(" AND ".join([*equal, f"{column} {operator} {mark}"]))
        return "(" + " OR ".join(terms) + ")"

# ruff: noqa: S608 - built from constants of this package; every value is a parameter
"""A query plan, and the choice of the rows that drive each alternative of its filter.

- `entities`, in key order: when the alternative has no properties, or when its keys are few;
- the `entries` of an equality, which are in key order too;
- the `entries` of the first sort property, which are in the right order already, or of another sort
  property, if a range leaves only a few of them.

To choose, it counts how many rows each would visit, up to `_FEW`.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from bulkup.local.filters import KEY, Alternative
from bulkup.local.intervals import EVERYTHING, Intervals
from bulkup.local.sql import Parameters, execute, within

_FEW = 2000
"""Fewer rows than this are faster to sort than to find in the right order."""


@dataclass(frozen=True)
class Sort:
    """A sort column. The key is listed only if other columns follow it; otherwise it is the
    implicit last one."""

    prop: str
    slot: int
    descending: bool


@dataclass(frozen=True)
class Order:
    sorts: list[Sort]
    key_descending: bool

    @property
    def directions(self) -> tuple[bool, ...]:
        return (*(sort.descending for sort in self.sorts), self.key_descending)


@dataclass(frozen=True)
class Source:
    """The entities to read: those of one kind or, without a kind, of a whole partition."""

    part: int
    kind: int | None
    at: int | None
    """Version to read at; None reads the live entities."""


@dataclass
class Plan:
    source: Source
    order: Order
    alternatives: list[Alternative]
    slots: dict[str, int]
    """Slots of the properties in the alternatives. No entity has a property without a slot."""
    multi: set[int]
    exploded: bool = False
    """A projection: one row per combination of values."""
    changed_since: int | None = None
    """Only rows whose entity was written after this version."""


@dataclass
class Driver:
    name: str
    """`entities`, `equal` or `sort`."""
    intervals: Intervals = EVERYTHING
    equal: tuple[str, bytes] | None = None
    column: int = 0
    """The sort column, for `sort`."""


def choose_driver(plan: Plan, one: Alternative, db: sqlite3.Connection) -> Driver:
    """The cheapest way to find the rows of one alternative of a plan."""
    sorts = _sorted_by(plan, one)
    if sorts and sorts[0].prop == KEY:
        sorts = []
    if not one.equal and not sorts:
        return Driver("entities", one.paths)
    candidates: list[tuple[int, Driver]] = []
    equals = sorted(one.equal)
    only = len(equals) == 1 and not sorts
    for equal in equals:
        count = 0 if only else _count_equal(plan, db, equal, one.paths)
        candidates.append((count, Driver("equal", equal=equal)))
    if one.paths != EVERYTHING and sorts:
        candidates.append((_count_paths(plan, db, one.paths), Driver("entities", one.paths)))
    for number, sort in enumerate(plan.order.sorts):
        if number and sort.prop in one.ranges:
            intervals = one.ranges[sort.prop]
            count = _count_range(db, sort.slot, intervals)
            candidates.append((count, Driver("sort", intervals, column=number)))
    candidates.sort(key=lambda candidate: candidate[0])
    if candidates and (candidates[0][0] < _FEW or not sorts):
        return candidates[0][1]
    first = plan.order.sorts[0]
    if any(name == first.prop for name, _ in one.equal):
        return next(d for _, d in candidates if d.equal and d.equal[0] == first.prop)
    return Driver("sort", one.ranges.get(first.prop, EVERYTHING))


def _sorted_by(plan: Plan, one: Alternative) -> list[Sort]:
    constant = {name for name, _ in one.equal}
    return [sort for sort in plan.order.sorts if sort.prop not in constant]


def _count_equal(
    plan: Plan, db: sqlite3.Connection, equal: tuple[str, bytes], paths: Intervals
) -> int:
    p = Parameters()
    where = (
        f"d.slot = {p(plan.slots[equal[0]])} AND d.value = {p(equal[1])} "
        f"AND {within('d.path', paths, p)}"
    )
    return _count(db, f"SELECT 1 FROM entries d WHERE {where}", p)


def _count_range(db: sqlite3.Connection, slot: int, intervals: Intervals) -> int:
    p = Parameters()
    where = f"d.slot = {p(slot)} AND {within('d.value', intervals, p)}"
    return _count(db, f"SELECT 1 FROM entries d WHERE {where}", p)


def _count_paths(plan: Plan, db: sqlite3.Connection, paths: Intervals) -> int:
    p = Parameters()
    return _count(
        db,
        f"SELECT 1 FROM {entities_table(plan)} WHERE {scope(plan, 'd', p)} "
        f"AND {within('d.path', paths, p)}",
        p,
    )


def _count(db: sqlite3.Connection, select: str, p: Parameters) -> int:
    counted = f"SELECT count(*) FROM ({select} LIMIT {_FEW})"
    row = execute(db, counted, p.values).fetchone()
    return int(row[0])


def scope(plan: Plan, alias: str, p: Parameters) -> str:
    if plan.source.kind is None:
        return f"{alias}.part = {p(plan.source.part)}"
    return f"{alias}.kind = {p(plan.source.kind)}"


def entities_table(plan: Plan) -> str:
    index = "entities_by_path" if plan.source.kind is None else "entities_by_key"
    return f"entities d INDEXED BY {index}"

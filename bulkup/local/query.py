"""Checks a `Query` message and compiles it to what it asks for, without looking at the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bulkup.core.limits import MAX_NAME_BYTES
from bulkup.local import messages as m
from bulkup.local.cursors import CursorCodec, Position
from bulkup.local.encoding import Partition
from bulkup.local.filters import (
    ANCESTOR,
    EQUALITIES,
    KEY,
    Alternative,
    alternatives,
    comparisons,
    key_path,
)
from bulkup.local.intervals import EVERYTHING
from bulkup.local.limits import check_property_name, partition_of
from bulkup.local.masks import Mask
from bulkup.local.status import invalid, unimplemented

FULL, PROJECTION, KEY_ONLY = m.EntityResult.FULL, m.EntityResult.PROJECTION, m.EntityResult.KEY_ONLY


@dataclass(frozen=True)
class Selection:
    """Which results there are, and what each contains of its entity."""

    projection: list[str]
    distinct: list[str]
    keys_only: bool
    mask: Mask | None

    @property
    def result_type(self) -> int:
        return int(KEY_ONLY if self.keys_only else PROJECTION if self.projection else FULL)


@dataclass(frozen=True)
class Window:
    """Which part of the results is wanted."""

    start: Position | None
    end: Position | None
    offset: int
    limit: int | None


@dataclass(frozen=True)
class Request:
    """A valid query."""

    partition: Partition
    kind: str
    """Empty for all kinds."""
    orders: list[tuple[str, bool]]
    """Property (or `__key__`) and whether it is descending."""
    alternatives: list[Alternative]
    selection: Selection
    window: Window
    codec: CursorCodec

    @property
    def directions(self) -> tuple[bool, ...]:
        return _directions(self.orders)


def check_query(query: Any, partition: Partition, mask: Mask | None = None) -> Request:
    """Raises INVALID_ARGUMENT for a query that the service would refuse."""
    kind = _kind(query)
    limit = _check_counts(query)
    selection = _selection(query, mask)
    found = alternatives(
        query.filter if query.HasField("filter") else None,
        lambda value: _path_in(partition, value),
    )
    distinct = selection.distinct
    if len(set(distinct)) < len(distinct):
        raise invalid("Cannot group by a property multiple times.")
    orders = _orders(query, found, selection)
    if not kind:
        _check_kindless(query, selection)
    for one in found:
        if any(name in selection.projection for name, _ in one.equal):
            raise invalid("Cannot use projection on a property with an equality filter.")
    codec = _codec(partition, kind, orders)
    window = Window(
        codec.decode(query.start_cursor) if query.start_cursor else None,
        codec.decode(query.end_cursor) if query.end_cursor else None,
        query.offset,
        limit,
    )
    return Request(partition, kind, orders, found, selection, window, codec)


def _kind(query: Any) -> str:
    if len(query.kind) > 1:
        raise invalid("multiple kinds not supported: a query may have at most one kind")
    if query.HasField("find_nearest"):
        raise unimplemented("The embedded Datastore has no vector search (find_nearest).")
    kind: str = query.kind[0].name if query.kind else ""
    if query.kind and not kind:
        raise invalid("The kind of a query must not be empty.")
    if len(kind.encode()) > MAX_NAME_BYTES:
        raise invalid(f"The kind is longer than {MAX_NAME_BYTES} bytes.")
    return kind


def _check_counts(query: Any) -> int | None:
    """Check the offset and limit; returns the limit, None if there is none."""
    if query.offset < 0:
        raise invalid("Offset must be non-negative.")
    limit: int | None = query.limit.value if query.HasField("limit") else None
    if limit is not None and limit < 0:
        raise invalid("Limit must be non-negative.")
    return limit


def _selection(query: Any, mask: Mask | None) -> Selection:
    names = [one.property.name for one in query.projection]
    if len(set(names)) < len(names):
        raise invalid("Cannot project a property multiple times.")
    for name in names:
        if name != KEY:
            check_property_name(name)
    keys_only = names == [KEY]
    projection = [name for name in names if name != KEY]
    if mask is not None and (projection or keys_only):
        raise invalid("A property mask cannot be combined with a projection.")
    return Selection(projection, [one.name for one in query.distinct_on], keys_only, mask)


def _path_in(partition: Partition, value: Any) -> bytes:
    """The path of a key in a filter."""
    path = key_path(value)
    place = value.key_value.partition_id
    if partition_of(place, partition.project, partition.database) != partition:
        raise invalid(
            f"The query is on namespace {partition.namespace!r}, but a key in its filter is "
            f"on namespace {place.namespace_id!r}."
        )
    return path


def _codec(partition: Partition, kind: str, orders: list[tuple[str, bool]]) -> CursorCodec:
    # Ordering by key is the same order whether the query says so or not.
    names = [name for name, _ in orders]
    if names[-1:] == [KEY]:
        names.pop()
    signature = "\0".join([*partition, kind, *names]).encode()
    return CursorCodec(signature, _directions(orders))


def _directions(orders: list[tuple[str, bool]]) -> tuple[bool, ...]:
    """Whether each sort column, then the key, is descending."""
    flags = [descending for _, descending in orders]
    if not orders or orders[-1][0] != KEY:
        flags.append(flags[-1] if flags else False)
    return tuple(flags)


def _orders(query: Any, found: list[Alternative], selection: Selection) -> list[tuple[str, bool]]:
    """All sort columns: those requested, and those that the filters and the projection add.

    Columns after the key sort nothing. If the query orders by key, neither does the property of an
    inequality that no order names. As with every order, entities without such a property are still
    not results; `found` is restricted accordingly.
    """
    compared = list(comparisons(query.filter))
    ranged = {name for name, op in compared if op not in EQUALITIES and name != KEY}
    orders = _asked_orders(query)
    last = orders[next(reversed(orders))] if orders else False
    if KEY in orders:
        _cut_after_key(orders, ranged, found)
    distinct = selection.distinct
    for name in distinct:
        check_property_name(name)
    if not set(list(orders)[: len(distinct)]) <= set(distinct):
        raise invalid("All group by properties must be ordered before any non group by properties.")
    if found and not distinct:
        # A property that has the same value in every result sorts nothing.
        fixed = set.intersection(*(one.equal for one in found))
        for name, _ in fixed:
            if not any(name in one.ranges for one in found):
                orders.pop(name, None)
    for name in distinct:
        orders.setdefault(name, last)
    if KEY not in orders:
        for name in sorted(ranged):
            orders.setdefault(name, last)
    if selection.projection and any(name == KEY and op != ANCESTOR for name, op in compared):
        # Like every compared property, the key comes before those that are only projected.
        orders.setdefault(KEY, last)
    # The service's index has the projected properties in the order of their names.
    for name in sorted(selection.projection):
        orders.setdefault(name, last)
    return list(orders.items())


def _asked_orders(query: Any) -> dict[str, bool]:
    orders: dict[str, bool] = {}
    for order in query.order:
        name = order.property.name
        check_property_name(name, reserved_ok=True)
        if name in orders:
            raise invalid(f"order by clause cannot contain duplicate fields {name[:100]}")
        orders[name] = order.direction == m.PropertyOrder.DESCENDING
    return orders


def _cut_after_key(orders: dict[str, bool], ranged: set[str], found: list[Alternative]) -> None:
    """Drop the sort columns after the key. Entities must still have these properties to be
    results."""
    names = list(orders)
    after_key = names[names.index(KEY) + 1 :]
    for name in after_key:
        del orders[name]
    for one in found:
        for name in ranged.union(after_key) - orders.keys():
            one.ranges.setdefault(name, EVERYTHING)


def _check_kindless(query: Any, selection: Selection) -> None:
    descending = m.PropertyOrder.DESCENDING
    if any(one.property.name != KEY or one.direction == descending for one in query.order):
        raise invalid("kind is required for all orders except __key__ ascending")
    for name, _ in comparisons(query.filter):
        if name != KEY:
            raise invalid(f"kind is required for filter: {name}")
    if selection.projection or selection.distinct:
        raise invalid("kind is required for projections and distinct")

"""RunQuery: a `Query` message to a plan, its rows to an answer.

An answer has at most `PAGE_RESULTS` results and about `PAGE_BYTES`, whatever the query's limit:
the official clients refuse answers above 4 MiB, and go on by themselves when the answer says
NOT_FINISHED. So neither side holds more than a page.

A projection returns index values, as the service does: timestamps as integers in microseconds, one
result for each combination of an entity's values. Versions and times are on full results only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from bulkup.local import messages as m
from bulkup.local.cursors import CursorCodec, Position
from bulkup.local.drivers import Plan, Sort
from bulkup.local.encoding import Partition, decode_path, decode_value, key_message
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
from bulkup.local.limits import MAX_NAME_BYTES, check_property_name, partition_of
from bulkup.local.masks import Mask
from bulkup.local.plan import Select
from bulkup.local.sql import by_path, one_entity
from bulkup.local.status import invalid, unimplemented
from bulkup.local.storage import Storage

PAGE_RESULTS = 500
PAGE_BYTES = 3 << 19
"""1.5 MiB: with one more entity of 1 MiB an answer stays below the clients' 4 MiB."""
_BATCH = m.QueryResultBatch
FULL, PROJECTION, KEY_ONLY = m.EntityResult.FULL, m.EntityResult.PROJECTION, m.EntityResult.KEY_ONLY
Row = tuple[Any, ...]
"""Sort values..., path, eid."""


@dataclass
class Request:
    """A checked query, not yet bound to what is stored."""

    partition: Partition
    kind: str
    """Empty: all kinds."""
    orders: list[tuple[str, bool]]
    """Property (or `__key__`, then the last) and whether descending."""
    alternatives: list[Alternative]
    projection: list[str]
    distinct: list[str]
    keys_only: bool
    codec: CursorCodec
    start: Position | None
    end: Position | None
    offset: int
    limit: int | None
    mask: Mask | None = None

    @property
    def result_type(self) -> int:
        return int(KEY_ONLY if self.keys_only else PROJECTION if self.projection else FULL)


def check_query(query: Any, partition: Partition, mask: Mask | None = None) -> Request:
    """Raises INVALID_ARGUMENT for a query that the service would refuse."""
    if len(query.kind) > 1:
        raise invalid("multiple kinds not supported: a query may have at most one kind")
    if query.HasField("find_nearest"):
        raise unimplemented("The embedded Datastore has no vector search (find_nearest).")
    kind = query.kind[0].name if query.kind else ""
    if query.kind and not kind:
        raise invalid("The kind of a query must not be empty.")
    if len(kind.encode()) > MAX_NAME_BYTES:
        raise invalid(f"The kind is longer than {MAX_NAME_BYTES} bytes.")
    if query.offset < 0:
        raise invalid("Offset must be non-negative.")
    limit = query.limit.value if query.HasField("limit") else None
    if limit is not None and limit < 0:
        raise invalid("Limit must be non-negative.")

    def path_of(value: Any) -> bytes:
        path = key_path(value)
        place = value.key_value.partition_id
        if partition_of(place, partition.project, partition.database) != partition:
            raise invalid(
                f"The query is on namespace {partition.namespace!r}, but a key in its filter is "
                f"on namespace {place.namespace_id!r}."
            )
        return path

    projected = [one.property.name for one in query.projection]
    _check_projection(projected)
    keys_only = projected == [KEY]
    projection = [name for name in projected if name != KEY]
    if mask is not None and (projection or keys_only):
        raise invalid("A property mask cannot be combined with a projection.")
    found = alternatives(query.filter if query.HasField("filter") else None, path_of)
    distinct = [one.name for one in query.distinct_on]
    if len(set(distinct)) < len(distinct):
        raise invalid("Cannot group by a property multiple times.")
    orders = _orders(query, found, projection, distinct)
    if not kind:
        _check_kindless(query, projection, distinct)
    for one in found:
        if any(name in projection for name, _ in one.equal):
            raise invalid("Cannot use projection on a property with an equality filter.")
    # Ordered by key, said or not, is the same order.
    names = [name for name, _ in orders]
    if names[-1:] == [KEY]:
        names.pop()
    signature = "\0".join([*partition, kind, *names]).encode()
    codec = CursorCodec(signature, _directions(orders))
    return Request(
        partition,
        kind,
        orders,
        found,
        projection,
        distinct,
        keys_only,
        codec,
        codec.decode(query.start_cursor) if query.start_cursor else None,
        codec.decode(query.end_cursor) if query.end_cursor else None,
        query.offset,
        limit,
        mask,
    )


def _check_projection(names: list[str]) -> None:
    if len(set(names)) < len(names):
        raise invalid("Cannot project a property multiple times.")
    for name in names:
        if name != KEY:
            check_property_name(name)


def _directions(orders: list[tuple[str, bool]]) -> tuple[bool, ...]:
    """Of each sort column, then of the key."""
    flags = [descending for _, descending in orders]
    if not orders or orders[-1][0] != KEY:
        flags.append(flags[-1] if flags else False)
    return tuple(flags)


def _orders(
    query: Any, found: list[Alternative], projection: list[str], distinct: list[str]
) -> list[tuple[str, bool]]:
    """All sort columns: those asked for, those the filters and the projection bring.

    What stands behind the key sorts nothing, nor does an inequality's property that no order
    names when the key is ordered by. Who has no such property is not found all the same, as with
    every order: that goes into `found`.
    """
    compared = list(comparisons(query.filter))
    ranged = {name for name, op in compared if op not in EQUALITIES and name != KEY}
    orders: dict[str, bool] = {}
    last = False
    for order in query.order:
        name = order.property.name
        check_property_name(name, reserved_ok=True)
        if name in orders:
            raise invalid(f"order by clause cannot contain duplicate fields {name[:100]}")
        last = order.direction == m.PropertyOrder.DESCENDING
        orders[name] = last
    if KEY in orders:
        place = list(orders).index(KEY) + 1
        unsorted = set(list(orders)[place:])
        orders = dict(list(orders.items())[:place])
        unsorted |= ranged
        for one in found:
            for name in unsorted - orders.keys():
                one.ranges.setdefault(name, EVERYTHING)
    if distinct:
        for name in distinct:
            check_property_name(name)
        if not set(list(orders)[: len(distinct)]) <= set(distinct):
            raise invalid(
                "All group by properties must be ordered before any non group by properties."
            )
    # A property that every result has the same value of sorts nothing.
    if found and not distinct:
        fixed = set.intersection(*(one.equal for one in found))
        for name, _ in fixed:
            if not any(name in one.ranges for one in found):
                orders.pop(name, None)
    for name in distinct:
        orders.setdefault(name, last)
    if KEY not in orders:
        for name in sorted(ranged):
            orders.setdefault(name, last)
    if projection and any(name == KEY and op != ANCESTOR for name, op in compared):
        # As every compared property, before those that are only projected.
        orders.setdefault(KEY, last)
    # The service's index has the projected properties by name.
    for name in sorted(projection):
        orders.setdefault(name, last)
    return list(orders.items())


def _check_kindless(query: Any, projection: list[str], distinct: list[str]) -> None:
    descending = m.PropertyOrder.DESCENDING
    if any(one.property.name != KEY or one.direction == descending for one in query.order):
        raise invalid("kind is required for all orders except __key__ ascending")
    for name, _ in comparisons(query.filter):
        if name != KEY:
            raise invalid(f"kind is required for filter: {name}")
    if projection or distinct:
        raise invalid("kind is required for projections and distinct")


def bind(request: Request, storage: Storage, at: int | None) -> Plan | None:
    """The plan of a query on what is stored; None when nothing of its kind is."""
    part = storage.partitions.get(request.partition)
    if part is None:
        return None
    kind: int | None = None
    if request.kind:
        kind = storage.kinds.get((part, request.kind))
        if kind is None:
            return None
    slots = {}
    names = {name for one in request.alternatives for name, _ in one.equal}
    names |= {name for one in request.alternatives for name in one.ranges}
    for name in names:
        slot = storage.slots.get((kind or 0, name))
        if slot is not None:
            slots[name] = slot
    sorts = []
    for name, descending in request.orders:
        slot = -1 if name == KEY else storage.slots.get((kind or 0, name))
        if slot is None:
            return None
        sorts.append(Sort(name, slot, descending))
    directions = _directions(request.orders)
    if sorts and sorts[-1].prop == KEY:
        sorts.pop()
    return Plan(
        part,
        kind,
        at,
        sorts,
        directions[-1],
        request.alternatives,
        slots,
        storage.multi,
        exploded=bool(request.projection),
    )


class Rows:
    """Rows of a query, in order, from a position on."""

    def __init__(self, request: Request, plan: Plan, db: sqlite3.Connection) -> None:
        self._plan = plan
        self._db = db
        self._until = request.end
        self._prefix = len(request.distinct)

    def after(self, position: Position | None, limit: int) -> Iterator[Row]:
        if not self._prefix:
            yield from self._run(position, limit)
            return
        for _ in range(limit):
            row = next(self._run(self._distinct(position), 1), None)
            if row is None:
                return
            yield row
            position = Position(row[:-1])

    def skip(self, position: Position | None, count: int) -> tuple[int, Row | None]:
        """How many of `count` rows there are, and the last of them."""
        if self._prefix:
            rows = list(self.after(position, count))
            return len(rows), rows[-1] if rows else None
        row = next(self._run(position, 1, count - 1), None)
        if row is not None:
            return count, row
        statement = Select(self._plan, self._db, position, self._until).sql(count)
        if statement is None:
            return 0, None
        counted = f"SELECT count(*) FROM ({statement[0]})"  # noqa: S608 - our own SQL
        total: int = self._db.execute(counted, statement[1]).fetchone()[0]
        if not total:
            return 0, None
        return total, next(self._run(position, 1, total - 1), None)

    def _distinct(self, position: Position | None) -> Position | None:
        """Past everything with the same distinct values as a position."""
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
        if not self._plan.sorts:
            yield from self._db.execute(sql, values)
            return
        for row in self._db.execute(sql, values):
            # Sort values that are not from the index come in hexadecimal.
            yield tuple([bytes.fromhex(one) if type(one) is str else one for one in row])


@dataclass
class Page:
    """What a query has read, for its answer and for the conflict check of its transaction."""

    batch: bytes
    end: Position | None
    """Where it stopped; None: at the end of the query."""


def run_page(
    request: Request, storage: Storage, db: sqlite3.Connection, at: int | None, read_time: int
) -> Page:
    """One answer's QueryResultBatch, serialized. `read_time`: what the answer says; 0: nothing."""
    answer = Answer(request, read_time)
    plan = bind(request, storage, at)
    if plan is None:
        return Page(answer.serialize(), None)
    rows = Rows(request, plan, db)
    position = request.start
    if request.offset:
        skipped, row = rows.skip(position, request.offset)
        if row is not None:
            position = Position(row[:-1])
            answer.skip(skipped, position)
        if skipped < request.offset:
            return Page(answer.serialize(), None)

    def result(row: Row) -> bytes:
        if request.result_type != FULL:
            return m.field(1, _partial(request, row))
        found = one_entity(db, row[-1]) if at is None else _as_it_was(storage, plan, db, row[-2])
        version, created, body = found
        if request.mask is not None:
            body = request.mask.select(m.Entity.FromString(body)).SerializeToString()
        return m.stored_result(body, version, created)

    answer.fill(rows.after(position, answer.want + 1), result)
    return Page(answer.serialize(), None if answer.exhausted else answer.position)


def _as_it_was(
    storage: Storage, plan: Plan, db: sqlite3.Connection, path: bytes
) -> tuple[int, int, bytes]:
    kind = plan.kind
    if kind is None:
        *_, (name, _) = decode_path(path)
        kind = storage.kinds[plan.part, name]
    found = by_path(db, kind, path, plan.at)
    assert found is not None, "a row of the past without its entity"
    return found


def _partial(request: Request, row: Row) -> bytes:
    """The Entity of a keys-only or projection result."""
    entity = m.Entity(key=key_message(request.partition, row[-2]))
    if request.projection:
        columns = [name for name, _ in request.orders]
        for name in request.projection:
            value = decode_value(row[columns.index(name)])
            entity.properties[name].CopyFrom(value)
    return bytes(entity.SerializeToString())


class Answer:
    """Collects a QueryResultBatch."""

    def __init__(self, request: Request, read_time: int) -> None:
        limit = request.limit
        self.want = PAGE_RESULTS if limit is None else min(limit, PAGE_RESULTS)
        self.position = request.start
        self.exhausted = True
        """The query has nothing after this answer."""
        self._request = request
        self._read_time = read_time
        self._skipped = b""
        self._results: list[bytes] = []

    def skip(self, count: int, position: Position) -> None:
        """`count` results were skipped, up to a position."""
        self.position = position
        cursor = self._request.codec.encode(position.values)
        self._skipped = m.field(3, cursor) + m.number_field(6, count)

    def fill(self, rows: Iterable[Row], result: Callable[[Row], bytes]) -> None:
        """Take rows until there are enough; `result` serializes an EntityResult, but its cursor."""
        encode = self._request.codec.encode
        size = 0
        for row in rows:
            if len(self._results) == self.want or size > PAGE_BYTES:
                self.exhausted = False
                break
            values = row[:-1]
            one = result(row) + m.field(3, encode(values))
            self._results.append(b"\x12" + m.varint(len(one)) + one)
            size += len(one)
            self.position = Position(values)

    def _more(self) -> int:
        limit = self._request.limit
        if limit is not None and len(self._results) >= limit:
            return int(_BATCH.MORE_RESULTS_AFTER_LIMIT)
        if not self.exhausted:
            return int(_BATCH.NOT_FINISHED)
        if self._request.end is not None:
            return int(_BATCH.MORE_RESULTS_AFTER_CURSOR)
        return int(_BATCH.NO_MORE_RESULTS)

    def serialize(self) -> bytes:
        codec, position = self._request.codec, self.position
        end = codec.encode(position.values) if position and position.values else codec.start()
        out = [m.number_field(1, self._request.result_type), *self._results, self._skipped]
        out.append(m.field(4, end))
        out.append(m.number_field(5, self._more()))
        if self._read_time:
            out.append(m.number_field(7, self._read_time))
            out.append(m.field(8, m.timestamp(self._read_time)))
        return b"".join(out)

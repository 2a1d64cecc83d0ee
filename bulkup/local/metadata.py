"""The metadata kinds: `__namespace__`, `__kind__` and `__property__`.

Their entities are computed from what is stored, at the cost of a few rows each. Keys, and the
`property_representation` of properties, are as in the service. Kinds and properties without
entities are left out. In a transaction these queries show the present.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from bulkup.local import encoding
from bulkup.local import messages as m
from bulkup.local.catalog import Catalog
from bulkup.local.cursors import Position
from bulkup.local.encoding import Partition, encode_path, key_message
from bulkup.local.indexing import SCATTER
from bulkup.local.query import Request
from bulkup.local.query_page import Answer
from bulkup.local.query_rows import Row
from bulkup.local.status import invalid

_KINDS = ("__namespace__", "__kind__", "__property__")
_REPRESENTATIONS = (
    (encoding.BOOLEAN, "BOOLEAN"),
    (encoding.DOUBLE, "DOUBLE"),
    (encoding.NUMBER, "INT64"),
    (encoding.NULL, "NULL"),
    (encoding.POINT, "POINT"),
    (encoding.KEY, "REFERENCE"),
    (encoding.BYTES, "STRING"),
)


def is_metadata(kind: str) -> bool:
    return kind in _KINDS


def run_metadata(
    request: Request, catalog: Catalog, db: sqlite3.Connection, read_time: int
) -> bytes:
    """The QueryResultBatch of a query on a metadata kind, which can be filtered by key only."""
    names = [name for name, _ in request.orders if name not in request.selection.projection]
    if any(one.equal or one.ranges for one in request.alternatives) or names not in (
        [],
        ["__key__"],
    ):
        raise invalid(f"{request.kind} can be filtered and ordered by __key__ only.")
    if set(request.selection.projection) - {"property_representation"}:
        raise invalid(f"{request.kind} has no such property to project.")
    found = {
        "__namespace__": _namespaces,
        "__kind__": _kinds,
        "__property__": _properties,
    }[request.kind](request.partition, catalog, db)
    entities: dict[bytes, Any] = {}
    for entity in found:
        path = encode_path(entity.key.path)
        if any(low <= path < high for one in request.alternatives for low, high in one.paths):
            entities[path] = entity
    descending = bool(request.orders) and request.orders[-1][1]
    return _answer(request, entities, descending, read_time)


def _answer(
    request: Request, entities: dict[bytes, Any], descending: bool, read_time: int
) -> bytes:
    answer = Answer(request, read_time)
    wide = len(request.selection.projection)
    rows = [
        (*(b"" for _ in range(wide)), path, path) for path in sorted(entities, reverse=descending)
    ]
    for bound, is_start in ((request.window.start, True), (request.window.end, False)):
        if bound is not None and bound.values:
            rows = [row for row in rows if _past(row[-1], bound, descending) == is_start]
    if request.window.offset:
        skipped, rows = rows[: request.window.offset], rows[request.window.offset :]
        if skipped:
            answer.skip(len(skipped), Position(skipped[-1][:-1]))

    def result(row: Row) -> bytes:
        entity = entities[row[-1]]
        if request.selection.keys_only:
            entity.ClearField("properties")
        return m.field(1, entity.SerializeToString())

    answer.fill(rows, result)
    return answer.serialize()


def _past(path: bytes, position: Position, descending: bool) -> bool:
    at = position.values[-1]
    if path == at:
        return position.inclusive
    return (path < at) if descending else (path > at)


def _entity(partition: Partition, *path: tuple[str, int | str]) -> Any:
    entity = m.Entity(key=key_message(partition, b""))
    for kind, ident in path:
        element = entity.key.path.add(kind=kind)
        if isinstance(ident, str):
            element.name = ident
        else:
            element.id = ident
    return entity


def _namespaces(partition: Partition, catalog: Catalog, db: sqlite3.Connection) -> Iterator[Any]:
    for one, part in list(catalog.partitions.items()):
        if one[:2] == partition[:2] and _any(
            db, "SELECT 1 FROM entities WHERE part = ? LIMIT 1", part
        ):
            # The default namespace has no name; its key has the id 1.
            yield _entity(partition, ("__namespace__", one.namespace or 1))


def _live_kinds(
    partition: Partition, catalog: Catalog, db: sqlite3.Connection
) -> Iterator[tuple[str, int]]:
    part = catalog.partitions.get(partition)
    for (one, name), kind in list(catalog.kinds.items()):
        if one == part and _any(db, "SELECT 1 FROM entities WHERE kind = ? LIMIT 1", kind):
            yield name, kind


def _kinds(partition: Partition, catalog: Catalog, db: sqlite3.Connection) -> Iterator[Any]:
    for name, _ in _live_kinds(partition, catalog, db):
        yield _entity(partition, ("__kind__", name))


def _properties(partition: Partition, catalog: Catalog, db: sqlite3.Connection) -> Iterator[Any]:
    kinds = {kind: name for name, kind in _live_kinds(partition, catalog, db)}
    for (kind, prop), slot in list(catalog.slots.items()):
        if kind not in kinds or prop == SCATTER:
            continue
        entity = _entity(partition, ("__kind__", kinds[kind]), ("__property__", prop))
        values = entity.properties["property_representation"].array_value.values
        for tag, name in _REPRESENTATIONS:
            if _any(
                db,
                "SELECT 1 FROM entries WHERE slot = ? AND value >= ? AND value < ? "
                "AND until IS NULL LIMIT 1",
                slot,
                tag,
                bytes((tag[0] + 1,)),
            ):
                values.add(string_value=name)
        if values:
            yield entity


def _any(db: sqlite3.Connection, sql: str, *values: object) -> bool:
    return db.execute(sql, values).fetchone() is not None

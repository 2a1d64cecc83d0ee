"""One response to RunQuery.

A response has at most `PAGE_RESULTS` results and about `PAGE_BYTES`, whatever the query's limit.
The official clients refuse responses above 4 MiB, and ask for more by themselves when a response
says NOT_FINISHED. So neither side holds more than a page.

A projection returns index values, as the service does: timestamps as integers in microseconds, one
result for each combination of an entity's values. Only full results have versions and times.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bulkup.local import messages as m
from bulkup.local.catalog import Catalog
from bulkup.local.cursors import Position
from bulkup.local.drivers import Plan
from bulkup.local.encoding import decode_path, decode_value, key_message
from bulkup.local.query import FULL, Request
from bulkup.local.query_rows import Row, Rows, bind
from bulkup.local.sql import by_path, one_entity

PAGE_RESULTS = 500
PAGE_BYTES = 3 << 19
"""1.5 MiB: with one more entity of 1 MiB a response stays below the clients' limit of 4 MiB."""
_BATCH = m.QueryResultBatch


@dataclass
class Page:
    """What a query has read, for its response and for the conflict check of its transaction."""

    batch: bytes
    end: Position | None
    """Where reading stopped; None at the end of the query."""


def run_page(
    request: Request, catalog: Catalog, db: sqlite3.Connection, at: int | None, read_time: int
) -> Page:
    """One serialized QueryResultBatch. `read_time` is what it reports; 0 for none."""
    answer = Answer(request, read_time)
    plan = bind(request, catalog, at)
    if plan is None:
        return Page(answer.serialize(), None)
    rows = Rows(request, plan, db)
    position = request.window.start
    if request.window.offset:
        skipped, row = rows.skip(position, request.window.offset)
        if row is not None:
            position = Position(row[:-1])
            answer.skip(skipped, position)
        if skipped < request.window.offset:
            return Page(answer.serialize(), None)
    selection = request.selection

    def result(row: Row) -> bytes:
        if selection.result_type != FULL:
            return m.field(1, _partial(request, row))
        found = one_entity(db, row[-1]) if at is None else _as_it_was(catalog, plan, db, row[-2])
        version, created, body = found
        if selection.mask is not None:
            body = selection.mask.select(m.Entity.FromString(body)).SerializeToString()
        return m.stored_result(body, version, created)

    answer.fill(rows.after(position, answer.want + 1), result)
    return Page(answer.serialize(), None if answer.exhausted else answer.position)


def _as_it_was(
    catalog: Catalog, plan: Plan, db: sqlite3.Connection, path: bytes
) -> tuple[int, int, bytes]:
    kind = plan.source.kind
    if kind is None:
        *_, (name, _) = decode_path(path)
        kind = catalog.kinds[plan.source.part, name]
    found = by_path(db, kind, path, plan.source.at)
    assert found is not None, "a past row without its entity"
    return found


def _partial(request: Request, row: Row) -> bytes:
    """The Entity of a keys-only or projection result."""
    entity = m.Entity(key=key_message(request.partition, row[-2]))
    columns = [name for name, _ in request.orders]
    for name in request.selection.projection:
        value = decode_value(row[columns.index(name)])
        entity.properties[name].CopyFrom(value)
    return bytes(entity.SerializeToString())


class Answer:
    """Collects a QueryResultBatch."""

    def __init__(self, request: Request, read_time: int) -> None:
        limit = request.window.limit
        self.want = PAGE_RESULTS if limit is None else min(limit, PAGE_RESULTS)
        self.position = request.window.start
        self.exhausted = True
        """Whether the query has nothing after this response."""
        self._request = request
        self._read_time = read_time
        self._skipped = b""
        self._results: list[bytes] = []

    def skip(self, count: int, position: Position) -> None:
        """Report that `count` results were skipped, up to `position`."""
        self.position = position
        cursor = self._request.codec.encode(position.values)
        self._skipped = m.field(3, cursor) + m.number_field(6, count)

    def fill(self, rows: Iterable[Row], result: Callable[[Row], bytes]) -> None:
        """Take rows until there are enough. `result` serializes an EntityResult without cursor."""
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

    def serialize(self) -> bytes:
        codec, position = self._request.codec, self.position
        end = codec.encode(position.values) if position and position.values else codec.start()
        result_type = self._request.selection.result_type
        out = [m.number_field(1, result_type), *self._results, self._skipped]
        out.append(m.field(4, end))
        out.append(m.number_field(5, self._more()))
        if self._read_time:
            out.append(m.number_field(7, self._read_time))
            out.append(m.field(8, m.timestamp(self._read_time)))
        return b"".join(out)

    def _more(self) -> int:
        limit = self._request.window.limit
        if limit is not None and len(self._results) >= limit:
            return int(_BATCH.MORE_RESULTS_AFTER_LIMIT)
        if not self.exhausted:
            return int(_BATCH.NOT_FINISHED)
        if self._request.window.end is not None:
            return int(_BATCH.MORE_RESULTS_AFTER_CURSOR)
        return int(_BATCH.NO_MORE_RESULTS)

"""RunAggregationQuery: COUNT, SUM and AVG, computed by SQLite over the query's rows.

The query's offset and limit apply to the results that RunQuery would return, in the same order, but
only entities that have every aggregated property count.

As documented, SUM and AVG skip values that are not numbers (arrays, null, timestamps). With no
values, SUM is 0 and AVG is null. A sum of integers is an integer if it fits in 64 bits.
"""

# ruff: noqa: S608 - built from constants of this package; every value is a parameter
from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from bulkup.local import messages as m
from bulkup.local.catalog import Catalog
from bulkup.local.cursors import Position
from bulkup.local.drivers import Plan
from bulkup.local.encoding import DOUBLE, NUMBER, decode_value
from bulkup.local.filters import KEY
from bulkup.local.intervals import EVERYTHING
from bulkup.local.limits import MAX_AGGREGATIONS, check_property_name
from bulkup.local.packing import json_path
from bulkup.local.plan import Select
from bulkup.local.query import Request
from bulkup.local.query_rows import Rows, bind
from bulkup.local.sql import execute, packed_of
from bulkup.local.status import invalid


class _Total(NamedTuple):
    numbers: int
    integers: int
    doubles: float
    integral: bool
    """Whether all summands were integers."""


_NUMERIC = (NUMBER.hex(), DOUBLE.hex())
_NOTHING = _Total(0, 0, 0.0, True)


class NumberSum:
    """The SQLite aggregate `number_sum` over `[packed values of a slot, 1 for a timestamp]`. Its
    result is a `_Total` as a string."""

    def __init__(self) -> None:
        self.count = 0
        self.integers = 0
        self.doubles = 0.0
        self.integral = True

    def step(self, found: str) -> None:
        encoded, is_timestamp = json.loads(found)
        # Neither an array nor its elements are numbers.
        if not isinstance(encoded, str) or is_timestamp or encoded[:2] not in _NUMERIC:
            return
        value = decode_value(bytes.fromhex(encoded))
        self.count += 1
        if value.WhichOneof("value_type") == "integer_value":
            self.integers += value.integer_value
        else:
            self.doubles += value.double_value
            self.integral = False

    def finalize(self) -> str:
        return f"{self.count} {self.integers} {self.doubles!r} {int(self.integral)}"


def check_aggregation(message: Any, request: Request) -> None:
    """Restricts the query to entities that have every aggregated property. Raises
    INVALID_ARGUMENT for aggregations that the service would refuse."""
    _aliases(message.aggregations)
    properties = _properties(message)
    if properties and request.selection.keys_only:
        raise invalid("A sum or average over a query that only returns keys is not supported.")
    for name in properties:
        if request.selection.projection and name not in request.selection.projection:
            raise invalid(
                f"The aggregation property {name} is not present in the base query's projection."
            )
    if properties and not request.kind:
        raise invalid("kind is required for sums and averages")
    _require(request, properties)


class Aggregated(NamedTuple):
    batch: bytes
    """The serialized AggregationResultBatch."""
    entities: Callable[[], int]
    """Counts the entities that were aggregated."""


def run_aggregation(
    message: Any,
    request: Request,
    catalog: Catalog,
    db: sqlite3.Connection,
    at: int | None,
    read_time: int,
) -> Aggregated:
    """Call `check_aggregation` first."""
    names = _aliases(message.aggregations)
    plan = bind(request, catalog, at)
    base = None if plan is None else _Base(plan, request, catalog, db)
    answer = m.RunAggregationQueryResponse().batch
    result = answer.aggregation_results.add()
    for name, aggregation in zip(names, message.aggregations, strict=True):
        value = result.aggregate_properties[name]
        which = aggregation.WhichOneof("operator")
        if which == "count":
            up_to = aggregation.count.up_to.value if aggregation.count.HasField("up_to") else None
            value.integer_value = 0 if base is None else base.count(up_to)
            continue
        total = _NOTHING if base is None else base.sum(getattr(aggregation, which).property.name)
        if which == "sum":
            if total.integral and -(1 << 63) <= total.integers < 1 << 63:
                value.integer_value = total.integers
            else:
                value.double_value = total.integers + total.doubles
        elif total.numbers:
            value.double_value = (total.integers + total.doubles) / total.numbers
        else:
            value.null_value = 0
    answer.more_results = m.QueryResultBatch.NO_MORE_RESULTS
    if read_time:
        seconds, micros = divmod(read_time, m.MICROS)
        answer.read_time.seconds = seconds
        answer.read_time.nanos = micros * 1000
    return Aggregated(
        bytes(answer.SerializeToString()), lambda: 0 if base is None else base.count(None)
    )


def _aliases(aggregations: Any) -> list[str]:
    """The names of the results. Raises INVALID_ARGUMENT for aggregations that are not valid."""
    if not aggregations:
        raise invalid("An aggregation query must have at least one aggregation.")
    if len(aggregations) > MAX_AGGREGATIONS:
        raise invalid(f"An aggregation query may have at most {MAX_AGGREGATIONS} aggregations.")
    names: list[str] = []
    unnamed = 0
    for aggregation in aggregations:
        which = aggregation.WhichOneof("operator")
        if which is None:
            raise invalid("An aggregation must have an operator: count, sum or avg.")
        if which == "count" and aggregation.count.up_to.value < 0:
            raise invalid("The up_to of a count must not be negative.")
        if which != "count" and not getattr(aggregation, which).property.name:
            raise invalid(f"A {which} must name a property.")
        if which != "count" and getattr(aggregation, which).property.name == KEY:
            raise invalid(f"Aggregations are not supported for the property: {KEY}")
        name = aggregation.alias
        if name:
            check_property_name(name)
        else:
            unnamed += 1
            name = f"property_{unnamed}"
        if name in names:
            raise invalid(f"Two aggregations have the alias {name!r}.")
        names.append(name)
    return names


def _properties(message: Any) -> list[str]:
    """Every aggregated property. Only entities that have all of them count (documented). The
    query's offset and limit apply to these entities only, as on Google's emulator."""
    found = [
        getattr(aggregation, aggregation.WhichOneof("operator")).property.name
        for aggregation in message.aggregations
        if aggregation.WhichOneof("operator") != "count"
    ]
    return list(dict.fromkeys(found))


def _require(request: Request, properties: list[str]) -> None:
    """Restrict the query to entities that have all properties, before its offset and limit."""
    sorted_by = {name for name, _ in request.orders}
    for one in request.alternatives:
        for name in set(properties) - sorted_by - {name for name, _ in one.equal}:
            one.ranges.setdefault(name, EVERYTHING)


class _Base:
    """The rows to aggregate, as SQL."""

    def __init__(
        self,
        plan: Plan,
        request: Request,
        catalog: Catalog,
        db: sqlite3.Connection,
    ) -> None:
        self._plan = plan
        self._catalog = catalog
        self._db = db
        self._request = request

    def _sql(self, more: int | None = None) -> tuple[str, list[object]] | None:
        request = self._request
        limits = [one for one in (request.window.limit, more) if one is not None]
        limit = min(limits) if limits else None
        if request.selection.distinct:
            rows = Rows(request, self._plan, self._db)
            start = request.window.start
            if request.window.offset:
                _, row = rows.skip(start, request.window.offset)
                if row is None:
                    return None
                start = Position(row[:-1])
            found = list(rows.after(start, sys.maxsize if limit is None else limit))
            if not found:
                return None
            listed = ", ".join(f"({row[-1]}, ?{n})" for n, row in enumerate(found, 1))
            sql = f"SELECT column1 AS eid, column2 AS path FROM (VALUES {listed})"
            return sql, [row[-2] for row in found]
        total = None if limit is None else limit + request.window.offset
        statement = Select(self._plan, self._db, request.window.start, request.window.end).sql(
            total
        )
        if statement is None:
            return None
        sql, values = statement
        if request.window.offset:
            sql = f"SELECT * FROM ({sql}) LIMIT -1 OFFSET {request.window.offset}"
        return sql, values

    def count(self, up_to: int | None) -> int:
        statement = self._sql(up_to)
        if statement is None:
            return 0
        sql, values = statement
        counted = f"SELECT count(*) FROM ({sql})"
        return int(execute(self._db, counted, values).fetchone()[0])

    def sum(self, name: str) -> _Total:
        statement = self._sql()
        slot = self._slot(name)
        if statement is None or slot is None:
            return _NOTHING
        sql, values = statement
        packed = self._packed(values)
        values += [json_path(slot), f"$.t{slot}"]
        path, timestamp = f"?{len(values) - 1}", f"?{len(values)}"
        self._db.create_aggregate("number_sum", 1, NumberSum)  # type: ignore[arg-type]
        row = execute(
            self._db,
            f"SELECT number_sum(json_extract({packed}, {path}, {timestamp})) FROM ({sql}) q",
            values,
        ).fetchone()
        if row[0] is None:
            return _NOTHING
        count, integers, doubles, integral = row[0].split(" ")
        return _Total(int(count), int(integers), float(doubles), integral == "1")

    def _slot(self, name: str) -> int | None:
        return self._catalog.slots.get((self._plan.source.kind or 0, name))

    def _packed(self, values: list[object]) -> str:
        at = self._plan.source.at
        if at is None:
            return packed_of("q", None, self._plan.source.kind)
        values.append(at)
        return packed_of("q", f"?{len(values)}", self._plan.source.kind)


__all__ = ["NumberSum", "check_aggregation", "run_aggregation"]

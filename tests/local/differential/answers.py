"""What a server answered, as text that can be compared with another server's.

Each server has its own versions and times, which appear as ranks (see `Ranks`). Cursors differ too:
they never appear, queries are resumed from them. Messages are shown and never compared.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tests.local.differential.build import Place
from tests.local.differential.wire import (
    REQUESTS,
    EntityResult,
    QueryResultBatch,
    Reply,
    Wire,
)

PAGES_AT_MOST = 200
"""Queries of these tests have a handful of pages. More means that a server loops."""


def say_key(key: Any) -> str:
    path = "/".join(
        f"{e.kind}:{e.name!r}" if e.HasField("name") else f"{e.kind}:{e.id if e.id else '?'}"
        for e in key.path
    )
    partition = key.partition_id
    place = f"{partition.database_id}|{partition.namespace_id}".strip("|")
    return f"<{place + ' ' if place else ''}{path}>"


def say_value(value: Any) -> str:
    which = value.WhichOneof("value_type")
    marks = f"~m{value.meaning}" if value.meaning else ""
    marks += "~x" if value.exclude_from_indexes else ""
    return _say_plain(value, which) + marks


def _say_plain(value: Any, which: str | None) -> str:
    match which:
        case None:
            return "nothing"
        case "null_value":
            return "null"
        case "boolean_value":
            return "true" if value.boolean_value else "false"
        case "integer_value":
            return str(value.integer_value)
        case "double_value":
            return say_double(value.double_value)
        case "string_value":
            return repr(value.string_value)
        case "blob_value":
            return repr(bytes(value.blob_value))
        case "timestamp_value":
            return f"t{value.timestamp_value.seconds}.{value.timestamp_value.nanos:09d}"
        case "geo_point_value":
            point = value.geo_point_value
            return f"geo({say_double(point.latitude)},{say_double(point.longitude)})"
        case "key_value":
            return say_key(value.key_value)
        case "array_value":
            return "[" + ", ".join(say_value(v) for v in value.array_value.values) + "]"
        case "entity_value":
            entity = value.entity_value
            key = say_key(entity.key) if entity.HasField("key") else ""
            return key + say_properties(entity.properties)
        case _:
            raise AssertionError(f"a value of an unknown type: {which}")


def say_double(number: float) -> str:
    """The exact double: 1 is not 1.0, 0.0 is not -0.0. All NaNs are equal."""
    if math.isnan(number):
        return "NaN"
    return repr(number) if number else repr(struct.unpack("d", struct.pack("d", number))[0])


def say_properties(properties: Any) -> str:
    return "{" + ", ".join(f"{n}={say_value(properties[n])}" for n in sorted(properties)) + "}"


def say_entity(entity: Any) -> str:
    return say_key(entity.key) + say_properties(entity.properties)


def say_aggregation(response: Any) -> tuple[str, ...]:
    said = [f"{response.batch.more_results}"]
    for result in response.batch.aggregation_results:
        found = result.aggregate_properties
        said += [f"{name}={say_value(found[name])}" for name in sorted(found)]
    return tuple(said)


class Refusal(str):
    """A status, which is compared, with its message, which is only shown."""

    words: str = ""

    @classmethod
    def of(cls, reply: Reply | Scan) -> Refusal:
        refusal = cls(reply.code)
        refusal.words = reply.message
        return refusal


class Ranks:
    """Replaces versions or times by their ranks: 'the third of this story'.

    Each server numbers its writes in its own way. They must agree on which writes share a number
    and which came later.
    """

    def __init__(self) -> None:
        self.seen: set[Any] = set()

    def see(self, mark: Any) -> Any:
        self.seen.add(mark)
        return mark

    def table(self, same: dict[Any, Any] | None = None) -> dict[Any, int]:
        """The rank of each mark; `same` maps marks to others that they count as."""
        alias = same or {}
        known = sorted({alias.get(mark, mark) for mark in self.seen})
        places = {mark: place for place, mark in enumerate(known)}
        return {mark: places[alias.get(mark, mark)] for mark in self.seen}


@dataclass
class Scan:
    """A query, paged to its end on one server."""

    code: str
    message: str = ""
    result_type: str = ""
    rows: list[str] = field(default_factory=list)
    cursors: list[bytes] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)
    skipped: int = 0
    end: str = ""
    end_cursor: bytes = b""

    def answer(self) -> tuple[str, ...]:
        if self.code != "OK":
            return (Refusal.of(self),)
        return (f"OK {self.result_type} skipped={self.skipped} {self.end}", *self.rows)


def scan(
    wire: Wire, place: Place, query: Any, *, property_mask: Iterable[str] | None = None
) -> Scan:
    """Run `query` page by page until the server says that it is finished."""
    request = REQUESTS["RunQuery"](
        project_id=place.project, partition_id=place.partition(), query=query
    )
    if property_mask is not None:
        request.property_mask.paths.extend(property_mask)
    found = Scan("OK")
    for _ in range(PAGES_AT_MOST):
        reply = wire.call("RunQuery", request)
        if reply.code != "OK":
            return Scan(reply.code, reply.message)
        batch = reply.body.batch
        found.result_type = EntityResult.ResultType.Name(batch.entity_result_type)
        for result in batch.entity_results:
            found.rows.append(say_entity(result.entity))
            found.cursors.append(result.cursor)
            found.versions.append(result.version)
        found.skipped += batch.skipped_results
        found.end = QueryResultBatch.MoreResultsType.Name(batch.more_results)
        found.end_cursor = batch.end_cursor
        if batch.more_results != QueryResultBatch.NOT_FINISHED:
            return found
        request.query.start_cursor = batch.end_cursor
        request.query.offset = max(0, request.query.offset - batch.skipped_results)
        if request.query.HasField("limit"):
            request.query.limit.value -= len(batch.entity_results)
    raise AssertionError(f"{wire.name} does not come to an end after {PAGES_AT_MOST} pages")

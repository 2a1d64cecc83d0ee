"""Short notations for keys, values, entities, filters and queries, as protobuf."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tests.local.differential.wire import (
    CompositeFilter,
    Entity,
    Filter,
    Key,
    Mutation,
    PartitionId,
    PropertyFilter,
    Query,
    Value,
)

OPERATORS = {
    "<": PropertyFilter.LESS_THAN,
    "<=": PropertyFilter.LESS_THAN_OR_EQUAL,
    ">": PropertyFilter.GREATER_THAN,
    ">=": PropertyFilter.GREATER_THAN_OR_EQUAL,
    "=": PropertyFilter.EQUAL,
    "!=": PropertyFilter.NOT_EQUAL,
    "in": PropertyFilter.IN,
    "not in": PropertyFilter.NOT_IN,
    "under": PropertyFilter.HAS_ANCESTOR,
}


@dataclass(frozen=True)
class Time:
    """A timestamp as on the wire: seconds since 1970, and nanoseconds."""

    seconds: int
    nanos: int = 0


@dataclass(frozen=True)
class Geo:
    latitude: float
    longitude: float


@dataclass(frozen=True)
class Unindexed:
    """A value with exclude_from_indexes."""

    value: Any


@dataclass(frozen=True)
class Place:
    """The project and namespace of one test's keys and queries, on every server."""

    project: str
    namespace: str = ""

    def partition(self) -> Any:
        return PartitionId(project_id=self.project, namespace_id=self.namespace)

    def key(self, *path: str | int | None) -> Any:
        """key("A", "name", "B", 7): pairs of kind and name or id; with a final None, incomplete."""
        key = Key(partition_id=self.partition())
        for kind, ident in zip(path[::2], path[1::2], strict=True):
            element = key.path.add(kind=kind)
            if isinstance(ident, str):
                element.name = ident
            elif ident is not None:
                element.id = ident
        return key

    def entity(self, path: tuple[str | int | None, ...], properties: dict[str, Any]) -> Any:
        message = Entity(key=self.key(*path))
        for name, plain in properties.items():
            message.properties[name].CopyFrom(value(plain))
        return message


def value(plain: Any) -> Any:
    """A Value from None, bool, int, float, str, bytes, Time, Geo, a Key, a list or a dict.

    A Value is returned unchanged.
    """
    message = Value()
    if isinstance(plain, Value):
        message.CopyFrom(plain)
    elif isinstance(plain, Unindexed):
        message.CopyFrom(value(plain.value))
        message.exclude_from_indexes = True
    elif plain is None:
        message.null_value = 0
    elif isinstance(plain, bool):
        message.boolean_value = plain
    elif isinstance(plain, int):
        message.integer_value = plain
    elif isinstance(plain, float):
        message.double_value = plain
    elif isinstance(plain, str):
        message.string_value = plain
    elif isinstance(plain, bytes):
        message.blob_value = plain
    elif isinstance(plain, Time):
        message.timestamp_value.seconds = plain.seconds
        message.timestamp_value.nanos = plain.nanos
    elif isinstance(plain, Geo):
        message.geo_point_value.latitude = plain.latitude
        message.geo_point_value.longitude = plain.longitude
    elif isinstance(plain, Key):
        message.key_value.CopyFrom(plain)
    elif isinstance(plain, list | tuple):
        message.array_value.SetInParent()
        for element in plain:
            message.array_value.values.append(value(element))
    elif isinstance(plain, dict):
        message.entity_value.SetInParent()
        for name, inner in plain.items():
            message.entity_value.properties[name].CopyFrom(value(inner))
    else:
        raise TypeError(f"no Datastore value for {plain!r}")
    return message


def where(name: str, operator: str, plain: Any) -> Any:
    """The filter `name operator plain`."""
    message = Filter()
    message.property_filter.property.name = name
    message.property_filter.op = OPERATORS[operator]
    message.property_filter.value.CopyFrom(value(plain))
    return message


def all_of(*filters: Any) -> Any:
    return Filter(composite_filter=CompositeFilter(op=CompositeFilter.AND, filters=filters))


def any_of(*filters: Any) -> Any:
    return Filter(composite_filter=CompositeFilter(op=CompositeFilter.OR, filters=filters))


def query(
    kind: str | None = None,
    *,
    filter: Any = None,
    order: tuple[str, ...] = (),
    projection: tuple[str, ...] = (),
    distinct: tuple[str, ...] = (),
    offset: int = 0,
    limit: int | None = None,
) -> Any:
    """A Query; an order that begins with "-" is descending."""
    message = Query(offset=offset)
    if kind is not None:
        message.kind.add(name=kind)
    if filter is not None:
        message.filter.CopyFrom(filter)
    for name in order:
        message.order.add(
            direction=2 if name.startswith("-") else 1
        ).property.name = name.removeprefix("-")
    for name in projection:
        message.projection.add().property.name = name
    for name in distinct:
        message.distinct_on.add(name=name)
    if limit is not None:
        message.limit.value = limit
    return message


def upsert(entity: Any) -> Any:
    return Mutation(upsert=entity)


def update(entity: Any) -> Any:
    return Mutation(update=entity)


def insert(entity: Any) -> Any:
    return Mutation(insert=entity)


def delete(key: Any) -> Any:
    return Mutation(delete=key)

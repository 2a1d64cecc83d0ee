"""Decides whether a selection chooses an entity that was read, as a query on the server would."""

from __future__ import annotations

from bulkup.core.selection import Selection
from bulkup.datastore.gql.filters import Place, write_filter
from bulkup.datastore.messages import AND, EntityPb, Pb, QueryPb
from bulkup.engine.selecting import conditions_of
from bulkup.local.encoding import encode_path, encode_value
from bulkup.local.filters import Alternative, alternatives, key_path
from bulkup.local.intervals import Intervals
from bulkup.local.status import RpcError


class Selected:
    """Decides for entities of the kind that the selection is about."""

    def __init__(self, selection: Selection) -> None:
        """Conditions that the embedded Datastore does not support choose every entity here. Raises
        UsageError."""
        pb = QueryPb().filter
        pb.composite_filter.op = AND
        for condition in conditions_of(selection):
            write_filter(pb.composite_filter.filters.add(), condition, Place("p"))
        try:
            self._any_of = alternatives(pb if pb.composite_filter.filters else None, key_path)
        except RpcError:
            self._any_of = [Alternative()]

    def has(self, page_entity: Pb) -> bool:
        """Whether the selection chooses this entity of a PageResult."""
        entity = EntityPb.FromString(page_entity.SerializeToString())
        path = encode_path(entity.key.path)
        return any(_meets(one, entity, path) for one in self._any_of)


def _meets(one: Alternative, entity: Pb, path: bytes) -> bool:
    return (
        _is_inside(path, one.paths)
        and all(value in _values(entity, name) for name, value in one.equal)
        and all(
            any(_is_inside(value, intervals) for value in _values(entity, name))
            for name, intervals in one.ranges.items()
        )
    )


def _is_inside(value: bytes, intervals: Intervals) -> bool:
    return any(low <= value < high for low, high in intervals)


def _values(entity: Pb, name: str) -> list[bytes]:
    """The indexed values of a property: what is excluded from indexes meets no condition. A name
    with dots means a property of an embedded entity, or a property whose own name has dots."""
    if name not in entity.properties:
        first, dot, rest = name.partition(".")
        if dot and first in entity.properties:
            return _values(entity.properties[first].entity_value, rest)
        return []
    value = entity.properties[name]
    elements = value.array_value.values if value.HasField("array_value") else [value]
    indexed = (one for one in elements if not one.exclude_from_indexes)
    return [encoded for one in indexed if (encoded := encode_value(one)) is not None]

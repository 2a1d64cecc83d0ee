"""bulkup's own queries: for one kind, with property filters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from google.cloud.datastore import Key

from bulkup.datastore.keys import key_to_pb
from bulkup.datastore.messages import AND, Operator, Pb, QueryPb
from bulkup.datastore.value_codec import encode


class Filter(NamedTuple):
    """A condition on one property."""

    name: str
    operator: str
    """As the API names it: EQUAL, GREATER_THAN, ..."""
    value: Any
    """What an entity's property may hold; for `__key__` a Key or a Key message."""


def kind_query(
    kind: str, filters: Iterable[Filter] = (), *, keys_only: bool = False, limit: int | None = None
) -> Pb:
    """A Query message for the entities of a kind that match all filters."""
    query = QueryPb()
    query.kind.add(name=kind)
    for filter_ in filters:
        composite = query.filter.composite_filter
        composite.op = AND
        part = composite.filters.add().property_filter
        part.property.name = filter_.name
        part.op = Operator[filter_.operator]
        if filter_.name == "__key__":
            key = filter_.value
            part.value.key_value.CopyFrom(key_to_pb(key) if isinstance(key, Key) else key)
        else:
            encode(part.value, filter_.value)
    if keys_only:
        query.projection.add().property.name = "__key__"
    if limit is not None:
        query.limit.value = limit
    return query

"""Checks that a query, and every key in its filters, belongs to the run's own target.

A query names a project, a database and a namespace, and so does each key. A run sends its queries
and its writes to one target: what belongs to another one would not be found or, worse, would be
taken for the target's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from google.cloud.datastore import Client, Query

from bulkup.core.errors import QueryError
from bulkup.datastore.google_private import database_of
from bulkup.datastore.keys import key_text
from bulkup.datastore.messages import Pb


class _Place(NamedTuple):
    project: str
    database: str
    namespace: str


_OPTIONS = _Place("--project", "--database", "--namespace")


def check_target(query: Query, message: Pb, client: Client) -> None:
    """Raises QueryError unless the query belongs to the client's target. `message`: the query as it
    is sent."""
    run = _Place(client.project, client.database or "", client.namespace or "")
    place = _Place(query.project, database_of(query), query.namespace or "")
    for part, theirs, ours, option in zip(_Place._fields, place, run, _OPTIONS, strict=True):
        if theirs != ours:
            raise QueryError(
                f"the query is for {part} {_named(theirs)}, the run for {_named(ours)}: build it "
                f"with self.client.query(...), or run with {option}"
            )
    for name, key in _keys_in(message.filter):
        at = key.partition_id
        place = _Place(at.project_id, at.database_id, at.namespace_id)
        for part, theirs, ours in zip(_Place._fields, place, run, strict=True):
            if theirs != ours:
                what = "__key__" if name == "__key__" else f"the property {name!r}"
                raise QueryError(
                    f"a filter of the query compares {what} with {key_text(key)} of {part} "
                    f"{_named(theirs)}, but the run is for {_named(ours)}: build the key with "
                    f"self.client.key(...), or run with {_OPTIONS[_Place._fields.index(part)]}"
                )


def _named(name: str) -> str:
    return repr(name) if name else "(default)"


def _keys_in(part: Pb) -> Iterator[tuple[str, Pb]]:
    """The property and the key of every comparison with a key, however deeply it is nested."""
    kind = part.WhichOneof("filter_type")
    if kind == "composite_filter":
        for inner in part.composite_filter.filters:
            yield from _keys_in(inner)
    elif kind == "property_filter":
        for key in _keys_of(part.property_filter.value):
            yield part.property_filter.property.name, key


def _keys_of(value: Pb) -> Iterator[Any]:
    kind = value.WhichOneof("value_type")
    if kind == "key_value":
        yield value.key_value
    elif kind == "array_value":
        for inner in value.array_value.values:
            yield from _keys_of(inner)
    elif kind == "entity_value":
        for inner in value.entity_value.properties.values():
            yield from _keys_of(inner)

"""Converts a query of ndb to one of the official client, which the engine reads in pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from google.cloud.ndb import query as ndb_query

from bulkup.core.errors import QueryError

if TYPE_CHECKING:
    from google.cloud.datastore import Client, Query

_OPERATORS = {"in": "IN", "not_in": "NOT_IN"}


def datastore_query(query: Any, client: Client) -> Query:
    """Convert a query of ndb. Raises QueryError for a limit or an offset, for a keys-only query,
    and for a filter that Datastore does not evaluate by itself."""
    from google.cloud.datastore import Query

    for option in ("limit", "offset"):
        if getattr(query, option):
            raise QueryError(
                f"the query of get_query has a {option}, and a run handles all entities: drop it, "
                "or stop the run with --limit N"
            )
    if query.keys_only:
        raise QueryError(
            "a query of keys alone has no properties to make a model of: drop keys_only from "
            "get_query"
        )
    made = Query(
        client,
        kind=query.kind,
        project=query.project or client.project,
        namespace=client.namespace if query.namespace is None else query.namespace or None,
        ancestor=query.ancestor and query.ancestor._key,
        projection=query.projection or (),
        distinct_on=query.distinct_on or (),
        order=[f"-{order.name}" if order.reverse else order.name for order in query.order_by or ()],
    )
    if query.filters:
        made.add_filter(filter=_filter(query.filters))
    return made


def _filter(node: Any) -> Any:
    from google.cloud.datastore.query import And, Or, PropertyFilter

    if isinstance(node, ndb_query.FilterNode):
        return PropertyFilter(
            node._name, _OPERATORS.get(node._opsymbol, node._opsymbol), node._value
        )
    if isinstance(node, ndb_query.ConjunctionNode):
        return And([_filter(inner) for inner in node])
    if isinstance(node, ndb_query.DisjunctionNode):
        return Or([_filter(inner) for inner in node])
    raise QueryError(
        f"the query of get_query has the filter {node!r:.200}, which Datastore does not evaluate "
        "by itself: leave it out, and look at the property in the handler"
    )

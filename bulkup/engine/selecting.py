"""Narrows an updater's query to what the user has selected.

The result is a query like any other: whatever is true of a query in an updater (shards, order, what
is refused) is true of it, too.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.cloud.datastore import Client

from bulkup.core.errors import QueryError, UsageError
from bulkup.core.model import TargetInfo
from bulkup.core.selection import Selection
from bulkup.datastore.gql.conditions import (
    KEY_PROPERTY,
    Comparison,
    Condition,
    comparisons,
    conjuncts,
    joined,
)
from bulkup.datastore.gql.filters import Place, condition_of, write_filter
from bulkup.datastore.gql.parsing import parse_condition, parse_key
from bulkup.datastore.gql.text import condition_text, key_text, query_text
from bulkup.datastore.keys import key_text as shown_key
from bulkup.datastore.messages import AND, Operator, Pb


def selection_of(
    kind: str | None = None, ancestor: str | None = None, where: Sequence[str] = ()
) -> Selection:
    """What the user has typed, checked and brought into one form. All of `where` must hold.

    Raises UsageError.
    """
    if kind == "":
        raise UsageError("--kind is empty; name a kind, or leave it out")
    conditions = tuple(parse_condition(one) for one in where)
    return Selection(
        kind or "",
        "" if ancestor is None else key_text(parse_key(ancestor)),
        condition_text(joined("AND", conditions)) if conditions else "",
    )


def narrow(pb: Pb, selection: Selection, client: Client) -> None:
    """Narrow a Query message in place. Raises QueryError, UsageError."""
    if selection.kind:
        _narrow_kind(pb, selection.kind)
    parts = conditions_of(selection)
    for one in (found for part in parts for found in comparisons(part)):
        if not pb.kind and one.name != KEY_PROPERTY:
            raise QueryError(
                f"--where compares {one.name}, which needs --kind: of all kinds, only the keys can "
                "be compared"
            )
    place = Place(client.project, client.database or "", client.namespace or "")
    for part in parts:
        composite = pb.filter.composite_filter
        composite.op = AND
        added = composite.filters.add()
        write_filter(added, part, place)
        _merge_ancestors(composite)


def conditions_of(selection: Selection) -> list[Condition]:
    """The conditions that must all hold. Raises UsageError."""
    parts: list[Condition] = []
    if selection.ancestor:
        parts.append(Comparison(KEY_PROPERTY, "HAS ANCESTOR", parse_key(selection.ancestor)))
    if selection.where:
        parts += conjuncts(parse_condition(selection.where))
    return parts


def _narrow_kind(pb: Pb, kind: str) -> None:
    own = [one.name for one in pb.kind]
    if not own:
        pb.kind.add(name=kind)
    elif own != [kind]:
        raise QueryError(
            f"the updater's query is for kind {own[0]!r}, so --kind {kind!r} selects nothing of "
            "it; leave --kind out"
        )


def _merge_ancestors(composite: Pb) -> None:
    """Of two ancestors, keep the one that is below the other: a query has only one."""
    places = [i for i, part in enumerate(composite.filters) if _is_ancestor(part)]
    if len(places) < 2:
        return
    keys = [composite.filters[i].property_filter.value.key_value for i in places]
    upper, lower = sorted(range(2), key=lambda i: len(keys[i].path))
    path = keys[upper].path
    if list(keys[lower].path[: len(path)]) != list(path):
        raise QueryError(
            f"nothing is below both {shown_key(keys[0])} and {shown_key(keys[1])}, the ancestors "
            "of the query and of the selection"
        )
    del composite.filters[places[upper]]


def _is_ancestor(part: Pb) -> bool:
    if part.WhichOneof("filter_type") != "property_filter":
        return False
    return bool(part.property_filter.op == Operator.HAS_ANCESTOR)


def shown_query(pb: Pb, target: TargetInfo) -> str:
    """A query in GQL. For people: what GQL cannot say is in angle brackets."""
    place = Place(target.project, target.database, target.namespace)
    return query_text(pb, condition_of(pb.filter, place))

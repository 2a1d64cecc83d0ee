"""Narrowing a query to a selection."""

from __future__ import annotations

from typing import Any

import pytest
from google.cloud.datastore import Client
from google.cloud.datastore.query import Or, PropertyFilter

from bulkup.core.errors import QueryError, UsageError
from bulkup.core.model import TargetInfo
from bulkup.core.selection import Selection
from bulkup.engine.scan import QueryPlan, plan_query
from bulkup.engine.selecting import selection_of, shown_query
from bulkup.engine.splits import why_not_split
from tests.conftest import Server

HERE = TargetInfo("p", namespace="n")


@pytest.fixture
def client(embedded: Server) -> Client:
    """Of a query, its messages matter, and no server."""
    found = embedded.client(namespace="n")
    found.project = "p"
    return found


def narrowed(client: Client, query: Any, *args: Any) -> QueryPlan:
    return plan_query(query, client, selection_of(*args))


def text(client: Client, query: Any, *args: Any) -> str:
    return shown_query(narrowed(client, query, *args).pb, HERE)


def test_the_updaters_query_and_the_selection_must_both_hold(client: Client) -> None:
    query = client.query(kind="Item", order=["-b"])
    query.add_filter(filter=Or([PropertyFilter("a", "=", 1), PropertyFilter("a", "=", 2)]))
    shown = text(client, query, "Item", "KEY(P, 1)", ["b<5 or c = 'x'", "`d e` = NULL"])
    assert shown == (
        "SELECT * FROM Item WHERE (a = 1 OR a = 2) AND __key__ HAS ANCESTOR KEY(P, 1) "
        "AND (b < 5 OR c = 'x') AND `d e` = NULL ORDER BY b DESC"
    )


def test_what_a_condition_does_to_order_is_known(client: Client) -> None:
    query = client.query(kind="Item")
    for where, ranged in (
        ("a = 1 AND b IN (1, 2) AND c CONTAINS 3", set()),
        ("__key__ > KEY(Item, 5)", set()),
        ("a > 1", {"a"}),
        ("a != 1 OR (b = 1 AND c NOT IN (1))", {"a", "c"}),
    ):
        plan = narrowed(client, query, None, None, [where])
        assert plan.ranged == ranged, where
        assert (why_not_split(plan) is None) == (not ranged), where
        assert plan.has_filters == (where != "__key__ > KEY(Item, 5)")
    assert not narrowed(client, query, None, "KEY(P, 1)").has_filters


def test_of_two_ancestors_the_lower_one_counts(client: Client) -> None:
    upper, lower = "KEY(P, 1)", "KEY(P, 1, Q, 'x')"
    query = client.query(kind="Item", ancestor=client.key("P", 1))
    for key in (upper, lower):
        assert text(client, query, None, key).endswith(f"__key__ HAS ANCESTOR {key}")
    query = client.query(kind="Item", ancestor=client.key("P", 1, "Q", "x"))
    for where in ([], [f"__key__ HAS ANCESTOR {lower}"]):
        shown = text(client, query, None, upper, where)
        assert shown == f"SELECT * FROM Item WHERE __key__ HAS ANCESTOR {lower}"
    with pytest.raises(QueryError, match="nothing is below both"):
        text(client, query, None, "KEY(P, 2)")


def test_a_key_is_of_the_runs_place(client: Client) -> None:
    query = client.query(kind="Item")
    assert "a = KEY(P, 1)" in text(client, query, None, None, ["a = KEY(NAMESPACE('n'), P, 1)"])
    for key in (
        "KEY(NAMESPACE(''), P, 1)",
        "KEY(PROJECT('q'), P, 1)",
        "Key('P', 1, namespace='x')",
    ):
        with pytest.raises(QueryError, match="but the run is for"):
            narrowed(client, query, None, key)


def test_a_kind_is_chosen_once(client: Client) -> None:
    assert text(client, client.query(), "A b") == "SELECT * FROM `A b`"
    assert text(client, client.query(kind="A"), "A") == "SELECT * FROM A"
    with pytest.raises(QueryError, match="is for kind 'A', so --kind 'B' selects nothing of it"):
        narrowed(client, client.query(kind="A"), "B")


def test_a_property_is_of_one_kind(client: Client) -> None:
    keys = "__key__ > KEY(A, 1) AND __key__ < KEY(B, 1)"
    assert text(client, client.query(), None, None, [keys]) == f"SELECT * WHERE {keys}"
    assert text(client, client.query(), "A", None, ["a = 1"]).endswith("FROM A WHERE a = 1")
    with pytest.raises(QueryError, match="--where compares a, which needs --kind"):
        text(client, client.query(), None, None, [f"{keys} OR a = 1"])


def test_a_selection_is_written_in_one_way() -> None:
    one = selection_of("A", "Key('P', 1)", ["b<5", "(c in ('x'))"])
    assert one == Selection("A", "KEY(P, 1)", "b < 5 AND c IN ARRAY('x')")
    assert selection_of("A", "key(`P`,1)", ['b < 5 and c IN ARRAY("x")']) == one
    assert Selection.of(one.stored()) == one
    assert selection_of() == Selection()
    for stored in ({"kind": 5}, {"size": "x"}):
        with pytest.raises(TypeError):
            Selection.of(stored)
    with pytest.raises(UsageError, match="--kind is empty"):
        selection_of("")

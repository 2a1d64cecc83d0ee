"""Query Explain, as the API documents it, asked by the official client. The emulators ignore it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from google.cloud import datastore
from google.cloud.datastore.query import PropertyFilter
from google.cloud.datastore.query_profile import ExplainOptions, QueryExplainError

from bulkup.local import messages as m
from tests.conftest import Server
from tests.local.rpc import Rpc

PLAN, ANALYZE = ExplainOptions(analyze=False), ExplainOptions(analyze=True)


@pytest.fixture
def client(embedded: Server) -> datastore.Client:
    client = embedded.client()
    entities = []
    for i in range(1, 8):
        entity = datastore.Entity(client.key("Book", "b", "Hero", i))
        entity.update(seen=i, house="x" if i % 2 else "y", alive=True)
        entities.append(entity)
    client.put_multi(entities)
    return client


def used(query: Any) -> list[tuple[str, str]]:
    """The scope and the properties of each index."""
    indexes = query.fetch().explain_metrics.plan_summary.indexes_used
    assert all(index.keys() == {"query_scope", "properties"} for index in indexes)
    return [(index["query_scope"], index["properties"]) for index in indexes]


def test_a_plan_has_indexes_and_neither_results_nor_statistics(client: datastore.Client) -> None:
    found = client.query(kind="Hero", explain_options=PLAN).fetch()
    metrics = found.explain_metrics
    assert metrics.plan_summary.indexes_used == [
        {"query_scope": "Collection group", "properties": "(__name__ ASC)"}
    ]
    with pytest.raises(QueryExplainError, match="execution_stats not available"):
        _ = metrics.execution_stats
    assert list(found) == []


def test_an_analysis_has_all_results_and_their_statistics(client: datastore.Client) -> None:
    found = client.query(kind="Hero", order=["-seen"], explain_options=ANALYZE).fetch()
    with pytest.raises(QueryExplainError, match="not available until query is complete"):
        _ = found.explain_metrics
    assert [entity["seen"] for entity in found] == [7, 6, 5, 4, 3, 2, 1]
    metrics = found.explain_metrics
    assert metrics.plan_summary.indexes_used[0]["properties"] == "(seen DESC, __name__ DESC)"
    stats = metrics.execution_stats
    assert (stats.results_returned, stats.read_operations) == (7, 7)
    assert timedelta() < stats.execution_duration < timedelta(seconds=30)
    assert stats.debug_stats == {
        "index_entries_scanned": "7",
        "documents_scanned": "7",
        "billing_details": {
            "documents_billable": "7",
            "index_entries_billable": "0",
            "min_query_cost": "0",
        },
    }


@pytest.mark.parametrize(
    ("projection", "limit", "results", "reads", "documents"),
    [((), 3, 3, 3, "3"), (("__key__",), None, 7, 1, "0"), (("seen",), None, 7, 1, "0")],
)
def test_what_is_billed_follows_what_is_returned(
    client: datastore.Client,
    projection: tuple[str, ...],
    limit: int | None,
    results: int,
    reads: int,
    documents: str,
) -> None:
    query = client.query(kind="Hero", projection=projection, explain_options=ANALYZE)
    found = query.fetch(limit=limit)
    assert len(list(found)) == results
    stats = found.explain_metrics.execution_stats
    assert (stats.results_returned, stats.read_operations) == (results, reads)
    assert stats.debug_stats["documents_scanned"] == documents


def test_a_query_that_finds_nothing_costs_one_read(client: datastore.Client) -> None:
    query = client.query(kind="Nobody", explain_options=ANALYZE)
    found = query.fetch()
    assert list(found) == []
    stats = found.explain_metrics.execution_stats
    assert (stats.results_returned, stats.read_operations) == (0, 1)
    assert stats.debug_stats["billing_details"]["min_query_cost"] == "1"


def test_the_indexes_are_those_that_the_service_documents(client: datastore.Client) -> None:
    below = client.key("Book", "b")
    everywhere, under = "Collection group", "Includes ancestors"

    def query(*filters: tuple[str, str, Any], **options: Any) -> Any:
        made = client.query(kind="Hero", explain_options=PLAN, **options)
        for one in filters:
            made.add_filter(filter=PropertyFilter(*one))
        return made

    is_alive, in_house = ("alive", "=", True), ("house", "=", "x")
    assert used(query(ancestor=below)) == [(everywhere, "(__name__ ASC)")]
    assert used(query(is_alive)) == [(everywhere, "(alive ASC, __name__ ASC)")]
    # Equalities alone are answered by merging their indexes.
    assert used(query(is_alive, in_house)) == [
        (everywhere, "(alive ASC, __name__ ASC)"),
        (everywhere, "(house ASC, __name__ ASC)"),
    ]
    # With an order or an inequality there must be a composite index.
    assert used(query(is_alive, order=["-seen"])) == [
        (everywhere, "(alive ASC, seen DESC, __name__ DESC)")
    ]
    assert used(query(is_alive, ("seen", ">", 2), ancestor=below)) == [
        (under, "(alive ASC, seen ASC, __name__ ASC)")
    ]
    assert used(query(("seen", ">", 2), order=["seen", "house"])) == [
        (everywhere, "(seen ASC, house ASC, __name__ ASC)")
    ]
    assert used(query(order=["-__key__"])) == [(everywhere, "(__name__ DESC)")]
    assert used(query(in_house, projection=["seen"])) == [
        (everywhere, "(house ASC, seen ASC, __name__ ASC)")
    ]
    # Each value of IN is a query of its own, in the same index.
    assert used(query(("house", "IN", ["x", "y"]))) == [(everywhere, "(house ASC, __name__ ASC)")]
    assert used(client.query(explain_options=PLAN)) == [(everywhere, "(__name__ ASC)")]


def test_aggregations_are_explained(client: datastore.Client) -> None:
    nested = client.query(kind="Hero", ancestor=client.key("Book", "b"))

    def asked(options: ExplainOptions) -> Any:
        query = client.aggregation_query(nested, explain_options=options)
        query.count().sum("seen").avg("seen")
        return query.fetch()

    planned = asked(PLAN)
    assert planned.explain_metrics.plan_summary.indexes_used == [
        {"query_scope": "Includes ancestors", "properties": "(seen ASC, __name__ ASC)"}
    ]
    assert list(planned) == []
    found = asked(ANALYZE)
    (row,) = found
    assert sorted(one.value for one in row) == [4.0, 7, 28]
    stats = found.explain_metrics.execution_stats
    assert (stats.results_returned, stats.read_operations) == (1, 1)
    assert stats.debug_stats["index_entries_scanned"] == "7"
    counted = client.aggregation_query(nested, explain_options=PLAN).count().fetch()
    assert counted.explain_metrics.plan_summary.indexes_used == [
        {"query_scope": "Collection group", "properties": "(__name__ ASC)"}
    ]


def test_it_works_in_a_transaction(client: datastore.Client) -> None:
    with client.transaction():
        planned = client.query(kind="Hero", explain_options=PLAN).fetch()
        assert planned.explain_metrics.plan_summary.indexes_used
        found = client.query(kind="Hero", explain_options=ANALYZE).fetch()
        assert len(list(found)) == 7
        assert found.explain_metrics.execution_stats.results_returned == 7


def test_a_query_that_is_not_valid_is_still_refused(client: datastore.Client) -> None:
    from google.api_core.exceptions import InvalidArgument

    query = client.query(kind="Hero", order=["seen", "seen"], explain_options=PLAN)
    with pytest.raises(InvalidArgument, match="duplicate"):
        _ = query.fetch().explain_metrics


def test_the_answer_has_no_batch_without_analysis_and_no_metrics_unless_asked(
    embedded: Server, client: datastore.Client
) -> None:
    rpc = Rpc(embedded.host, embedded.project)

    def run(**fields: Any) -> Any:
        request = m.RunQueryRequest(**fields)
        request.partition_id.project_id = embedded.project
        request.query.kind.add(name="Hero")
        return rpc.call("RunQuery", request)

    try:
        plan = run(explain_options={"analyze": False})
        assert not plan.HasField("batch")
        assert plan.HasField("explain_metrics")
        assert not plan.explain_metrics.HasField("execution_stats")
        page = run(explain_options={"analyze": True})
        assert len(page.batch.entity_results) == 7
        assert page.explain_metrics.execution_stats.results_returned == 7
        assert not run().HasField("explain_metrics")
    finally:
        rpc.close()

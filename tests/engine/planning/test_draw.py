"""How many entities match, where the server does not say, and which of them are drawn."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from bulkup.core.plan import Drawn, Total
from bulkup.datastore.call_error import CallError
from bulkup.datastore.messages import EntityResultPb, QueryPb
from bulkup.engine.planning.draw import count, draw
from bulkup.engine.scan import QueryPlan
from tests.conftest import Server
from tests.engine.conftest import fill
from tests.runs.planning import prepared_for
from tests.runs.test_plan import Mixed


def check() -> None:
    """Nobody asks for the end."""


@pytest.fixture(autouse=True)
def _here(embedded: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", embedded.host)


def test_each_entity_is_drawn_as_often_as_any_other(embedded: Server) -> None:
    fill(embedded, "Thing", 40)
    drawn: Counter[int] = Counter()
    with prepared_for(embedded, type("Mixed", (Mixed,), {"actions": []})) as prepared:
        for seed in range(300):
            sample = draw(prepared.rpc, prepared.query, 10, 40, Random(seed), check)
            ids = [key.path[-1].id for key in sample.keys]
            assert len(set(ids)) == 10
            assert ids == sorted(ids)
            drawn.update(ids)
    assert sample.drawn is Drawn.KEYS
    assert set(drawn) == set(range(1, 41))
    expected = 300 * 10 / 40
    assert all(abs(times - expected) < 5 * expected**0.5 for times in drawn.values()), drawn


def test_without_a_count_the_statistics_of_the_service_are_used() -> None:
    """No emulator keeps statistics, and none is too large to be counted."""
    query = QueryPlan(QueryPb(), "eu", False, False, frozenset())
    query.pb.kind.add(name="Thing")
    asked: list[Any] = []

    def lookup(keys: list[Any]) -> dict[bytes, Any]:
        asked.extend(keys)
        result = EntityResultPb()
        result.entity.properties["count"].integer_value = 5_000_000
        return {b"": result}

    def run_query(pb: Any, namespace: str) -> Any:
        assert (pb.order[0].property.name, namespace) == ("__scatter__", "eu")
        results = []
        for i in range(pb.limit.value):
            result = EntityResultPb()
            result.entity.key.path.add(kind="Thing", id=1000 - i)
            results.append(result)
        batch = SimpleNamespace(entity_results=results, more_results=0, end_cursor=b"")
        return SimpleNamespace(result=lambda: SimpleNamespace(batch=batch))

    rpc: Any = SimpleNamespace(project="p", database="", lookup=lookup, run_query=run_query)
    sample = draw(rpc, query, 30, None, Random(0), check)
    assert (sample.drawn, sample.total, sample.total_is) == (
        Drawn.SCATTER,
        5_000_000,
        Total.ESTIMATED,
    )
    assert [key.path[-1].id for key in sample.keys] == list(range(971, 1001))
    (key,) = asked
    assert (key.path[0].kind, key.path[0].name) == ("__Stat_Ns_Kind__", "Thing")
    assert key.partition_id.namespace_id == "eu"


def test_a_count_that_takes_too_long_is_not_asked_for_again() -> None:
    query = QueryPlan(QueryPb(), "", False, False, frozenset())
    query.pb.kind.add(name="Thing")

    def fails() -> Any:
        raise CallError("RunAggregationQuery", grpc.StatusCode.DEADLINE_EXCEEDED, "too long")

    call = SimpleNamespace(done=lambda: True, first_answer=fails)
    rpc: Any = SimpleNamespace(count=lambda *_: call, arrived=threading.Event())
    assert count(rpc, query, check) is None

"""Generated entities and random handlers: an undo leaves everything as it was, to the bit."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.cloud.datastore import Entity
from google.cloud.datastore_v1.types import datastore as types
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.conftest import Server
from tests.datastore.test_lazy_entity import entity_pbs
from tests.engine.conftest import fill
from tests.engine.test_neighbours_at_random import COUNTERS, THINGS, Random
from tests.engine.updaters import Stamp
from tests.runs.undoing import Bench, entities

pytestmark = pytest.mark.sampled(9)


class Rewritten(Stamp):
    """Deletes some, and leaves nothing of the others as it was."""

    max_failures = -1

    def get_query(self) -> Any:
        return self.client.query()

    def handle_entity(self, entity: Entity) -> None:
        if entity.key.flat_path[-1] == 1:
            self.delete(entity)
            return
        for name in list(entity):
            del entity[name]
        entity["new"] = "value"
        self.put(entity)


def store(server: Server, pbs: list[Any]) -> bool:
    """Commit the messages as they are. False: the server does not take them."""
    request = types.CommitRequest.pb()(project_id=server.project)
    request.mode = types.CommitRequest.pb().NON_TRANSACTIONAL
    for number, pb in enumerate(pbs, 1):
        message = request.mutations.add().upsert
        message.CopyFrom(pb)
        message.key.Clear()
        message.key.partition_id.project_id = server.project
        message.key.path.add(kind="Any", id=number)
    with grpc.insecure_channel(server.host) as channel:
        commit = channel.unary_unary(
            "/google.datastore.v1.Datastore/Commit",
            request_serializer=types.CommitRequest.pb().SerializeToString,
            response_deserializer=types.CommitResponse.pb().FromString,
        )
        try:
            commit(request, timeout=60)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                raise
            return False
    return True


@pytest.mark.client_side
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.filter_too_much])
@given(pbs=st.lists(entity_pbs(), min_size=1, max_size=8))
def test_generated_entities_of_every_type_are_what_they_were(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pbs: list[Any]
) -> None:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", server.host)
    own = replace(server, project=f"t-{uuid.uuid4().hex[:12]}")
    pbs = [pb for pb in pbs if store(replace(own, project=f"{own.project}-probe"), [pb])]
    assume(pbs)
    assert store(own, pbs)
    bench = Bench(own, tmp_path / own.project)
    before = entities(own)
    report = bench.run(Rewritten)
    assert report.counts.writes == len(pbs)
    assert bench.undo(report).counts.failed == 0
    assert entities(own) == before


@pytest.mark.parametrize(
    "seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.chaos) for seed in range(3, 30))]
)
def test_what_random_handlers_did_is_undone(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", server.host)
    fill(server, "Thing", THINGS, n=0)
    fill(server, "Counter", COUNTERS, n=0)
    bench = Bench(server, tmp_path / "state")
    before = entities(server)
    report = bench.run(type("Random", (Random,), {"seed": seed}), batch_size=3)
    undone = bench.undo(report)
    assert [failure.error for failure in undone.failures] == []
    assert entities(server) == before

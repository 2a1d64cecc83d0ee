"""Tests the proxy itself: each fault does what its name says, with a real server."""

from __future__ import annotations

import grpc
import pytest
from google.api_core.exceptions import AlreadyExists, ServiceUnavailable

from tests.chaos.bench import World
from tests.chaos.conftest import MakeWorld
from tests.chaos.proxy import Action, Cut, Late, Lose, Pass, Refuse, Seen, Twice
from tests.conftest import Server


@pytest.fixture
def world(lf: Server, make_world: MakeWorld) -> World:
    return make_world(lf, 1)


def _once(action: Action) -> object:
    return lambda seen: action if seen.method == "Commit" and seen.nth == 1 else Pass()


def _put_through_proxy(world: World) -> None:
    """Put Thing 1 with n = 5 as a user's client does."""
    from google.cloud import datastore

    through = Server("proxy", world.proxy.address, world.server.project).client()
    try:
        thing = datastore.Entity(through.key("Thing", 1))
        thing.update({"n": 5, "m": 0, "amount": 0})
        through.put(thing)
    finally:
        through.close()


@pytest.mark.parametrize(
    ("action", "applied"),
    [
        (Refuse(grpc.StatusCode.UNAVAILABLE), False),
        (Lose(grpc.StatusCode.UNAVAILABLE), True),
        (Late(grpc.StatusCode.UNAVAILABLE, None), False),
        (Cut(forward=False), False),
        (Cut(forward=True), True),
    ],
    ids=lambda value: str(value),
)
def test_an_error_answer_with_and_without_a_call_to_the_server(
    world: World, action: Action, applied: bool
) -> None:
    world.proxy.faults = _once(action)  # type: ignore[assignment]
    with pytest.raises(ServiceUnavailable):
        _put_through_proxy(world)
    assert world.things()[1]["n"] == (5 if applied else 0)
    world.proxy.release()
    assert world.things()[1]["n"] == (5 if applied or isinstance(action, Late) else 0)


def test_a_late_call_is_delivered_before_the_call_it_waits_for(world: World) -> None:
    world.proxy.faults = _once(Late(grpc.StatusCode.DEADLINE_EXCEEDED, after=1))  # type: ignore[assignment]
    from google.api_core.exceptions import DeadlineExceeded

    with pytest.raises(DeadlineExceeded):
        _put_through_proxy(world)
    assert world.proxy.held == 1
    assert world.things()[1]["n"] == 0
    through = Server("proxy", world.proxy.address, world.server.project).client()
    assert through.get(through.key("Thing", 1))["n"] == 5
    through.close()
    assert world.proxy.held == 0
    assert world.proxy.done["Late OK"] == 1


def test_a_call_delivered_twice_gets_the_chosen_answer(world: World) -> None:
    from google.cloud.datastore_v1.types import datastore as types

    through = Server("proxy", world.proxy.address, world.server.project).client()
    for nth, give_second in ((1, False), (2, True)):
        world.proxy.faults = lambda seen, g=give_second: Twice(g)  # type: ignore[misc]
        mutation = types.Mutation(insert={"key": through.key("Twice", nth).to_protobuf()})
        request = types.CommitRequest(
            project_id=through.project,
            mode=types.CommitRequest.Mode.NON_TRANSACTIONAL,
            mutations=[mutation],
        )
        if give_second:
            with pytest.raises(AlreadyExists):
                through._datastore_api.commit(request=request)
        else:
            through._datastore_api.commit(request=request)
        assert world.proxy.seen["Commit"] == nth
    through.close()
    assert world.client.get(world.client.key("Twice", 2)) is not None


def test_a_run_without_faults_keeps_the_promise_and_leaves_no_marker(
    make_world: MakeWorld, server: Server
) -> None:
    from bulkup.engine.options import Options

    world = make_world(server, 40)
    methods: list[Seen] = []

    def look(seen: Seen) -> Action:
        methods.append(seen)
        return Pass()

    world.proxy.faults = look
    report = world.run("Increment", Options(batch_size=5))
    assert report.exit_code == 0
    assert report.counts.handled == report.counts.puts == 40
    assert world.violations() == []
    assert world.markers() == []
    assert world.proxy.seen["Commit"] >= 8

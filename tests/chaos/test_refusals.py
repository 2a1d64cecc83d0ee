"""Refusals that no change of an entity explains: the server's reason ends the run, and soon."""

from __future__ import annotations

import grpc
import pytest

from bulkup.core.errors import BulkupError
from bulkup.core.model import RunState
from bulkup.engine.options import Options
from bulkup.state.kinds import CLAIM_KIND
from tests.chaos.bench import World
from tests.chaos.conftest import MakeWorld
from tests.chaos.proxy import Action, Pass, Refuse, Seen
from tests.conftest import Server

pytestmark = pytest.mark.sampled(2)

Code = grpc.StatusCode

REASON = "The database is read-only for now."
CLAIMS = [Code.FAILED_PRECONDITION, Code.ALREADY_EXISTS, Code.NOT_FOUND]
OPTIONS = Options(batch_size=5, in_flight=2)


@pytest.fixture
def world(server: Server, make_world: MakeWorld) -> World:
    return make_world(server, 20)


def commits(world: World) -> int:
    return world.proxy.seen["Commit"] + world.proxy.seen["Upkeep"]


@pytest.mark.client_side
@pytest.mark.parametrize("code", CLAIMS)
def test_a_refusal_that_no_change_explains_blames_no_entity_and_ends_the_run(
    world: World, code: grpc.StatusCode
) -> None:
    world.proxy.faults = lambda seen: (
        Refuse(code, REASON) if seen.method == "Commit" and seen.nth > 1 else Pass()
    )
    report = world.run("IncrementWithChild", OPTIONS)
    assert report.state is RunState.FAILED
    assert REASON in report.reason
    assert (report.counts.failed, report.counts.conflicts, report.failures) == (0, 0, ())
    assert commits(world) < 15
    world.proxy.faults = lambda seen: Pass()
    assert world.resume(OPTIONS).counts.handled == 20
    assert world.violations(children=True) == []


@pytest.mark.client_side
@pytest.mark.parametrize("code", CLAIMS)
def test_a_target_that_refuses_every_commit_ends_the_run_before_it_begins(
    world: World, code: grpc.StatusCode
) -> None:
    world.proxy.faults = lambda seen: (
        Refuse(code, REASON) if seen.method in ("Commit", "Upkeep") else Pass()
    )
    with pytest.raises(BulkupError, match=REASON):
        world.run("IncrementWithChild", OPTIONS)
    assert commits(world) < 10
    world.proxy.faults = lambda seen: Pass()
    assert world.run("IncrementWithChild", OPTIONS).exit_code == 0
    assert world.violations(children=True) == []


@pytest.mark.client_side
@pytest.mark.parametrize("code", CLAIMS)
def test_a_run_record_that_cannot_be_written_ends_the_run_soon(
    world: World, code: grpc.StatusCode
) -> None:
    """Its last write, which says that the run is finished, and every try of it."""
    world.proxy.faults = lambda seen: (
        Refuse(code, REASON) if seen.method == "Upkeep" and seen.nth > 1 else Pass()
    )
    report = world.run("IncrementWithChild", OPTIONS)
    assert report.state is RunState.FAILED
    assert REASON in report.reason
    assert world.proxy.seen["Upkeep"] < 12
    world.proxy.faults = lambda seen: Pass()
    assert world.resume(OPTIONS).exit_code == 0
    assert world.violations(children=True) == []


@pytest.mark.client_side
@pytest.mark.parametrize("code", CLAIMS)
def test_a_refusal_that_passes_costs_nothing(world: World, code: grpc.StatusCode) -> None:
    def refuse(seen: Seen) -> Action:
        writes = seen.method in ("Commit", "Upkeep")
        return Refuse(code, REASON) if writes and seen.nth in (1, 2) else Pass()

    world.proxy.faults = refuse
    report = world.run("IncrementWithChild", OPTIONS)
    assert (report.exit_code, report.counts.handled, report.counts.conflicts) == (0, 20, 0)
    assert report.retries >= 2
    assert world.violations(children=True) == []


def test_a_claim_that_cannot_be_removed_ends_the_command_soon(world: World) -> None:
    """The claim of a run whose record was deleted by hand."""
    world.proxy.faults = lambda seen: Refuse(Code.INTERNAL) if seen.method == "Commit" else Pass()
    assert world.run("Increment", OPTIONS).exit_code == 1
    run = world.client.query(kind="BulkupRun")
    run.keys_only()
    world.client.delete_multi([entity.key for entity in run.fetch()])
    assert list(world.client.query(kind=CLAIM_KIND).fetch())
    begun = commits(world)
    world.proxy.faults = lambda seen: (
        Refuse(Code.FAILED_PRECONDITION, REASON) if seen.method == "Upkeep" else Pass()
    )
    with pytest.raises(BulkupError, match=REASON):
        world.run("Increment", OPTIONS)
    assert commits(world) - begun < 10

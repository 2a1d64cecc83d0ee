"""Single commits fail in one known way; the promise holds."""

from __future__ import annotations

import threading

import grpc
import pytest

from bulkup.core.model import RunState
from bulkup.engine.options import Options
from tests.chaos.bench import World
from tests.chaos.conftest import STRIDES, MakeWorld
from tests.chaos.proxy import Action, Cut, Faults, Late, Lose, Pass, Refuse, Seen, Twice
from tests.conftest import Server

pytestmark = pytest.mark.sampled(2)

Code = grpc.StatusCode

SMALL = Options(batch_size=5, in_flight=2)


@pytest.fixture
def world(server: Server, make_world: MakeWorld) -> World:
    return make_world(server, 30)


def _nth_commits(*numbers: int, action: Action) -> Faults:
    return lambda seen: action if seen.method == "Commit" and seen.nth in numbers else Pass()


@pytest.mark.one_in(3)
@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.INTERNAL])
def test_a_lost_answer_does_not_apply_twice(world: World, code: grpc.StatusCode) -> None:
    world.proxy.faults = _nth_commits(1, 4, 6, action=Lose(code))
    report = world.run("IncrementWithChild", SMALL)
    assert (report.exit_code, report.counts.handled) == (0, 30)
    assert report.retries == 3
    assert world.violations(children=True) == []


@pytest.mark.one_in(3)
@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.ABORTED, Code.RESOURCE_EXHAUSTED])
def test_a_commit_that_never_arrived_is_sent_again(world: World, code: grpc.StatusCode) -> None:
    world.proxy.faults = _nth_commits(1, 2, 5, action=Refuse(code))
    report = world.run("IncrementWithChild", SMALL)
    assert (report.exit_code, report.counts.handled, report.retries) == (0, 30, 3)
    assert world.violations(children=True) == []


@pytest.mark.client_side
@pytest.mark.parametrize("code", [Code.INTERNAL, Code.UNKNOWN])
def test_streams_that_break_again_and_again_are_an_outage_and_no_answer(
    world: World, code: grpc.StatusCode
) -> None:
    """More often than an internal error of the server itself is believed to pass."""
    broken = Refuse(code, "Received RST_STREAM with error code 2")
    world.proxy.faults = _nth_commits(2, 3, 4, 5, 6, 7, 8, action=broken)
    report = world.run("IncrementWithChild", Options(batch_size=5, in_flight=1))
    assert (report.exit_code, report.counts.handled, report.retries) == (0, 30, 7)
    assert world.violations(children=True) == []


@pytest.mark.client_side
def test_a_token_refused_once_does_not_end_a_run_that_works(world: World) -> None:
    world.proxy.faults = lambda seen: (
        Refuse(Code.UNAUTHENTICATED) if seen.nth == 2 else Pass()
    )  # one call of every method
    report = world.run("IncrementWithChild", SMALL)
    assert (report.exit_code, report.counts.handled, report.counts.failed) == (0, 30, 0)
    assert world.violations(children=True) == []


@pytest.mark.client_side
def test_tokens_refused_for_good_end_the_run_soon_and_say_so(world: World) -> None:
    world.proxy.faults = lambda seen: (
        Refuse(Code.UNAUTHENTICATED) if seen.method == "Commit" else Pass()
    )
    report = world.run("IncrementWithChild", SMALL)
    assert report.exit_code == 1
    assert "credentials" in report.reason
    assert world.proxy.seen["Commit"] <= 10


@pytest.mark.one_in(2)
@pytest.mark.parametrize("forward", [False, True])
def test_a_broken_connection_loses_nothing_and_applies_nothing_twice(
    world: World, forward: bool
) -> None:
    world.proxy.faults = _nth_commits(2, 5, action=Cut(forward))
    report = world.run("IncrementWithChild", SMALL)
    assert (report.exit_code, report.counts.handled) == (0, 30)
    assert world.proxy.done["Cut"] == 2
    assert world.violations(children=True) == []


@pytest.mark.one_in(2)
@pytest.mark.parametrize("give_second", [False, True])
def test_a_commit_delivered_twice_is_applied_once(world: World, give_second: bool) -> None:
    world.proxy.faults = lambda seen: Twice(give_second) if seen.method == "Commit" else Pass()
    report = world.run("IncrementWithChild", SMALL)
    assert (report.exit_code, report.counts.handled, report.counts.conflicts) == (0, 30, 0)
    assert world.violations(children=True) == []


@pytest.mark.one_in(3)
@pytest.mark.parametrize("after", [1, 2, 3, 5, 8, None])
def test_a_commit_that_arrives_after_its_retry_is_refused(
    lf: Server, make_world: MakeWorld, after: int | None
) -> None:
    """`after` counts calls: 1 arrives before the retry itself, None after the end of the run."""
    world = make_world(lf, 30)
    world.proxy.faults = _nth_commits(1, 4, action=Late(Code.DEADLINE_EXCEEDED, after))
    report = world.run("IncrementWithChild", SMALL)
    world.proxy.release()
    assert sum(n for name, n in world.proxy.done.items() if name.startswith("Late ")) == 2
    assert (report.exit_code, report.counts.handled) == (0, 30)
    assert world.violations(children=True) == []


@STRIDES
@pytest.mark.parametrize("held", [1, pytest.param(3, marks=pytest.mark.chaos)])
def test_a_commit_that_arrives_after_the_run_gave_up_is_applied_once_or_not_at_all(
    lf: Server, make_world: MakeWorld, held: int, stride: int
) -> None:
    """The commit may arrive at any moment while the next runner works."""
    for arrives_at in range(held, 24, stride):
        world = make_world(lf, 15)

        def lose_one_commit(seen: Seen) -> Action:
            if seen.method != "Commit" or seen.nth < held:
                return Pass()
            if seen.nth == held:
                return Late(Code.INTERNAL, None)
            return Refuse(Code.INTERNAL)

        world.proxy.faults = lose_one_commit
        options = Options(batch_size=3, in_flight=2)
        assert world.run("OneChild", options).exit_code == 1
        assert world.proxy.held == 1
        given_up_at = sum(world.proxy.seen.values())

        def arrive(seen: Seen, at: int = given_up_at + arrives_at, world: World = world) -> Action:
            if seen.number == at:
                world.proxy.release()
            return Pass()

        world.proxy.faults = arrive
        report = world.resume(options)
        world.proxy.release()
        assert (report.exit_code, report.counts.handled) == (0, 15)
        assert world.violations(incremented=False, children=True) == [], f"call {arrives_at}"


def test_markers_are_kept_while_a_late_copy_may_arrive_and_removed_afterwards(world: World) -> None:
    world.proxy.faults = _nth_commits(1, 4, action=Late(Code.UNAVAILABLE, None))
    assert world.run("OneChild", SMALL).exit_code == 0
    assert len(world.markers()) == 2
    world.run("Nothing")
    assert len(world.markers()) == 2, "a command that comes too early keeps them"
    world.proxy.release()
    assert world.proxy.done["Late ALREADY_EXISTS"] == 2
    assert world.violations(incremented=False, children=True) == []
    world.clear_old_markers()
    assert world.markers() == []


def test_a_live_write_between_read_and_commit_is_kept(world: World) -> None:
    def meddle(seen: Seen) -> Action:
        if seen.method == "Commit" and seen.nth in (1, 3):
            world.touch(seen.nth * 5)
        return Pass()

    world.proxy.faults = meddle
    report = world.run("IncrementWithChild", SMALL)
    assert (report.exit_code, report.counts.handled, report.counts.conflicts) == (0, 30, 2)
    assert world.live.total() == 2
    assert world.violations(children=True) == []
    assert world.markers() == []


def test_a_live_write_is_kept_while_a_late_copy_is_in_flight(world: World) -> None:
    """The retry conflicts, the batch is handled again, and then the first copy arrives."""

    def meddle(seen: Seen) -> Action:
        if seen.method == "Commit" and seen.nth == 1:
            return Late(Code.DEADLINE_EXCEEDED, after=4)
        if seen.method == "Commit" and seen.nth == 2:
            world.touch(1)
            world.touch(7)
        return Pass()

    world.proxy.faults = meddle
    report = world.run("IncrementWithChild", SMALL)
    assert (report.exit_code, report.counts.handled) == (0, 30)
    assert world.proxy.held == 0
    assert world.violations(children=True) == []


def test_an_entity_that_others_keep_changing_fails_as_contended(world: World) -> None:
    one_at_a_time = threading.Lock()  # several transactions on one entity only abort each other

    def meddle(seen: Seen) -> Action:
        if seen.method == "Commit":
            with one_at_a_time:
                world.touch(8)
        return Pass()

    world.proxy.faults = meddle
    report = world.run("Increment", Options(batch_size=5, conflict_retries=2, max_failures=1))
    assert report.exit_code == 3
    assert [f.key for f in report.failures] == ["Key('Thing', 8)"]
    assert "contended" in report.failures[0].error
    assert report.counts.failed == 1
    assert report.counts.puts == 29
    assert world.violations() == ["thing 8 has n = 0"]


def test_entities_deleted_during_the_run_are_counted_and_stay_deleted(world: World) -> None:
    def meddle(seen: Seen) -> Action:
        if seen.method == "Commit" and seen.nth in (1, 3):
            # The third commit is of the second batch: the first batch was sent again without 2.
            world.client.delete(world.client.key("Thing", 2 if seen.nth == 1 else 8))
        return Pass()

    world.proxy.faults = meddle
    report = world.run("IncrementWithChild", Options(batch_size=5, in_flight=1))
    assert report.exit_code == 0
    assert (report.counts.handled, report.counts.vanished) == (30, 2)
    assert (report.counts.failed, report.failures) == (0, ())
    things = world.things()
    assert things.keys() == set(range(1, 31)) - {2, 8}
    world.size = 28
    assert world.violations(children=True) == []


def test_an_entity_that_no_longer_matches_the_filter_is_not_handled_again(world: World) -> None:
    def meddle(seen: Seen) -> Action:
        if seen.method == "Commit" and seen.nth == 2:
            thing = world.client.get(world.client.key("Thing", 9))
            thing["open"] = False
            world.client.put(thing)
        return Pass()

    world.proxy.faults = meddle
    report = world.run("Filtered", Options(batch_size=5, in_flight=1))
    assert (report.exit_code, report.counts.failed) == (0, 0)
    assert world.violations() == ["thing 9 has n = 0"]
    assert world.things()[9]["open"] is False


def test_a_kindless_query_does_not_return_bulkups_own_entities(world: World) -> None:
    """Nor the markers that an earlier run had to leave."""
    world.proxy.faults = _nth_commits(1, 3, action=Late(Code.UNAVAILABLE, None))
    assert world.run("OneChild", SMALL).exit_code == 0
    assert world.markers()
    run = world.client.key("BulkupRun", "of another run")
    from google.cloud import datastore

    world.client.put(datastore.Entity(run))
    children = list(world.client.query(kind="Child").fetch())
    for child in children:
        child["n"] = 0
    world.client.put_multi(children)
    world.proxy.faults = lambda seen: Pass()
    report = world.run("Kindless", SMALL)
    assert (report.exit_code, report.counts.handled) == (0, 60)
    assert world.violations(children=True) == []
    assert "n" not in world.client.get(run)


def test_the_sum_is_preserved_when_amounts_move_between_entities(world: World) -> None:
    """The handler reads the other entity with `self.client.get`, outside the query."""
    report = world.run("Move", SMALL)
    assert report.exit_code == 0
    assert world.violations() == []


def test_the_sum_is_preserved_while_live_users_write(world: World) -> None:
    def meddle(seen: Seen) -> Action:
        if seen.method == "Commit":
            world.touch(seen.nth % 30 + 1)
            world.touch((seen.nth + 1) % 30 + 1)
        return Pass()

    world.proxy.faults = meddle
    report = world.run("Move", Options(batch_size=5, in_flight=2, conflict_retries=500))
    assert report.state is RunState.FINISHED
    assert world.violations() == []


def test_live_users_lose_no_write(world: World) -> None:
    import random

    ids = random.Random(4)
    with world.live_writers(2, lambda: ids.randint(1, world.size)):
        report = world.run(
            "IncrementWithChild", Options(batch_size=5, in_flight=2, conflict_retries=500)
        )
    assert (report.exit_code, report.counts.handled) == (0, 30)
    assert world.live.total() > 0
    assert world.violations(children=True) == []

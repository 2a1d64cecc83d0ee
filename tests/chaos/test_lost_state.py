"""The run record or the state directory is lost and the run is resumed: every entity is still
handled once, and counted once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import grpc
import pytest

from bulkup.core.errors import Exit
from bulkup.engine import splits
from bulkup.engine.options import Options
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.kinds import CLAIM_KIND, RUN_KIND
from bulkup.state.lease import Lease
from bulkup.state.run_records import Ledger
from tests.chaos.bench import Crash, World
from tests.chaos.conftest import MakeWorld
from tests.chaos.proxy import Action, Pass, Refuse, Seen, no_faults
from tests.conftest import Server

pytestmark = pytest.mark.sampled(2)


@pytest.fixture(autouse=True)
def small_kinds_are_worth_splitting() -> Iterator[None]:
    with patch.object(splits, "MIN_PROBED_ENTITIES", 1):
        yield


@pytest.fixture
def world(embedded: Server, make_world: MakeWorld) -> World:
    return make_world(embedded, 120, sparse=lambda id_: id_ <= 20 or id_ > 60)


def _forget_records(world: World) -> None:
    for kind in (RUN_KIND, CLAIM_KIND):
        query = world.client.query(kind=kind)
        query.keys_only()
        world.client.delete_multi([entity.key for entity in query.fetch()])


def _crash_at_commit(nth: int, label: str = "Commit") -> Any:
    commits = 0

    def on_send(number: int, method: str) -> None:
        nonlocal commits
        commits += method == label
        if commits == nth:
            raise Crash

    return on_send


SHARDED = Options(batch_size=5, in_flight=2, shards=3)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("killed", [False, True], ids=["stopped", "killed"])
@pytest.mark.parametrize("lose", [False, True], ids=["", "and the file later"])
def test_shards_keep_their_bounds_when_the_run_record_is_deleted(
    world: World, killed: bool, lose: bool
) -> None:
    if killed:
        with pytest.raises(Crash):
            world.run("Increment", SHARDED, on_send=_crash_at_commit(9))
    else:
        assert world.run("Increment", Options(batch_size=5, shards=3, limit=40)).exit_code == 75
    _forget_records(world)
    again = world.resume(Options(batch_size=5, shards=3, limit=20))
    assert again.exit_code == Exit.LIMIT
    world.finishes("Increment", SHARDED, lose=lose)


@pytest.mark.parametrize("lose", [False, True], ids=["", "and the file later"])
def test_what_a_run_has_made_is_known_when_the_run_record_is_deleted(
    embedded: Server, make_world: MakeWorld, lose: bool
) -> None:
    world = make_world(embedded, 40)
    assert world.run("Rename", Options(batch_size=5, limit=20)).exit_code == Exit.LIMIT
    _forget_records(world)
    assert world.resume(Options(batch_size=5, limit=5)).exit_code == Exit.LIMIT
    if lose:
        shutil.rmtree(world.state_dir)
        last = world.run("Rename", SHARDED)
    else:
        last = world.resume(SHARDED)
    assert last.counts.handled == 40
    assert world.made_violations("Rename") == []


@pytest.mark.one_in(5)
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("at", [2, 5, 8, 11, 14])
def test_entities_without_writes_are_counted_once_after_the_checkpoint_was_lost(
    world: World, shards: int, at: int
) -> None:
    options = Options(batch_size=5, in_flight=2, shards=shards)
    with pytest.raises(Crash):
        world.run("Sparse", options, on_send=_crash_at_commit(at))
    shutil.rmtree(world.state_dir)
    last = world.run("Sparse", options)
    assert last.success
    assert last.counts.handled == world.size
    assert {t["n"] for id_, t in world.things().items() if t["sparse"]} == {1}


@pytest.mark.parametrize("shards", [1, 3])
def test_entities_without_writes_are_counted_once_after_a_stop_among_them(
    world: World, shards: int
) -> None:
    stopped = world.run("Sparse", Options(batch_size=5, shards=shards, limit=50))
    assert stopped.exit_code == Exit.LIMIT
    with pytest.raises(Crash):
        world.resume(Options(batch_size=5, shards=shards), on_send=_crash_at_commit(4))
    shutil.rmtree(world.state_dir)
    last = world.run("Sparse", Options(batch_size=5, shards=shards))
    assert last.success
    assert last.counts.handled == world.size


def test_the_failure_that_stopped_a_run_is_forgotten_when_its_entity_succeeds(
    embedded: Server, make_world: MakeWorld
) -> None:
    world = make_world(embedded, 40, poison={23: "long string"}.get)
    options = Options(batch_size=5, in_flight=2)
    assert world.run("Poisoned", options).exit_code == Exit.FAILED
    thing = world.client.get(world.client.key("Thing", 23))
    thing["poison"] = None
    world.client.put(thing)
    with pytest.raises(Crash):
        world.resume(options, on_send=_crash_at_commit(2))
    shutil.rmtree(world.state_dir)
    last = world.run("Poisoned", options)
    assert (last.counts.handled, last.counts.failed) == (40, 0)
    assert last.exit_code == Exit.DONE
    assert world.violations() == []


def test_a_run_with_only_its_end_left_resumes_without_its_checkpoint(world: World) -> None:
    with pytest.raises(Crash), patch.object(Lease, "give_back", side_effect=Crash):
        world.run("Increment", SHARDED)
    with pytest.raises(Crash), patch.object(Lease, "give_back", side_effect=Crash):
        world.resume(SHARDED)
    shutil.rmtree(world.state_dir)
    last = world.run("Increment", SHARDED)
    assert last.success, last.reason
    assert last.counts.handled == world.size
    assert world.violations() == []


@pytest.mark.one_in(3)
@pytest.mark.parametrize("lose", [False, True], ids=["checkpoint kept", "checkpoint lost"])
@pytest.mark.parametrize(("after", "at"), [("the record", 1), ("the file", 1), ("the file", 2)])
def test_a_run_killed_while_its_shards_change_loses_nothing_and_repeats_nothing(
    world: World, after: str, at: int, lose: bool
) -> None:
    """The new shards are in the run record and not in the checkpoint; or in both, with nothing done
    yet. The first runner crashes at its first change of the shards, the others at change `at`."""
    cls, name = (Ledger, "end_sure_write") if after == "the record" else (Checkpoint, "follow")
    real = getattr(cls, name)
    crashes = 0
    for nth in range(5):
        changes_of_shards = 0
        written: Any = None

        def dying(self: Any, *args: Any, nth: int = nth) -> Any:
            nonlocal changes_of_shards, written
            answer = real(self, *args)
            if after == "the file":
                changes_of_shards += 1
            else:
                changes_of_shards += written is not None and written != answer.layout.shards
                written = answer.layout.shards
            if changes_of_shards == (at if nth else 1) and nth < 4:
                raise Crash
            return answer

        options = Options(batch_size=5, in_flight=3, shards=2 + nth)
        with patch.object(cls, name, dying):
            try:
                if world.has_run():
                    last = world.resume(options)
                else:
                    last = world.run("Increment", options)
                break
            except Crash:
                crashes += 1
        if lose:
            shutil.rmtree(world.state_dir)
    assert crashes
    assert last.success
    assert world.violations() == []
    assert last.counts.handled == world.size


@pytest.mark.parametrize("begun", [False, True], ids=["at the beginning", "resumed"])
def test_a_run_that_fails_before_its_first_commit_needs_no_recovery(
    world: World, begun: bool
) -> None:
    """The request for a sample of keys to split at is refused."""
    if begun:
        assert world.run("Increment", Options(batch_size=5, limit=30)).exit_code == Exit.LIMIT

    def refuse(seen: Seen) -> Action:
        asks = b"__scatter__" in seen.payload
        return Refuse(grpc.StatusCode.PERMISSION_DENIED) if asks else Pass()

    world.proxy.faults = refuse
    ended = world.resume(SHARDED) if begun else world.run("Increment", SHARDED)
    assert ended.exit_code == Exit.FAILED
    world.proxy.faults = no_faults
    assert world.resume(SHARDED).success
    assert world.violations() == []
    assert world.markers() == []  # otherwise fences would remain

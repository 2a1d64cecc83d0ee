"""A split of a shard is written to the run record while other shards continue. After a crash before
the answer, the next runner finds the shards as they were before or after the split."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import grpc
import pytest
from google.cloud.datastore_v1.types import datastore as types

from bulkup.core.errors import Exit
from bulkup.core.model import RunState
from bulkup.datastore.call import ATTEMPT_TIMEOUT_S, Call
from bulkup.datastore.keys import key_to_pb
from bulkup.datastore.rpc import Rpc
from bulkup.engine.options import Options
from bulkup.engine.splits import Sample, Sampling
from bulkup.state.kinds import RUN_KIND
from tests.chaos.bench import Crash, World, quick_clock
from tests.chaos.conftest import MakeWorld
from tests.chaos.proxy import Action, Delay, Hang, Pass, Refuse, Seen, no_faults
from tests.conftest import Server

pytestmark = pytest.mark.sampled(2)

CommitRequest: Any = types.CommitRequest.pb()

SIZE = 160
ALONE = Options(batch_size=5, in_flight=2, shards=1, limit=20)
SHARDED = Options(batch_size=5, in_flight=2, shards=3)


@pytest.fixture
def world(embedded: Server, make_world: MakeWorld) -> Iterator[World]:
    """The sample has uneven gaps, so that one split happens at the start and more follow."""
    made = make_world(embedded, SIZE)
    ids = (*range(1, 20), *range(40, SIZE, 4))
    keys = [key_to_pb(made.client.key("Thing", id_)) for id_ in ids]
    with patch.object(Sampling, "take", lambda _: Sample(keys)):
        yield made


def shards_written(payload: bytes) -> list[int]:
    """The ids of the shards in the run record that a commit writes."""
    for mutation in CommitRequest.FromString(payload).mutations:
        how = mutation.WhichOneof("operation")
        entity = getattr(mutation, how)
        if how != "delete" and entity.key.path[-1].kind == RUN_KIND:
            return [shard[0] for shard in json.loads(entity.properties["shards"].string_value)]
    return []


def hanging_at_split(at: int, world: World, *, arrives: bool) -> Callable[[Seen], Action]:
    """The at-th change of the shards is not answered. `arrives`: the server applies it."""
    written: list[list[int]] = []

    def faults(seen: Seen) -> Action:
        if seen.method != "Upkeep":
            return Pass()
        shards = shards_written(seen.payload)
        if shards and (not written or shards != written[-1]):
            written.append(shards)
            if len(written) == at + 1:
                if arrives:
                    world.proxy._forward("Commit", seen.payload)
                return Hang()
        return Pass()

    return faults


@contextlib.contextmanager
def answered_at_once(world: World) -> Iterator[None]:
    """Have every call answered before the runner continues, except one that hangs in the proxy.

    So every run takes the same steps: how often shards are split, and what is in flight when the
    runner becomes idle, does not depend on the machine.
    """
    send, faults = Call._send, world.proxy.faults
    settled: dict[bytes, threading.Event] = {}

    def hanging(seen: Seen) -> Action:
        action = faults(seen)
        if isinstance(action, Hang):
            settled[seen.payload].set()
        return action

    def sending(call: Call[Any]) -> None:
        event = settled[call.payload] = threading.Event()
        send(call)
        call._future.add_done_callback(lambda _: event.set())
        assert event.wait(ATTEMPT_TIMEOUT_S)

    world.proxy.faults = hanging
    with patch.object(Call, "_send", sending):
        yield


def crashing_when_idle(rpc: Rpc, seconds: float = 0.0) -> None:
    if not rpc.arrived.is_set():
        raise Crash


@pytest.mark.one_in(3)
@pytest.mark.parametrize("lose", [False, True], ids=["checkpoint kept", "checkpoint lost"])
@pytest.mark.parametrize("arrives", [False, True], ids=["not written", "written"])
@pytest.mark.parametrize(
    ("at", "begun"),
    [(1, False), (2, False), (3, False), (1, True)],
    ids=["the first", "the second", "the third", "the first of a resumed run"],
)
def test_a_crash_while_a_split_is_being_recorded_loses_nothing_and_repeats_nothing(
    world: World, at: int, begun: bool, arrives: bool, lose: bool
) -> None:
    if begun:
        assert world.run("Increment", ALONE).exit_code == Exit.LIMIT
    world.proxy.faults = hanging_at_split(at, world, arrives=arrives)
    with (
        answered_at_once(world),
        patch.object(Rpc, "wait", crashing_when_idle),
        pytest.raises(Crash),
    ):
        (world.resume if begun else world.run)(*(() if begun else ("Increment",)), SHARDED)
    assert world.proxy.done["Hang"] == 1
    world.proxy.faults = no_faults
    left = sum(not thing["n"] for thing in world.things().values())
    assert left, "the run has finished"
    world.finishes("Increment", SHARDED, lose=lose)


def test_other_shards_continue_while_a_split_is_being_recorded(world: World) -> None:
    world.proxy.faults = hanging_at_split(2, world, arrives=False)
    done: list[int] = []

    def dying(rpc: Rpc, seconds: float = 0.0) -> None:
        done.append(sum(thing["n"] for thing in world.things().values()))
        crashing_when_idle(rpc)

    with answered_at_once(world), patch.object(Rpc, "wait", dying), pytest.raises(Crash):
        world.run("Increment", SHARDED)
    # Of three shards one was done and one was split; the third had 40 entities or more.
    assert done[-1] >= 70


def test_a_stop_while_a_split_is_being_recorded_leaves_the_new_shards_in_the_checkpoint(
    world: World,
) -> None:
    """Otherwise the next runner would have to insert fences, which stay for ten minutes."""
    world.proxy.faults = hanging_at_split(2, world, arrives=True)
    stops: list[bool] = []

    def stopping(rpc: Rpc, seconds: float = 0.0) -> None:
        if not rpc.arrived.is_set():
            stops.append(True)
            world.proxy.faults = no_faults
            world.proxy.unhang()
        rpc.on_tick()

    options = Options(batch_size=5, in_flight=2, shards=3, max_time_s=60)
    clock = quick_clock()
    late = quick_clock()
    object.__setattr__(clock, "monotonic", lambda: late.monotonic() + 100 * bool(stops))
    with answered_at_once(world), patch.object(Rpc, "wait", stopping):
        report = world.run("Increment", options, clock=clock)
    assert report.state is RunState.STOPPED
    assert world.resume(SHARDED).success
    assert world.violations() == []
    assert world.markers() == []


def test_a_split_that_cannot_be_recorded_ends_the_run_during_another_wait(world: World) -> None:
    """The failure must not be mistaken for one of that call, which is retried: then the run would
    wait for the split forever."""
    written: list[list[int]] = []
    refused = 0
    first: bytes | None = None
    sent_again = threading.Event()

    def faults(seen: Seen) -> Action:
        nonlocal refused, first
        if seen.method == "Upkeep":
            shards = shards_written(seen.payload)
            if shards and (not written or shards != written[-1]):
                written.append(shards)
            if len(written) == 3 and shards == written[-1] and refused < 4:
                refused += 1
                # The first refusal must arrive while the run waits for that commit.
                assert refused > 1 or sent_again.wait(30)
                return Refuse(grpc.StatusCode.INTERNAL)
        elif seen.method == "Commit" and len(written) == 3:
            if first is None:
                first = seen.payload
                return Refuse(grpc.StatusCode.UNAVAILABLE)
            if seen.payload == first and not sent_again.is_set():
                sent_again.set()
                return Delay(1.5)
        return Pass()

    world.proxy.faults = faults
    report = world.run("Increment", SHARDED)
    assert report.state is RunState.FAILED
    assert "INTERNAL" in report.reason
    assert refused == 4
    world.proxy.faults = no_faults
    assert world.resume(SHARDED).success
    assert world.violations() == []


@pytest.mark.parametrize("arrives", [False, True], ids=["not written", "written"])
def test_a_run_that_fails_does_not_wait_for_a_split_that_is_being_recorded(
    world: World, arrives: bool
) -> None:
    hanging = hanging_at_split(2, world, arrives=arrives)
    hung = False

    def faults(seen: Seen) -> Action:
        nonlocal hung
        if seen.method == "Commit" and hung:
            return Refuse(grpc.StatusCode.PERMISSION_DENIED)
        action = hanging(seen)
        hung = hung or isinstance(action, Hang)
        return action

    world.proxy.faults = faults
    report = world.run("Increment", SHARDED)
    assert report.state is RunState.FAILED
    # Its end was recorded while the call was still unanswered.
    assert world.record_states() == [RunState.FAILED]
    world.proxy.faults = no_faults
    world.proxy.unhang()
    assert world.resume(SHARDED).success
    assert world.violations() == []

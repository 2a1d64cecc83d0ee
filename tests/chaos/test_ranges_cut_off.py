"""Datastore never comes back during a run in ranges: the process ends after `--retry-for`, says
why, and the run can be resumed."""

from __future__ import annotations

import grpc
import pytest

from bulkup.core.errors import BulkupError, Exit
from bulkup.core.events import Report
from bulkup.core.model import RunState
from bulkup.datastore.retry import FIRST_CONTACT_S
from bulkup.engine import splits
from bulkup.engine.options import Options
from bulkup.runs.ranges import work
from bulkup.runs.ranges.view import Times
from bulkup.runs.start import Cutting
from tests.chaos.bench import World, dead_holder, quick_clock
from tests.chaos.conftest import STRIDES, MakeWorld
from tests.chaos.proxy import Action, Pass, Refuse, Seen, no_faults
from tests.conftest import Server

OPTIONS = Options(batch_size=5, in_flight=2, retry_for_s=40.0)
SIZE = 30
RANGES = Cutting(3)


@pytest.fixture(autouse=True)
def _small_kinds_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "MIN_PROBED_ENTITIES", 1)
    monkeypatch.setattr(work, "this_process", dead_holder)  # so that the next one need not wait
    # What looks at the whole run has not noticed yet, so it could wait for as long again.
    monkeypatch.setattr(work, "TIMES", Times(look_every_s=3600))


def _run(world: World, vanishes_at: int) -> tuple[Report | BulkupError, float]:
    """How a run ends whose Datastore vanishes at this call, and how many seconds later."""
    clock = quick_clock()
    began: list[float] = []

    def faults(seen: Seen) -> Action:
        if seen.number < vanishes_at:
            return Pass()
        began.append(clock.monotonic())
        return Refuse(grpc.StatusCode.UNAVAILABLE)

    world.proxy.faults = faults
    ended: Report | BulkupError
    try:
        ended = world.run("Increment", OPTIONS, clock=clock, cutting=RANGES)
    except BulkupError as error:
        ended = error
    world.proxy.faults = no_faults
    return ended, clock.monotonic() - began[0] if began else 0.0


def _calls_of_a_run(world: World) -> int:
    assert world.run("Increment", OPTIONS, cutting=RANGES).success
    return sum(world.proxy.seen.values())


@STRIDES
def test_whenever_datastore_vanishes_the_run_ends_after_the_time_to_retry_for(
    embedded: Server, make_world: MakeWorld, stride: int
) -> None:
    calls = _calls_of_a_run(make_world(embedded, SIZE))
    assert calls > 30
    told: list[int] = []
    for number in range(2, calls + 1, stride):
        world = make_world(embedded, SIZE)
        ended, took_s = _run(world, number)
        story = f"vanished at call {number} of {calls}: {ended}, after {took_s:.0f} s"
        assert took_s < 1.2 * OPTIONS.retry_for_s + FIRST_CONTACT_S, story
        assert ended.exit_code is Exit.FAILED or world.record_states() == [RunState.FINISHED], story
        if isinstance(ended, Report) and ended.state is RunState.FAILED:
            assert "stopped answering" in ended.reason, story
            assert ended.next_command, story
            told.append(ended.counts.handled)
        if RunState.FINISHED not in world.record_states():
            assert world.run("Increment", OPTIONS, cutting=RANGES).success, story
        assert world.violations() == [], story
    assert told
    assert max(told) >= SIZE // 2  # what this process knows, though nobody has added it up

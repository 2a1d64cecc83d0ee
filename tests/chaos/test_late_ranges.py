"""A run in ranges, whose commits arrive late and in copies, on machines whose clocks are hours
apart."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from bulkup.core.clock import Clock
from bulkup.core.events import Report
from bulkup.core.model import RunState
from bulkup.engine import splits
from bulkup.engine.options import Options
from bulkup.runs import acquire
from bulkup.runs.ranges import work
from bulkup.runs.ranges.view import Times
from bulkup.runs.start import Cutting
from bulkup.state.holder import this_process
from bulkup.state.kinds import CLAIM_KIND, MARKER_KIND, RANGE_KIND, RUN_KIND
from tests.chaos.bench import Crash, World, dead_holder
from tests.chaos.conftest import MakeWorld
from tests.chaos.proxy import Action, Late, Pass, Seen, no_faults
from tests.conftest import Server

SIZE = 40
SMALL = Options(batch_size=4, in_flight=2)
RANGES = Cutting(4)
HOURS_S = 3 * 3600.0
QUICK = Times(look_every_s=0.05, conduct_every_s=0.1, grace_s=0.1)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "MIN_PROBED_ENTITIES", 1)
    monkeypatch.setattr(work, "TIMES", QUICK)
    monkeypatch.setattr(work, "LOOK_AGAIN_S", 0.05)


def _own(world: World) -> dict[Any, dict[str, Any]]:
    """What bulkup has stored in Datastore."""
    kinds = (RUN_KIND, RANGE_KIND, CLAIM_KIND, MARKER_KIND)
    return {e.key: dict(e) for kind in kinds for e in world.client.query(kind=kind).fetch()}


def _each_commit_is_late() -> Any:
    """The first copy of each commit arrives when everything is over; what is sent again arrives."""
    lock, seen_before = threading.Lock(), set[bytes]()

    def faults(seen: Seen) -> Action:
        if seen.method not in ("Commit", "Upkeep"):
            return Pass()
        with lock:
            is_first = seen.payload not in seen_before
            seen_before.add(seen.payload)
        return Late(grpc.StatusCode.UNAVAILABLE, after=None) if is_first else Pass()

    return faults


def test_first_copies_of_all_commits_arrive_after_the_run(
    server: Server, make_world: MakeWorld
) -> None:
    """Those that cut the run, conduct it, take its ranges, write entities, and end it."""
    world = make_world(server, SIZE)
    world.proxy.faults = _each_commit_is_late()
    report = world.run("IncrementWithChild", SMALL, cutting=RANGES)
    assert (report.state, report.counts.handled) == (RunState.FINISHED, SIZE)
    world.proxy.faults = no_faults
    assert world.proxy.held > 20
    before = _own(world)
    world.proxy.release()
    assert world.proxy.done["Late OK"] == 0
    assert _own(world) == before
    assert world.violations(children=True) == []


@pytest.mark.one_in(3)
@pytest.mark.parametrize("nth", [2, 5, 8])
def test_a_commit_of_a_killed_worker_arrives_after_others_have_ended_the_run(
    server: Server, make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, nth: int
) -> None:
    world = make_world(server, SIZE)

    def hold_back(seen: Seen) -> Action:
        held = seen.method == "Commit" and seen.nth == nth
        return Late(grpc.StatusCode.UNAVAILABLE, after=None) if held else Pass()

    def crash(number: int, method: str) -> None:
        if world.proxy.held:
            raise Crash

    world.proxy.faults = hold_back
    with monkeypatch.context() as patch:
        patch.setattr(work, "this_process", dead_holder)
        with pytest.raises(Crash):
            world.run("IncrementWithChild", SMALL, cutting=RANGES, on_send=crash)
    assert world.proxy.held == 1
    world.proxy.faults = no_faults
    report = world.run("IncrementWithChild", SMALL, cutting=RANGES, state_dir=tmp_path / "2")
    assert report.success
    world.proxy.release()
    assert world.proxy.done["Late OK"] == 0
    assert world.violations(children=True) == []
    world.clear_old_markers()
    assert world.markers() == []


class _Worker:
    """Takes part in the run, on a machine whose clock is so much ahead."""

    def __init__(self, world: World, ahead_s: float, state_dir: Path) -> None:
        self.ended: Report | BaseException | None = None
        self._work = lambda: world.run(
            "IncrementWithChild", SMALL, cutting=RANGES,
            clock=Clock(unix=lambda: time.time() + ahead_s), state_dir=state_dir,
        )  # fmt: skip
        self._thread = threading.Thread(target=self._live)
        self._thread.start()

    def _live(self) -> None:
        try:
            self.ended = self._work()
        except BaseException as error:
            self.ended = error

    def join(self) -> Report | BaseException | None:
        self._thread.join()
        return self.ended


@pytest.mark.parametrize("name", ["EM", "FS"])  # LF never tells its time
def test_machines_whose_clocks_are_hours_apart_share_a_run(
    request: pytest.FixtureRequest,
    make_world: MakeWorld,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
) -> None:
    monkeypatch.setattr(acquire, "this_process", this_process)  # nobody looks dead here
    world = make_world(request.getfixturevalue({"EM": "embedded", "FS": "fs"}[name]), 4 * SIZE)
    stopped = world.run("IncrementWithChild", Options(limit=4, batch_size=4), cutting=RANGES)
    assert stopped.state is RunState.STOPPED
    workers = [
        _Worker(world, ahead_s, tmp_path / str(n))
        for n, ahead_s in enumerate((0.0, HOURS_S, -HOURS_S))
    ]
    ended = [worker.join() for worker in workers]
    assert world.violations(children=True) == [], ended
    for one in ended:
        assert isinstance(one, Report), ended
        assert (one.state, one.counts.handled) == (RunState.FINISHED, 4 * SIZE), one.reason
    assert world.record_states() == [RunState.FINISHED]
    world.clear_old_markers()
    assert world.markers() == []
    assert list(world.client.query(kind=CLAIM_KIND).fetch()) == []

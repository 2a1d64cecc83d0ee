"""Machines whose clocks are an hour apart. Only the server's clock counts, or time that passes."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from bulkup.core.errors import Exit, HeldError
from bulkup.core.model import RunState
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.target import resolve
from bulkup.engine.options import Options
from bulkup.state.lease import Lease
from bulkup.state.record import LEASE_S, Holder, LeaseTerms
from bulkup.state.run_records import Ledger
from tests.chaos.bench import Crash, World, later, quick_clock
from tests.chaos.conftest import MakeWorld
from tests.chaos.proxy import Action, Late, Pass, Seen, no_faults
from tests.conftest import Server

pytestmark = pytest.mark.sampled(2)

HOUR_S = 3600.0
SMALL = Options(batch_size=4, in_flight=2)
SIZE = 16

APART = pytest.mark.parametrize(
    ("second_s", "third_s"),
    [(0.0, HOUR_S), (-HOUR_S, 0.0)],
    ids=["the third is ahead", "the second is behind"],
)
"""How far the clocks of the second and the third machine are ahead of the first one's."""


def _hold_back_the_second_batch(seen: Seen) -> Action:
    held = seen.method == "Commit" and seen.nth == 2
    return Late(grpc.StatusCode.UNAVAILABLE, after=None) if held else Pass()


def _other_command(world: World, ahead_s: float, elsewhere: Path) -> None:
    """Any command removes markers that have done their job."""
    clock = quick_clock(ahead_s=ahead_s)
    assert world.run("Nothing", clock=clock, state_dir=elsewhere).success


@pytest.mark.one_in(2)
@APART
def test_a_clock_that_is_wrong_by_an_hour_removes_no_fence_too_early(
    server: Server, make_world: MakeWorld, tmp_path: Path, second_s: float, third_s: float
) -> None:
    """A commit of a killed runner arrives after another has finished the run."""
    world = make_world(server, SIZE)
    world.proxy.faults = _hold_back_the_second_batch

    def crash(number: int, method: str) -> None:
        if world.proxy.held:
            raise Crash

    with pytest.raises(Crash):
        world.run("IncrementWithChild", replace(SMALL, in_flight=1), on_send=crash)
    assert world.proxy.held == 1
    world.proxy.faults = no_faults
    second = quick_clock(ahead_s=second_s)
    assert world.run("IncrementWithChild", SMALL, clock=second, state_dir=tmp_path / "2").success
    fences = world.markers()
    assert fences
    for _ in range(2):
        _other_command(world, third_s, tmp_path / "3")
    assert world.markers() == fences
    world.proxy.release()
    assert world.proxy.done["Late ALREADY_EXISTS"] + world.proxy.done["Late OK"] <= 1
    assert world.proxy.done["Late OK"] == 0
    assert world.violations(children=True) == []
    with later(1200):
        _other_command(world, -HOUR_S, tmp_path / "3")
    assert world.markers() == []


@pytest.mark.one_in(2)
@APART
def test_a_clock_that_is_wrong_by_an_hour_removes_no_marker_too_early(
    server: Server, make_world: MakeWorld, tmp_path: Path, second_s: float, third_s: float
) -> None:
    """A commit was retried, and its first copy arrives after the run. Its marker has to stay."""
    world = make_world(server, SIZE)
    world.proxy.faults = _hold_back_the_second_batch
    stopped = world.run("OneChild", Options(batch_size=4, in_flight=1, limit=8))
    assert stopped.exit_code is Exit.LIMIT
    world.proxy.faults = no_faults
    second = quick_clock(ahead_s=second_s or third_s)
    assert world.resume(SMALL, clock=second).success
    _other_command(world, third_s, tmp_path / "3")
    assert world.markers()
    world.proxy.release()
    assert world.proxy.done["Late OK"] == 0
    assert world.violations(incremented=False, children=True) == []


def _ledger(world: World, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", world.server.host)
    target = resolve(world.server.project)
    monkeypatch.delenv("DATASTORE_EMULATOR_HOST")
    return Ledger(Rpc(target.client), target.info)


@pytest.mark.one_in(2)
@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S], ids=["ahead", "behind"])
@pytest.mark.parametrize("name", ["EM", "FS"])  # LF never tells its time
def test_a_live_run_is_not_taken_over_by_a_machine_with_another_clock(
    request: pytest.FixtureRequest,
    make_world: MakeWorld,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    ahead_s: float,
) -> None:
    world = make_world(request.getfixturevalue({"EM": "embedded", "FS": "fs"}[name]), SIZE)
    stopped = world.run("Increment", Options(batch_size=4, limit=8))
    ledger = _ledger(world, monkeypatch)
    record = ledger.read(stopped.run_id)
    assert record is not None
    far = Holder("r1", "ann@far", "far/boot", 77, "1")
    lease = LeaseTerms(far, int(time.time() + LEASE_S), record.lease.generation + 1)
    held = ledger.write(replace(record, state=RunState.RUNNING, lease=lease))
    with pytest.raises(HeldError, match=r"last sign of life \d s ago"):
        world.run("Increment", SMALL, clock=quick_clock(ahead_s=ahead_s))
    # Its process was killed a minute ago.
    expired = replace(lease, until=int(time.time()) - 1)
    ledger.write(replace(held, lease=expired))
    assert world.run("Increment", SMALL, clock=quick_clock(ahead_s=ahead_s)).success
    assert world.violations() == []


@pytest.mark.parametrize("name", ["EM", "FS"])
def test_the_times_of_a_run_are_the_servers(
    request: pytest.FixtureRequest, make_world: MakeWorld, name: str
) -> None:
    world = make_world(request.getfixturevalue({"EM": "embedded", "FS": "fs"}[name]), SIZE)
    began = time.time()
    report = world.run("Increment", SMALL, clock=quick_clock(ahead_s=HOUR_S))
    assert report.success
    for moment in (report.started, report.ended):
        assert moment is not None
        assert began - 10 < moment.timestamp() < time.time() + 10
    (record,) = world.client.query(kind="BulkupRun").fetch()
    for name in ("started", "ended"):
        assert began - 10 < record[name].timestamp() < time.time() + 10


def test_a_clock_that_is_set_during_the_run_changes_nothing(
    server: Server, make_world: MakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong clock is set right by an hour while the run works: its lease does not lapse."""
    world = make_world(server, SIZE)
    ahead = [HOUR_S]
    clock = quick_clock()
    clock = replace(clock, unix=lambda: time.time() + ahead[0])
    checks: list[Lease] = []
    update = Lease.update

    def counting(lease: Lease, *args: Any, **more: Any) -> None:
        checks.append(lease)
        update(lease, *args, **more)

    monkeypatch.setattr(Lease, "update", counting)

    def set_back(number: int, method: str) -> None:
        if method == "Commit":
            ahead[0] = -ahead[0]

    assert world.run("Increment", SMALL, clock=clock, on_send=set_back).success
    assert len(checks) == 1  # the end of the run
    assert world.violations() == []

"""Two runners of one run at once, on separate copies of its state; both believe they hold it.

Nothing may be applied twice, one of them must finish, and the other stops with exit code 11.
"""

from __future__ import annotations

import random
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from bulkup.core.errors import Exit
from bulkup.core.model import RunState
from bulkup.engine.options import Options
from tests.chaos.bench import UPDATERS, Crash, World
from tests.chaos.child import bulkup, outcome, start
from tests.chaos.conftest import STRIDES, MakeWorld
from tests.chaos.duel import Runner
from tests.chaos.proxy import Action, Hang, Pass, Seen, no_faults
from tests.conftest import Server

OPTIONS = Options(batch_size=4, in_flight=2)
"""Two entities of two writes each in a commit."""


@pytest.fixture(autouse=True, params=[1, pytest.param(3, marks=pytest.mark.chaos)], ids=str)
def shards(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many shards every runner works on at once."""
    monkeypatch.setattr(__name__ + ".OPTIONS", replace(OPTIONS, shards=request.param))
    return int(request.param)


def _copy_state(world: World) -> Path:
    copy = world.state_dir.with_name(world.state_dir.name + "-copy")
    shutil.copytree(world.state_dir, copy)
    return copy


def _resumer(name: str, world: World, state_dir: Path) -> Runner:
    return Runner(name, lambda on_send: world.resume(OPTIONS, state_dir=state_dir, on_send=on_send))


def _crashed_run(world: World, at_commit: int) -> None:
    """Leave a run that crashed before it sent its `at_commit`-th batch."""
    commits = 0

    def crash(number: int, method: str) -> None:
        nonlocal commits
        commits += method == "Commit"
        if commits == at_commit:
            raise Crash

    with pytest.raises(Crash):
        world.run("IncrementWithChild", OPTIONS, on_send=crash)


def _judge(world: World, one: Runner, other: Runner, story: str) -> None:
    for runner in (one, other):
        if runner.bug is not None:
            raise runner.bug
    codes = sorted(code for code in (one.exit_code, other.exit_code) if code is not None)
    story = f"{story}: {one.name} {one.exit_code}, {other.name} {other.exit_code}"
    assert world.violations(children=True) == [], story
    # NOT_FOUND: it continued before its work had begun, and the run was finished.
    assert codes in ([Exit.DONE, Exit.HELD], [Exit.DONE, Exit.NOT_FOUND]), story


@STRIDES
@pytest.mark.parametrize("how", ["stopped cleanly", "killed"])
def test_one_runner_sleeps_at_any_call_while_the_other_finishes_the_run(
    lf: Server, make_world: MakeWorld, how: str, stride: int
) -> None:
    """Both resume the same state; one sleeps before its k-th call until the other has ended."""
    for k in range(3 % stride, 60, stride):
        world = make_world(lf, 15)
        if how == "killed":
            _crashed_run(world, 4)
        else:
            report = world.run("IncrementWithChild", Options(batch_size=4, limit=5))
            assert report.state is RunState.STOPPED
        copy = _copy_state(world)
        sleeper = _resumer("sleeper", world, world.state_dir)
        for _ in range(k):
            if not sleeper.over:
                sleeper.step()
        slept_in_the_middle = not sleeper.over
        other = _resumer("other", world, copy)
        other.run_to_end()
        sleeper.run_to_end()
        _judge(world, sleeper, other, f"slept before call {k}")
        if not slept_in_the_middle:
            return
    pytest.fail("the sleeper never ended")


@STRIDES
def test_a_copy_of_a_running_runs_state_is_resumed_at_any_call(
    lf: Server, make_world: MakeWorld, stride: int
) -> None:
    """The state of a running run is copied, and the copy is resumed at once and finished."""
    for k in range(3, 60, stride):
        world = make_world(lf, 15)
        first = Runner(
            "first",
            lambda on_send, world=world: world.run(  # type: ignore[misc]
                "IncrementWithChild", OPTIONS, on_send=on_send
            ),
        )
        for _ in range(k):
            if not first.over:
                first.step()
        if first.over:
            assert k > 8
            return
        if not world.has_run():
            first.run_to_end()
            continue
        copy = _copy_state(world)
        second = _resumer("second", world, copy)
        second.run_to_end()
        first.run_to_end()
        _judge(world, first, second, f"copied before call {k}")
    pytest.fail("the first runner never ended")


def test_a_second_process_cannot_take_the_state_of_a_running_run(
    lf: Server, make_world: MakeWorld, tmp_path: Path
) -> None:
    world = make_world(lf, 30)
    there = threading.Event()

    def hang(seen: Seen) -> Action:
        if seen.method == "Commit" and seen.nth >= 2:
            there.set()
            return Hang()
        return Pass()

    world.proxy.faults = hang
    options = ["--batch-size", "5", "-q", "--state-dir", str(world.state_dir)]
    first, folder = start(
        ["run", f"{UPDATERS}:IncrementWithChild", "--project", world.server.project, *options],
        emulator=world.proxy.address, folder=tmp_path / "first",
    )  # fmt: skip
    assert there.wait(30)
    second = bulkup(["resume", *options], emulator=world.proxy.address, folder=tmp_path / "second")
    world.proxy.faults = no_faults
    world.proxy.unhang()
    first.join(30)
    assert second.code == Exit.HELD, second.output
    assert str(first.pid) in second.output
    ended = outcome(first, folder)
    assert ended.code == 0, ended.output
    assert world.violations(children=True) == []


def _any_schedule(make_world: MakeWorld, server: Server, seed: int) -> None:
    """A seeded start (killed, stopped, alive), then steps in a seeded order."""
    rng = random.Random(seed)
    world = make_world(server, 15)
    start = rng.choice(["killed", "stopped", "alive"])
    if start == "alive":
        one = Runner(
            "one", lambda on_send: world.run("IncrementWithChild", OPTIONS, on_send=on_send)
        )
        for _ in range(rng.randint(2, 9)):
            one.step()
        while not world.has_run():
            one.step()
        copy = _copy_state(world)
    else:
        if start == "killed":
            _crashed_run(world, rng.randint(1, 7))
        else:
            world.run("IncrementWithChild", Options(batch_size=4, limit=rng.randint(1, 9)))
        copy = _copy_state(world)
        one = _resumer("one", world, world.state_dir)
    other = _resumer("other", world, copy)
    # In bursts, because with even turns neither gets far ahead.
    story = []
    while not (one.over and other.over):
        mover = rng.choice([r for r in (one, other) if not r.over])
        burst = rng.choice([1, 1, 2, 4, 12])
        story.append(f"{mover.name} {burst}")
        for _ in range(burst):
            if not mover.over:
                mover.step()
    _judge(world, one, other, f"seed {seed}, the first run was {start}; steps: {', '.join(story)}")


@pytest.mark.one_in(4)
@pytest.mark.parametrize("seed", range(8))
def test_no_order_of_steps_of_two_runners_applies_anything_twice(
    lf: Server, make_world: MakeWorld, seed: int
) -> None:
    _any_schedule(make_world, lf, seed)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(1000, 1050))
def test_no_order_of_steps_of_two_runners_applies_anything_twice_on_any_server(
    server: Server, make_world: MakeWorld, seed: int
) -> None:
    _any_schedule(make_world, server, seed)

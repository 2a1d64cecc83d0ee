"""A child process is killed at every event of a small run, then resumed: the result is the same.

An event is a call sent, an answer received, a local write about to be committed, or committed.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from bulkup.core.errors import Exit
from bulkup.core.model import RunState
from tests.chaos.bench import UPDATERS, World, checkpoint_state
from tests.chaos.child import EVENTS, Death, Outcome, bulkup
from tests.chaos.conftest import STRIDES, MakeWorld
from tests.conftest import Server

SIZE = 6

WORKING = ("--batch-size", "4", "--in-flight", "2", "-q")
"""Two entities with two writes each per commit. Small, because every event costs two processes."""


def _run(world: World, updater: str, folder: Path, death: Death | None) -> Outcome:
    return bulkup(
        ["run", f"{UPDATERS}:{updater}", "--project", world.server.project, *WORKING,
         "--state-dir", str(world.state_dir)],
        emulator=world.proxy.address, folder=folder, death=death,
    )  # fmt: skip


def _resume(world: World, folder: Path, death: Death | None = None) -> Outcome:
    return bulkup(
        ["resume", *WORKING, "--state-dir", str(world.state_dir)],
        emulator=world.proxy.address, folder=folder, death=death,
    )  # fmt: skip


def _end_state(world: World) -> dict[str, Any]:
    """Everything in Datastore except markers. Children by number, because the server chooses their
    ids."""
    children = Counter(c.key.parent.id for c in world.client.query(kind="Child").fetch())
    return {"things": {k: dict(v) for k, v in world.things().items()}, "children": children}


def _uninterrupted(
    make_world: MakeWorld, server: Server, updater: str, folder: Path
) -> tuple[dict[str, int], dict[str, Any]]:
    world = make_world(server, SIZE)
    lived = _run(world, updater, folder, None)
    assert lived.code == 0, lived.output
    assert world.markers() == []
    return lived.events, _end_state(world)


def _crash_at_every(
    make_world: MakeWorld, server: Server, updater: str, event: str, tmp_path: Path, stride: int = 1
) -> int:
    events, wanted = _uninterrupted(make_world, server, updater, tmp_path)
    for at in range(events[event] % stride or stride, events[event] + 1, stride):
        world = make_world(server, SIZE)
        death = Death(event, at)
        if not _run(world, updater, tmp_path, death).was_killed(death):
            continue
        lived = _resume(world, tmp_path)
        if lived.code == Exit.NOT_FOUND and not world.has_run():
            # Killed before the run was recorded: nothing to resume, and nothing may have been done.
            assert not any(t["n"] for t in world.things().values()), f"{event} {at}"
            lived = _run(world, updater, tmp_path, None)
        finished = lived.code == Exit.NOT_FOUND and checkpoint_state(world) is RunState.FINISHED
        assert finished or lived.code == 0, f"{event} {at}: {lived.output}"
        assert _end_state(world) == wanted, f"killed at {event} {at}"
        world.clear_old_markers()
        assert world.markers() == [], f"killed at {event} {at}"
    return events[event]


@STRIDES
@pytest.mark.parametrize("event", EVENTS)
def test_a_run_killed_at_any_event_and_resumed_ends_like_one_that_was_not_interrupted(
    lf: Server, make_world: MakeWorld, tmp_path: Path, event: str, stride: int
) -> None:
    points = _crash_at_every(make_world, lf, "IncrementWithChild", event, tmp_path, stride)
    assert points >= 6, "the run was too small to show anything"


@pytest.mark.chaos
@pytest.mark.parametrize("updater", ["Increment", "OneChild"])
@pytest.mark.parametrize("event", EVENTS)
def test_a_run_killed_at_any_event_ends_the_same_on_another_server(
    fs: Server, make_world: MakeWorld, tmp_path: Path, updater: str, event: str
) -> None:
    _crash_at_every(make_world, fs, updater, event, tmp_path)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("updater", ["InBatches", "AtOnce"])
@pytest.mark.parametrize("event", EVENTS)
def test_a_run_of_any_form_that_is_killed_at_any_event_ends_the_same(
    server: Server, make_world: MakeWorld, tmp_path: Path, updater: str, event: str
) -> None:
    _crash_at_every(make_world, server, updater, event, tmp_path)


def _killed_repeatedly(make_world: MakeWorld, server: Server, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    world = make_world(server, 40)
    updater = rng.choice(["Increment", "OneChild", "IncrementWithChild"])
    deaths = []
    for nth in range(10):
        death = Death(rng.choice(EVENTS), rng.randint(2, 14)) if nth < 6 else None
        if world.has_run():
            one = _resume(world, tmp_path, death)
        else:
            one = _run(world, updater, tmp_path, death)
        deaths.append(f"{death}: {one.code}")
        if one.code == 0 or (one.code == Exit.NOT_FOUND and "finished" in one.output):
            break
        assert one.code == -9, f"{deaths} {one.output}"
    assert checkpoint_state(world) is RunState.FINISHED, deaths
    assert world.violations(incremented=updater != "OneChild", children="Child" in updater) == [], (
        f"seed {seed}, {updater}: {deaths}"
    )
    world.clear_old_markers()
    assert world.markers() == []


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.chaos) for seed in (2, 3))]
)
def test_a_run_killed_repeatedly_ends_the_same(
    lf: Server, make_world: MakeWorld, tmp_path: Path, seed: int
) -> None:
    _killed_repeatedly(make_world, lf, tmp_path, seed)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(1000, 1020))
def test_a_run_killed_repeatedly_ends_the_same_on_any_server(
    server: Server, make_world: MakeWorld, tmp_path: Path, seed: int
) -> None:
    _killed_repeatedly(make_world, server, tmp_path, seed)

"""Runs in ranges that are killed at any event, undos of them that are, and undos beside live
users."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bulkup.core.errors import Exit
from bulkup.core.model import RunState
from bulkup.engine import splits
from bulkup.engine.options import Options
from bulkup.runs.start import Cutting
from bulkup.state.range_folders import range_folders
from tests.chaos.bench import World
from tests.chaos.child import CHILD_TIMEOUT_S, EVENTS, Death, Outcome, outcome, start
from tests.chaos.conftest import MakeWorld
from tests.chaos.undoing import (
    OPTIONS,
    UPDATER,
    command,
    first_run,
    is_undone_by_the_same_command,
    killed_at_each,
    undo_beside_live_users,
)
from tests.conftest import Server
from tests.runs.undoing import entities

SIZE = 12
SWEEPS = pytest.mark.parametrize(
    ("event", "stride"),
    [
        ("sent", 19),
        *(
            pytest.param(event, 1, marks=(pytest.mark.chaos, pytest.mark.timeout(1800)))
            for event in EVENTS
        ),
    ],
)


@pytest.fixture(autouse=True)
def _small_kinds_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "MIN_PROBED_ENTITIES", 1)


def cut(world: World) -> str:
    """Begin a run in ranges, and stop it inside the first. Returns its id."""
    report = world.run(UPDATER, Options(limit=3, batch_size=2), cutting=Cutting(3))
    assert report.state is RunState.STOPPED
    return report.run_id


def resume(world: World, folder: Path, death: Death | None = None) -> Outcome:
    return command(world, folder, "resume", first_run(world), death=death)


@SWEEPS
@pytest.mark.parametrize("resumes", [False, True], ids=["undone at once", "resumed first"])
def test_a_run_in_ranges_killed_at_any_event_is_undone(
    lf: Server, make_world: MakeWorld, tmp_path: Path, event: str, resumes: bool, stride: int
) -> None:
    was: dict[str, bytes] = {}

    def before(world: World) -> None:
        was.clear()
        was.update(entities(world.server))
        cut(world)

    def after(world: World) -> None:
        name = first_run(world)
        if resumes:
            resumed = resume(world, tmp_path)
            assert resumed.code in (0, Exit.NOT_FOUND), resumed.output
        undone = command(world, tmp_path, "undo", name)
        assert undone.code == 0, undone.output
        assert entities(world.server) == was, undone.output
        assert len(range_folders(world.state_dir / name)) >= 1

    killed_at_each(
        make_world, lf, event, stride, lambda world, death: resume(world, tmp_path, death),
        before, after, size=SIZE,
    )  # fmt: skip


@SWEEPS
@pytest.mark.parametrize("ends", [False, True], ids=["of a stopped run", "of a finished run"])
def test_an_undo_of_ranges_killed_at_any_event_is_done_by_the_same_command(
    lf: Server, make_world: MakeWorld, tmp_path: Path, event: str, ends: bool, stride: int
) -> None:
    was: dict[str, bytes] = {}

    def before(world: World) -> None:
        was.clear()
        was.update(entities(world.server))
        cut(world)
        if ends:
            assert resume(world, tmp_path).code == 0
        assert entities(world.server) != was

    def after(world: World) -> None:
        is_undone_by_the_same_command(world, tmp_path, was)

    killed_at_each(
        make_world, lf, event, stride,
        lambda world, death: command(world, tmp_path, "undo", first_run(world), death=death),
        before, after, size=SIZE,
    )  # fmt: skip


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.chaos) for seed in range(1, 30))]
)
def test_what_two_processes_did_is_undone_though_one_is_killed(
    server: Server, make_world: MakeWorld, tmp_path: Path, seed: int
) -> None:
    """They share a state directory, and write each other's entities and a counter."""
    dice = random.Random(seed)
    world = make_world(server, 60)
    was = entities(world.server)
    name = world.run("Neighbours", Options(limit=3, batch_size=2), cutting=Cutting(6)).run_id
    words = ["resume", name, "--project", world.server.project, "--batch-size", "3", "-q"]
    death = Death(dice.choice(["sent", "answer", "written"]), dice.randint(10, 60))
    begun = [
        start(
            [*words, "--state-dir", str(world.state_dir)],
            emulator=world.proxy.address, folder=tmp_path / f"child-{number}", death=one,
        )
        for number, one in enumerate((death, None))
    ]  # fmt: skip
    for process, _ in begun:
        process.join(CHILD_TIMEOUT_S)
    killed, lived = (outcome(*one) for one in begun)
    assert killed.code in (0, -9), killed.output
    assert lived.code >= 0, lived.output  # they may get into each other's way too often
    if dice.random() < 0.5:
        at = Death(dice.choice(["sent", "answer", "written"]), dice.randint(3, 40))
        command(world, tmp_path, "undo", name, death=at)
    undone = command(world, tmp_path, "undo", name)
    assert undone.code in (0, Exit.NOT_FOUND), undone.output
    assert entities(world.server) == was, undone.output


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.chaos) for seed in range(1, 10))]
)
def test_an_undo_of_ranges_while_users_write_loses_none_of_their_writes(
    server: Server, make_world: MakeWorld, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(seed)
    world = make_world(server, 60)
    report = world.run("Increment", OPTIONS, cutting=Cutting(4))
    assert report.state is RunState.FINISHED
    undo_beside_live_users(world, report.run_id, dice, monkeypatch)

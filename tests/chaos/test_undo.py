"""Runs and undos that are killed at any event, and undos beside live users."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from bulkup.core.errors import Exit
from bulkup.state.files import run_folders
from tests.chaos.bench import World
from tests.chaos.child import EVENTS
from tests.chaos.conftest import STRIDES, MakeWorld
from tests.chaos.undoing import (
    OPTIONS,
    command,
    first_run,
    is_undone_by_the_same_command,
    killed_at_each,
    run,
    undo_beside_live_users,
)
from tests.conftest import Server
from tests.runs.undoing import entities

pytestmark = pytest.mark.sampled(2)


@STRIDES
@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("resumes", [False, True], ids=["undone at once", "resumed first"])
def test_a_run_killed_at_any_event_is_undone(
    lf: Server, make_world: MakeWorld, tmp_path: Path, event: str, resumes: bool, stride: int
) -> None:
    was: dict[str, bytes] = {}

    def before(world: World) -> None:
        was.clear()
        was.update(entities(world.server))

    def after(world: World) -> None:
        if not world.has_run():
            assert entities(world.server) == was
            return
        name = first_run(world)
        if resumes:
            resumed = run(world, tmp_path)
            assert resumed.code == 0, resumed.output
            name = run_folders(world.state_dir)[-1].name
        undone = command(world, tmp_path, "undo", name)
        # Killed before it had written anything, or before Datastore knew of it.
        assert undone.code in (0, Exit.NOT_FOUND), undone.output
        assert entities(world.server) == was, undone.output

    killed_at_each(
        make_world, lf, event, stride, lambda world, death: run(world, tmp_path, death),
        before, after,
    )  # fmt: skip


@STRIDES
@pytest.mark.parametrize("event", EVENTS)
def test_an_undo_killed_at_any_event_is_done_by_the_same_command(
    lf: Server, make_world: MakeWorld, tmp_path: Path, event: str, stride: int
) -> None:
    was: dict[str, bytes] = {}

    def before(world: World) -> None:
        was.clear()
        was.update(entities(world.server))
        assert run(world, tmp_path).code == 0
        assert entities(world.server) != was

    def after(world: World) -> None:
        is_undone_by_the_same_command(world, tmp_path, was)

    killed_at_each(
        make_world, lf, event, stride,
        lambda world, death: command(world, tmp_path, "undo", first_run(world), death=death),
        before, after,
    )  # fmt: skip


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.chaos) for seed in range(1, 10))]
)
def test_an_undo_while_users_write_loses_none_of_their_writes(
    server: Server, make_world: MakeWorld, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(seed)
    world = make_world(server, 120)
    report = world.run("Increment", OPTIONS)
    undo_beside_live_users(world, report.run_id, dice, monkeypatch)

"""Undos that are killed, and undos beside live users: of runs as of runs in ranges."""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from bulkup.core.errors import Exit
from bulkup.engine.options import Options
from bulkup.runs.context import RunContext
from bulkup.runs.target import TargetOptions
from bulkup.runs.undo import UndoWishes, undo
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.files import run_folders
from tests.chaos.bench import UPDATERS, World
from tests.chaos.child import Death, Outcome, bulkup
from tests.chaos.conftest import MakeWorld
from tests.conftest import Server
from tests.runs.undoing import entities

OPTIONS = Options(batch_size=10, in_flight=4)
SIZE = 6
WORKING = ("--batch-size", "4", "--in-flight", "2", "-q")
UPDATER = "IncrementWithChild"


def command(world: World, folder: Path, *words: str, death: Death | None = None) -> Outcome:
    return bulkup(
        [*words, "--project", world.server.project, *WORKING, "--state-dir", str(world.state_dir)],
        emulator=world.proxy.address, folder=folder, death=death,
    )  # fmt: skip


def run(world: World, folder: Path, death: Death | None = None) -> Outcome:
    return command(world, folder, "run", f"{UPDATERS}:{UPDATER}", death=death)


def first_run(world: World) -> str:
    return run_folders(world.state_dir)[0].name


def killed_at_each(
    make_world: MakeWorld,
    server: Server,
    event: str,
    stride: int,
    killed: Callable[[World, Death | None], Outcome],
    before: Callable[[World], None],
    after: Callable[[World], None],
    *,
    size: int = SIZE,
) -> None:
    """Kill a command at every event of this kind. `before` prepares it, `after` checks it."""
    world = make_world(server, size)
    before(world)
    lived = killed(world, None)
    assert lived.code == 0, lived.output
    count = lived.events[event]
    assert count >= 3
    for at in range(count % stride or stride, count + 1, stride):
        world = make_world(server, size)
        before(world)
        death = Death(event, at)
        if not killed(world, death).was_killed(death):
            continue
        after(world)


def is_undone_by_the_same_command(world: World, folder: Path, was: dict[str, bytes]) -> None:
    """The undo that was killed is typed again, and then there is nothing left to undo."""
    again = command(world, folder, "undo", first_run(world))
    assert again.code in (0, Exit.NOT_FOUND), again.output
    assert entities(world.server) == was, again.output
    twice = command(world, folder, "undo", first_run(world))
    assert twice.code == Exit.NOT_FOUND, twice.output


def undo_beside_live_users(
    world: World, run_id: str, dice: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything is put back, except where users have written, whose values stay."""
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", world.proxy.address)
    context = RunContext(OPTIONS, world.state_dir, lambda event: None)
    target = TargetOptions(project=world.server.project)
    with world.live_writers(3, lambda: dice.randint(1, world.size)):
        undone = undo(run_id, target, context, UndoWishes())
    with closing(Checkpoint.open(world.state_dir / undone.run_id)) as checkpoint:
        left = {int(key.split(", ")[1].strip(")")) for key in checkpoint.failed_keys()}
    things = world.things()
    assert {id_: thing["m"] for id_, thing in things.items() if thing["m"]} == dict(world.live)
    # Put back, but for those that a live user had written to before.
    assert {id_ for id_, thing in things.items() if thing["n"]} == left
    assert left <= set(world.live)

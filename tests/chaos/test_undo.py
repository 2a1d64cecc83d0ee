"""Runs and undos that are killed at any event, and undos beside live users."""

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
from tests.chaos.child import EVENTS, Death, Outcome, bulkup
from tests.chaos.conftest import STRIDES, MakeWorld
from tests.conftest import Server
from tests.runs.undoing import entities

pytestmark = pytest.mark.sampled(2)

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
        again = command(world, tmp_path, "undo", first_run(world))
        assert again.code in (0, Exit.NOT_FOUND), again.output
        assert entities(world.server) == was, again.output
        twice = command(world, tmp_path, "undo", first_run(world))
        assert twice.code == Exit.NOT_FOUND, twice.output

    killed_at_each(
        make_world, lf, event, stride,
        lambda world, death: command(world, tmp_path, "undo", first_run(world), death=death),
        before, after,
    )  # fmt: skip


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.chaos) for seed in range(1, 10))]
)
def test_an_undo_beside_live_users_loses_none_of_their_writes(
    server: Server, make_world: MakeWorld, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = random.Random(seed)
    world = make_world(server, 120)
    options = Options(batch_size=10, in_flight=4)
    report = world.run("Increment", options)
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", world.proxy.address)
    context = RunContext(options, world.state_dir, lambda event: None)
    target = TargetOptions(project=world.server.project)
    with world.live_writers(3, lambda: dice.randint(1, world.size)):
        undone = undo(report.run_id, target, context, UndoWishes())
    with closing(Checkpoint.open(world.state_dir / undone.run_id)) as checkpoint:
        left = {int(key.split(", ")[1].strip(")")) for key in checkpoint.failed_keys()}
    things = world.things()
    assert {id_: thing["m"] for id_, thing in things.items() if thing["m"]} == dict(world.live)
    # Put back, but for those that a live user had written to before.
    assert {id_ for id_, thing in things.items() if thing["n"]} == left
    assert left <= set(world.live)

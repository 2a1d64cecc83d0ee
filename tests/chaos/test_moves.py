"""Trees that change-key moves, by a process that is killed at any event: none is ever in two parts.

Each tree is under its old key or its new one, whole, at every moment; and in the end each has moved
once, and each reference to an old key is listed once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.bench import World
from tests.chaos.child import EVENTS, Death, Outcome, bulkup
from tests.chaos.conftest import MakeWorld
from tests.cli.shell import entity, put
from tests.conftest import Server

SIZE = 6
NOTES = 3
"""Of every second Thing."""

WORKING = ("--batch-size", "4", "--in-flight", "2", "-q")


def _run(world: World, folder: Path, death: Death | None = None) -> Outcome:
    return bulkup(
        ["run", "change-key", "--kind", "Thing", "-p", "key_from=label", "-p", "old_key_in=was",
         "-p", "references=Order", "--project", world.server.project, *WORKING,
         "--state-dir", str(world.state_dir)],
        emulator=world.proxy.address, folder=folder, death=death,
    )  # fmt: skip


def _make(make_world: MakeWorld, server: Server) -> World:
    world = make_world(server, SIZE, label=lambda id_: f"t{id_}")
    client = world.client
    for id_ in range(2, SIZE + 1, 2):
        put(client, (entity(client, "Thing", id_, "Note", n, n=n) for n in range(NOTES)[1:]))
        put(client, [entity(client, "Thing", id_, "Note", 1, "Line", 1)])
    put(client, (entity(client, "Order", i, of=client.key("Thing", i)) for i in (1, 2, 3)))
    return world


def _trees(world: World) -> dict[Any, set[tuple[Any, ...]]]:
    """What is below each Thing's key, by its id or name. Read by one query, as it was at one time:
    a commit of the killed process may still land."""
    found: dict[Any, set[tuple[Any, ...]]] = {}
    for one in world.client.query().fetch():
        kind, id_or_name, *below = one.key.flat_path
        if kind == "Thing":
            there = found.setdefault(id_or_name, set())
            there.add(tuple(below))
    return found


ALONE: set[tuple[Any, ...]] = {()}
WHOLE = {(), ("Note", 1), ("Note", 2), ("Note", 1, "Line", 1)}


def _check_whole(world: World, told: str) -> None:
    trees = _trees(world)
    for id_ in range(1, SIZE + 1):
        there = [key for key in (id_, f"t{id_}") if key in trees]
        assert len(there) == 1, (told, id_, trees)
        assert trees[there[0]] == (ALONE if id_ % 2 else WHOLE), (told, id_, trees)
    assert len(trees) == SIZE, (told, trees)


def _crash_at_every(
    make_world: MakeWorld, server: Server, event: str, folder: Path, stride: int
) -> None:
    world = _make(make_world, server)
    _check_whole(world, "before")
    lived = _run(world, folder)
    assert lived.code == 0, lived.output
    _check_end(world, folder, "not killed")
    count = lived.events[event]
    assert count > 10
    for at in range(count % stride or stride, count + 1, stride):
        told = f"killed at {event} {at}"
        world = _make(make_world, server)
        death = Death(event, at)
        if not _run(world, folder, death).was_killed(death):
            continue
        _check_whole(world, told)
        lived = _run(world, folder)
        assert lived.code == 0, (told, lived.output)
        _check_end(world, folder, told)


def _check_end(world: World, folder: Path, told: str) -> None:
    _check_whole(world, told)
    trees = _trees(world)
    assert all(isinstance(key, str) for key in trees), (told, trees)
    moved = list(world.client.query(kind="Thing").fetch())
    assert {e["was"].id: e.key.name for e in moved} == {
        id_: f"t{id_}" for id_ in range(1, SIZE + 1)
    }, told
    shown = bulkup(
        ["show", "--json", "--state-dir", str(world.state_dir)],
        emulator=world.proxy.address, folder=folder,
    )  # fmt: skip
    listed = [json.loads(line) for line in shown.output.splitlines()]
    gone = "'of' refers to Key('Thing', {0}), which is not there; now Key('Thing', 't{0}')"
    assert sorted(line["line"] for line in listed if line["type"] == "log") == [
        f"Key('Order', {id_}): {gone.format(id_)}" for id_ in (1, 2, 3)
    ], (told, shown.output)


@pytest.mark.parametrize(
    "stride",
    [
        pytest.param(15, id="some"),
        pytest.param(1, id="every", marks=(pytest.mark.chaos, pytest.mark.timeout(1800))),
    ],
)
def test_a_tree_is_whole_wherever_its_move_is_killed(
    embedded: Server, make_world: MakeWorld, tmp_path: Path, stride: int
) -> None:
    _crash_at_every(make_world, embedded, "answer", tmp_path, stride)


@pytest.mark.chaos
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("server", ["LF", "FS"], indirect=True)
def test_a_tree_is_whole_wherever_its_move_is_killed_on_another_server(
    server: Server, make_world: MakeWorld, tmp_path: Path, event: str
) -> None:
    _crash_at_every(make_world, server, event, tmp_path, 3)

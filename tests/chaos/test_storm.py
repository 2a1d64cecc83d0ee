"""Runs with random faults. Repeat a failed one by its seed:

pytest "tests/chaos/test_storm.py::test_no_storm_breaks_the_promise[17-LF]"
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.chaos.conftest import MakeWorld
from tests.chaos.storm import weather
from tests.chaos.updaters import MAKERS
from tests.conftest import Server

UPDATERS = [
    "Increment",
    "OneChild",
    "IncrementWithChild",
    "Move",
    "Poisoned",
    "Neighbours",
    *MAKERS,
]

POISON = {4: "long string", 5: "raises", 11: "bad name"}
"""Bad entities for Poisoned, by id: their batches are halved, and committed in parts."""

EVERY_DAY = range(3)
OF_LF = range(3, 20)
NIGHTLY = range(1000, 1070)
"""On three servers each."""


def _storm(make_world: MakeWorld, server: Server, seed: int, tmp_path: Path) -> None:
    updater = UPDATERS[seed % len(UPDATERS)]
    poison = POISON if updater == "Poisoned" else {}
    world = make_world(server, (20, 40)[seed % 3 == 0], poison=poison.get)
    end = weather(world, seed, updater, tmp_path)
    story = f"seed {seed}, {updater} on {server.name}: {'; '.join(end.story)}; {world.proxy.done}"
    assert end.finished, story
    if updater in MAKERS:
        found = world.made_violations(updater)
    else:
        found = world.violations(incremented=updater != "OneChild", children="Child" in updater)
    assert found == [f"thing {id_} has n = 0" for id_ in poison], story
    if updater == "Neighbours":
        assert world.groups() == Counter(id_ % 4 + 1 for id_ in range(1, world.size + 1)), story
    if not end.lost:
        counts = end.counts
        assert (counts.handled, counts.failed) == (world.size, len(poison)), story
    elif "is lost" not in end.lost:
        assert end.counts.failed == len(poison), story
    world.clear_old_markers()
    assert world.markers() == [], story


@pytest.mark.parametrize(
    "seed", [*EVERY_DAY, *(pytest.param(seed, marks=pytest.mark.chaos) for seed in OF_LF)]
)
def test_no_storm_breaks_the_promise(
    lf: Server, make_world: MakeWorld, seed: int, tmp_path: Path
) -> None:
    _storm(make_world, lf, seed, tmp_path)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", NIGHTLY)
def test_no_storm_breaks_the_promise_on_any_server(
    server: Server, make_world: MakeWorld, seed: int, tmp_path: Path
) -> None:
    _storm(make_world, server, seed, tmp_path)

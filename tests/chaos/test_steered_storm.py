"""Runs in storms of faults that are paused, tuned, continued and cancelled all the while."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.conftest import MakeWorld
from tests.chaos.helm import Helm
from tests.chaos.storm import weather
from tests.conftest import Server

UPDATERS = ["Increment", "IncrementWithChild", "Neighbours", "Move"]
EVERY_DAY = range(3)
NIGHTLY = range(3, 40)


def _storm(make_world: MakeWorld, server: Server, seed: int, tmp_path: Path) -> None:
    updater = UPDATERS[seed % len(UPDATERS)]
    world = make_world(server, 30)
    with Helm(world, seed) as helm:
        end = weather(world, seed, updater, tmp_path)
    story = f"seed {seed}, {updater} on {server.name}: {'; '.join(end.story)}; {helm.done}"
    assert end.finished, story
    assert world.violations(children="Child" in updater) == [], story
    if not end.lost:
        assert (end.counts.handled, end.counts.failed) == (world.size, 0), story
    assert helm.done, story


@pytest.mark.parametrize("seed", EVERY_DAY)
def test_no_storm_breaks_the_promise_of_a_run_that_is_steered(
    embedded: Server, make_world: MakeWorld, seed: int, tmp_path: Path
) -> None:
    _storm(make_world, embedded, seed, tmp_path)


@pytest.mark.chaos
@pytest.mark.parametrize("seed", NIGHTLY)
def test_no_storm_breaks_the_promise_of_a_run_that_is_steered_on_any_server(
    server: Server, make_world: MakeWorld, seed: int, tmp_path: Path
) -> None:
    _storm(make_world, server, seed, tmp_path)

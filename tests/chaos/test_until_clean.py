"""Passes beside live users, killed at random calls: in the end nothing is left to write."""

from __future__ import annotations

import random
import shutil

import pytest
from google.cloud import datastore

from bulkup.core.errors import NotFoundError
from bulkup.core.events import Event, RunStarted
from bulkup.engine.options import Options
from tests.chaos.bench import Crash, World
from tests.chaos.conftest import MakeWorld
from tests.conftest import Server

pytestmark = pytest.mark.sampled(2)

MOST_CALLS = 60


class LiveUser:
    """Resets some things and makes new ones, before and behind the cursor, `left` times; and kills
    the runner at a call, or not."""

    def __init__(self, rng: random.Random, world: World) -> None:
        self.rng, self.world = rng, world
        self.left = rng.randint(0, 8)
        self.written = dict.fromkeys(range(1, world.size + 1), "")
        """The pass that worked when a thing was written last, by id."""
        self.now = ""
        self.dies_at = 0

    def listen(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self.now = event.run_id

    def __call__(self, number: int, label: str) -> None:
        if self.left and self.rng.random() < 0.3:
            self.left -= 1
            id_ = self.rng.choice([*self.written, self.rng.randint(-50, 200) or 1])
            self.written[id_] = self.now
            thing = datastore.Entity(self.world.client.key("Thing", id_))
            thing["n"] = 0
            self.world.client.put(thing)
        if number == self.dies_at:
            raise Crash


@pytest.mark.parametrize(
    "seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.chaos) for seed in range(3, 30))]
)
def test_generated_live_writes_are_found_by_the_passes_wherever_they_are_killed(
    server: Server, make_world: MakeWorld, seed: int
) -> None:
    rng = random.Random(seed)
    world = make_world(server, rng.randint(1, 60))
    options = Options(batch_size=rng.choice([1, 5, 500]), shards=rng.choice([1, 3]))
    live = LiveUser(rng, world)
    kills = rng.randint(0, 3)
    report = None
    while report is None or report.exit_code:
        live.dies_at = rng.randint(1, MOST_CALLS) if kills else 0
        kills -= bool(kills)
        if rng.random() < 0.2:
            shutil.rmtree(world.state_dir, ignore_errors=True)
        try:
            if world.has_run() and rng.random() < 0.3:
                try:
                    report = world.resume(options, on_send=live, listener=live.listen)
                    continue
                except NotFoundError:
                    pass  # nothing had begun, or all was done
            report = world.run(
                "AtLeastOne", options, on_send=live, listener=live.listen, until_clean=True
            )
        except Crash:
            report = None
    assert report.success
    assert report.passes is not None
    assert report.counts.writes == 0
    things = {id_: thing["n"] for id_, thing in world.things().items()}
    assert things.keys() == live.written.keys()
    # What came while the last pass worked is another run's.
    assert {live.written[id_] for id_, n in things.items() if n != 1} <= {report.run_id}
    world.clear_old_markers()
    assert world.markers() == []

"""A retry is killed at every event, and repeated: each failed entity is handled once more, and the
first run's list of failures ends empty."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.bench import World
from tests.chaos.child import EVENTS, Death, Outcome, bulkup
from tests.chaos.conftest import STRIDES, MakeWorld
from tests.conftest import Server

SIZE = 8
FAILING = """
from bulkup import Updater

class Increment(Updater):
    max_failures = -1

    def get_query(self):
        return self.client.query(kind="Thing")

    def handle_entity(self, entity):
        if entity.key.id % 2 and not FIXED:
            raise ValueError("odd")
        entity["n"] += 1
        self.put(entity)
"""


def command(world: World, folder: Path, *words: str, death: Death | None = None) -> Outcome:
    return bulkup(
        [*words, "--batch-size", "1", "--in-flight", "2", "-q", "--state-dir",
         str(world.state_dir)],
        emulator=world.proxy.address, folder=folder, death=death,
    )  # fmt: skip


def failed(world: World, folder: Path) -> str:
    """The id of a run in which the odd ids have failed; the updater is fixed now."""
    updater = folder / "updater.py"
    updater.write_text(FAILING.replace("FIXED", "False"))
    ran = command(world, folder, "run", str(updater), "--project", world.server.project)
    assert ran.code == 3, ran.output
    updater.write_text(FAILING.replace("FIXED", "True"))
    return world.folder.name


@pytest.mark.client_side
@STRIDES
@pytest.mark.parametrize("event", EVENTS)
def test_a_retry_killed_at_any_event_and_repeated_handles_each_entity_once(
    server: Server, make_world: MakeWorld, tmp_path: Path, event: str, stride: int
) -> None:
    world = make_world(server, SIZE)
    lived = command(world, tmp_path, "retry", failed(world, tmp_path))
    assert lived.code == 0, lived.output
    count = lived.events[event]
    for at in range(count % stride or stride, count + 1, stride):
        world = make_world(server, SIZE)
        run = failed(world, tmp_path)
        death = Death(event, at)
        if not command(world, tmp_path, "retry", run, death=death).was_killed(death):
            continue
        again = command(world, tmp_path, "retry", run)
        assert again.code == 0, f"{event} {at}: {again.output}"
        assert world.violations() == [], f"{event} {at}"
        nothing = command(world, tmp_path, "retry", run)
        assert nothing.code == 0
        assert "has no failed entity to retry" in nothing.output, f"{event} {at}: {nothing.output}"
        assert world.violations() == [], f"{event} {at}"

"""Two processes share --max-rate, also when one of them is killed."""

from __future__ import annotations

import time
from bisect import bisect_left
from pathlib import Path

import pytest

from tests.chaos import child
from tests.chaos.bench import UPDATERS
from tests.chaos.conftest import MakeWorld
from tests.conftest import Server

WINDOW_S = 30.0
RATE = 200
SIZE = 15_000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_two_processes_share_the_rate(
    embedded: Server, make_world: MakeWorld, tmp_path: Path
) -> None:
    world = make_world(embedded, SIZE)
    args = [
        "run", f"{UPDATERS}:Stamped", "--project", world.server.project, "--yes",
        "--ranges", "40", "--max-rate", str(RATE), "--quiet",
    ]  # fmt: skip
    processes = [
        child.start(
            [*args, "--state-dir", str(tmp_path / name)],
            emulator=world.server.host, folder=tmp_path / f"out-{name}",
        )[0]
        for name in ("a", "b")
    ]  # fmt: skip
    began = time.monotonic()

    def handled() -> dict[str, int]:
        by: dict[str, int] = {}
        for thing in world.client.query(kind="Thing").fetch():
            if "by" in thing:
                by[thing["by"]] = by.get(thing["by"], 0) + 1
        return by

    while time.monotonic() - began < 300:  # until both have worked for a while
        if min(handled().values(), default=0) > 1500 and len(handled()) == 2:
            break
        time.sleep(1)  # the pace of asking; nothing depends on it
    processes[0].kill()
    processes[0].join()
    processes[1].join(400)
    assert processes[1].exitcode == 0, (tmp_path / "out-b" / "output").read_text()
    things = world.things().values()
    assert {thing["n"] for thing in things} == {1}
    assert len({thing["by"] for thing in things}) == 2
    times = sorted(thing["at"] for thing in things)
    for first, at in enumerate(times):
        within = bisect_left(times, at + WINDOW_S) - first
        assert within <= 1.1 * RATE * WINDOW_S, (at - times[0], within)

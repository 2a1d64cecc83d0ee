"""Kills at any moment, on Beam's own runner in several processes."""

from __future__ import annotations

import json
import os
import random
import signal
from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("apache_beam", reason="Apache Beam is not installed")

from tests.beam.conftest import BUMP, PROCESSES, BeamShell
from tests.cli.shell import ended
from tests.conftest import Server

COUNT = 800
KILLS = 3


@pytest.fixture
def shell_on_each(tmp_path: Path, server: Server) -> BeamShell:
    shell = BeamShell(tmp_path, server)
    shell.environment |= {"PYTHONWARNINGS": "default", "TMPDIR": str(tmp_path)}
    shell.write("bump.py", BUMP)
    return shell


def workers_of(pid: int) -> list[int]:
    """The processes that a runner has started, and theirs."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *workers_of(child)]
    return found


@pytest.mark.chaos
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(10))
def test_commands_and_workers_killed_at_any_moment_handle_each_entity_once(
    shell_on_each: BeamShell, server: Server, seed: int
) -> None:
    chance = random.Random(seed)
    shell = shell_on_each
    shell.seed(server, COUNT)
    splits = {"Apply/Work": {"timings": [0.5, 0.5], "fractions": [0.5, 0.3]}}
    words = ("--ranges", 6, "-p", "pause_ms=10", "--batch-size", 20)
    runner = (*PROCESSES, f"--direct_test_splits={json.dumps(splits)}")
    for kill in range(KILLS):
        process = shell.begin_run(*words, runner=runner)
        shell.await_handled(COUNT * (kill + 1) // (KILLS + 2), process)
        workers = workers_of(process.pid)
        # Some of the workers live on for a while, hold their ranges, and are zombies to the next.
        victims = [process.pid, *chance.sample(workers, chance.randint(0, len(workers)))]
        for pid in victims:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        ended(process)
    result = shell.run(*words, runner=runner)
    for _ in range(3):
        if result.code == 0:
            break
        assert result.code == 1, result
        result = shell.run(*words, runner=runner)
    assert result.code == 0, result
    shell.once()

"""One `bulkup migrate` at a time, and a clean stop on a signal."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
from google.cloud import datastore

from tests.cli.shell import Shell, ended
from tests.migrations.conftest import trails, write_step

pytestmark = pytest.mark.sampled(5)

DEADLINE_S = 60


def slow(project: Shell) -> Path:
    """The first migration waits at each entity until the returned path is there."""
    path, gate = project.folder / "updaters/0001_a.py", project.folder / "gate"
    path.write_text(
        path.read_text().replace(
            'entity["trail"] =',
            f"import pathlib, time\n        while not pathlib.Path({str(gate)!r}).exists():\n"
            '            time.sleep(0.05)\n        entity["trail"] =',
        )
    )
    return gate


def until_running(shell: Shell, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        assert process.poll() is None
        if shell.bulkup("status", "--json").of_type("migration")[0]["standing"] == "running":
            return
        time.sleep(0.05)  # between two checks of the condition
    raise AssertionError("it did not begin")


def test_a_second_migrate_does_not_wait_by_default(project: Shell, items: datastore.Client) -> None:
    gate = slow(project)
    process = project.begin("migrate")
    until_running(project, process)
    assert project.bulkup("status", "--check").code == 4
    (project.folder / "other").mkdir()
    other = Shell(project.folder / "other")
    other.environment = project.environment
    write_step(other, "0001_a", "a")
    write_step(other, "0009_x", "x")
    other.bulkup("migrate").fails(
        11, "is applying migrations on this target (applying 0001_a)", "--wait 10m"
    )
    # Nor does a migration that only the other checkout has.
    other.bulkup("migrate", "--only", "0009_x").fails(11, "is applying migrations on this target")
    gate.touch()
    assert ended(process).code == 0
    assert trails(items) == {"abc"}


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_ends_it_cleanly_and_the_next_migrate_resumes(
    project: Shell, items: datastore.Client, name: str
) -> None:
    gate = slow(project)
    process = project.begin("migrate")
    until_running(project, process)
    process.send_signal(signal.Signals[name])
    gate.touch()
    result = ended(process)
    assert result.code == {"SIGINT": 130, "SIGTERM": 143}[name]
    assert "0 migrations applied, 3 left, stopped at 0001_a" in result.out
    # Neither the lock nor the run is held: there is nothing to wait for.
    assert project.bulkup("migrate").code == 0
    assert trails(items) == {"abc"}


def test_a_migrate_that_waits_for_the_lock_can_be_stopped(
    project: Shell, items: datastore.Client
) -> None:
    gate = slow(project)
    first = project.begin("migrate")
    until_running(project, first)
    waiting = project.begin("migrate", "--wait", "10m")
    assert waiting.stderr is not None
    assert "waiting for" in waiting.stderr.readline()
    waiting.send_signal(signal.SIGTERM)
    assert ended(waiting).code == 143
    gate.touch()
    assert ended(first).code == 0
    assert trails(items) == {"abc"}


def test_a_migrate_that_lost_its_lock_while_suspended_applies_nothing_twice(
    project: Shell, items: datastore.Client
) -> None:
    """Suspended between taking the lock and starting, until another process has applied it all."""
    result = project.script(
        """
        import subprocess, sys
        from bulkup.migrations.apply import Migrator
        begin = Migrator._apply
        def late(migrator, entry, lock):
            Migrator._apply = begin
            for args in (["unlock", "bulkup-migrate", "--yes"], ["migrate", "--state-dir", "b"]):
                subprocess.run([sys.executable, "-m", "bulkup", *args], check=True)
            return begin(migrator, entry, lock)
        Migrator._apply = late
        from bulkup.cli import call
        sys.exit(call(["migrate"]))
        """
    )
    assert result.code == 0, result
    assert "3 migrations applied, none left" in result.out  # by the other
    assert "Nothing is pending" in result.out
    assert trails(items) == {"abc"}
    assert project.bulkup("status", "--check").code == 0

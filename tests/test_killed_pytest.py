"""However pytest ends, the servers that it started are gone soon after."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.emulators import require
from tests.shared_servers import REPOSITORY

DEADLINE_S = 300
"""A JVM may need 20 s to start on a busy machine, and an xdist worker 15 s to give up its test."""

VICTIM = """
import signal
from pathlib import Path

import pytest

@pytest.mark.parametrize("at", ["one", "two"])
def test_is_killed(request: pytest.FixtureRequest, at: str) -> None:
    for name in {names}:
        server = request.getfixturevalue(name)
        assert list(server.client().query(kind="Item").fetch(1)) == []
    Path(__file__).with_name(f"began-{{at}}").touch()
    signal.pause()
"""

if not Path("/proc/self/stat").exists():
    pytest.skip("needs /proc to find the processes", allow_module_level=True)


def parents() -> dict[tuple[int, str], int]:
    """All living processes: (pid, start time) -> pid of the parent."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended just now
        if fields[0] not in "ZX":
            found[int(stat.parent.name), fields[19]] = int(fields[1])
    return found


def descendants(pid: int) -> set[tuple[int, str]]:
    everyone = parents()
    found: set[tuple[int, str]] = set()
    family = {pid}
    while more := {one for one, parent in everyone.items() if parent in family} - found:
        found |= more
        family = {pid for pid, _ in more}
    return found


def commands(processes: set[tuple[int, str]]) -> str:
    lines = []
    for pid, _ in sorted(processes):
        try:
            lines.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode())
        except (FileNotFoundError, ProcessLookupError):
            continue
    return "\n".join(lines)


def _without_running_servers() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith("BULKUP_TEST_")}


def until(condition: Callable[[], bool], failure: Callable[[], str]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end, failure()
        time.sleep(0.05)  # between two checks of the condition


@pytest.mark.parametrize(
    ("number", "names"),
    [
        # The keeper does with each server what it does with one; that of Java takes longer.
        (signal.SIGTERM, ["embedded"]),
        pytest.param(signal.SIGTERM, ["embedded", "fs"], marks=pytest.mark.chaos),
        pytest.param(signal.SIGHUP, ["embedded"], marks=pytest.mark.chaos),
        pytest.param(signal.SIGKILL, ["embedded", "fs"], marks=pytest.mark.chaos),
        pytest.param(signal.SIGTERM, ["embedded", "fs", "lf", "legacy"], marks=pytest.mark.chaos),
        pytest.param(signal.SIGHUP, ["embedded", "fs", "lf", "legacy"], marks=pytest.mark.chaos),
    ],
)
def test_a_killed_pytest_leaves_no_process(
    tmp_path: Path, number: signal.Signals, names: list[str]
) -> None:
    if names != ["embedded"]:
        require()
    (tmp_path / "test_victim.py").write_text(VICTIM.format(names=names))
    pyproject = REPOSITORY / "pyproject.toml"
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-c", str(pyproject), f"--rootdir={tmp_path}",
             "-p", "tests.conftest", "-p", "no:cacheprovider", "-n", "2", str(tmp_path)],
            cwd=tmp_path,
            env={**_without_running_servers(), "PYTHONPATH": str(REPOSITORY)},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # Under `nohup` this process ignores SIGHUP, and so would that one.
            preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
        )  # fmt: skip
    family: set[tuple[int, str]] = set()
    try:
        until(
            lambda: process.poll() is not None or len(list(tmp_path.glob("began-*"))) == 2,
            lambda: log.read_text(),
        )
        assert process.poll() is None, log.read_text()
        family = descendants(process.pid)
        before = commands(family)
        # The servers, what keeps them, and two workers.
        assert len(family) == len(names) + 3, before
        assert sum(line.startswith("java ") for line in before.splitlines()) == len(names) - 1
        assert "bulkup.local" in before
        process.send_signal(number)
        assert process.wait(DEADLINE_S) == -number
        until(lambda: not family & parents().keys(), lambda: commands(family & parents().keys()))
    finally:
        for pid, _ in (family | descendants(process.pid)) & parents().keys():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.kill()
        process.wait()

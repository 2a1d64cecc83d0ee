"""A large export: in how little memory, and through kills at any moment of a real process."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.exports import LIMIT_MIB, ROWS, make
from tests.local.importing.made import tables

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
MEGABYTES = 150
KILLS = 4
WAIT_S = 300


def test_150_mb_are_read_loaded_and_dumped_in_150_mib(tmp_path: Path) -> None:
    entities = make(tmp_path / "export", MEGABYTES)
    assert entities > 200_000
    for row in ROWS:
        command = [
            sys.executable, "-m", "benchmarks.exports", "--row", row, "--scratch", str(tmp_path),
        ]  # fmt: skip
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        measured = json.loads(done.stdout)
        assert measured["entities"] == entities, row
        assert measured["peak_mib"] <= LIMIT_MIB, row


def test_a_load_that_is_killed_again_and_again_gives_the_same_file(tmp_path: Path) -> None:
    entities = make(tmp_path / "export", 12)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert _load(whole, tmp_path / "export").wait(WAIT_S) == 0
    # The file grows until the end; a kill comes somewhere on the way, each time further on.
    size = whole.stat().st_size
    drawn = random.Random(time.time_ns())
    beside = killed.with_name("killed-loading")
    kills = 0
    for number in range(KILLS):
        at = int(size * (number + drawn.random()) / KILLS / 2)
        process = _load(killed, tmp_path / "export")
        _until(lambda at=at, process=process: _held(beside) > at or process.poll() is not None)
        process.kill()
        if process.wait() < 0:
            kills += 1
            assert not killed.exists()
    assert kills > 0
    assert _load(killed, tmp_path / "export").wait(WAIT_S) == 0
    assert not beside.exists()
    one, other = tables(whole), tables(killed)
    assert one.keys() == other.keys()
    assert len(one["entities"]) == entities
    for table in ("entities", "kinds", "partitions", "slots", "entries", "reserved"):
        assert one[table] == other[table], table


def _load(file: Path, export: Path) -> subprocess.Popen[bytes]:
    command = [
        sys.executable, "-m", "bulkup", "local", "load", str(file), "--from-export", str(export),
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _held(file: Path) -> int:
    """The size of a file with its write-ahead log."""
    parts = (file, file.with_name(f"{file.name}-wal"))
    return sum(part.stat().st_size for part in parts if part.exists())


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)  # between two looks

"""Projects as an earlier version of bulkup left them; see make.py."""

from __future__ import annotations

import fcntl
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.shell import Shell
from tests.compatibility.make import PLACE

FIXTURES = Path(__file__).parent / "8c94393"

Project = Callable[[str], Shell]


@pytest.fixture
def moved(tmp_path: Path) -> Project:
    """Lays a project out in a folder that it was not made in."""

    def lay_out(name: str) -> Shell:
        return _laid_out(name, tmp_path)

    return lay_out


@pytest.fixture(params=["with its state directory", "with its state directory lost"])
def moved_or_lost(request: pytest.FixtureRequest, moved: Project) -> Project:
    def lay_out(name: str) -> Shell:
        shell = moved(name)
        if "lost" in request.param:
            shutil.rmtree(shell.state_dir)
        return shell

    return lay_out


@pytest.fixture
def in_place() -> Iterator[Project]:
    """Lays a project out where it was made. There is one such place per machine, so the tests
    that use it wait for each other."""
    with Path(tempfile.gettempdir(), f"{PLACE.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        shutil.rmtree(PLACE, ignore_errors=True)
        PLACE.mkdir(mode=0o700)
        try:
            yield lambda name: _laid_out(name, PLACE)
        finally:
            shutil.rmtree(PLACE)


def _laid_out(name: str, folder: Path) -> Shell:
    project = folder / name
    shutil.copytree(FIXTURES / name, project)
    with tarfile.open(project / "data.tar.gz") as tar:
        tar.extractall(project, filter="data")
    return Shell(project)

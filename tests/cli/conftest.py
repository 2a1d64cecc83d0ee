from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.shell import BUMP, Shell, seed
from tests.conftest import Server


@pytest.fixture
def nowhere(tmp_path: Path) -> Shell:
    """A shell without any Datastore."""
    shell = Shell(tmp_path)
    shell.write("bump.py", BUMP)
    return shell


@pytest.fixture
def shell(tmp_path: Path, server: Server) -> Shell:
    """A shell on each of the daily servers in turn."""
    shell = Shell(tmp_path, server)
    shell.write("bump.py", BUMP)
    return shell


@pytest.fixture
def lf_shell(tmp_path: Path, lf: Server) -> Shell:
    shell = Shell(tmp_path, lf)
    shell.write("bump.py", BUMP)
    return shell


@pytest.fixture
def shell_on_legacy(tmp_path: Path, legacy: Server) -> Shell:
    shell = Shell(tmp_path, legacy)
    shell.write("bump.py", BUMP)
    return shell


@pytest.fixture
def half(lf_shell: Shell, lf: Server) -> Shell:
    """A run over 10 entities that stopped after 4."""
    seed(lf, 10, colour="red")
    result = lf_shell.bulkup("run", "bump.py", "-p", "step=2", "--limit", "4")
    assert result.code == 75, result
    return lf_shell

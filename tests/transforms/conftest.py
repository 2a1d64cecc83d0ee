from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import nowhere
from tests.cli.shell import Shell
from tests.conftest import Server
from tests.engine.conftest import run

__all__ = ["nowhere", "run"]


@pytest.fixture
def shell(tmp_path: Path, embedded: Server) -> Shell:
    return Shell(tmp_path, embedded)

"""Projects with a folder of migrations, and the "machines" that apply them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from google.cloud import datastore

from tests.cli.shell import Shell, seed
from tests.conftest import Server

STEP = """
    import os, signal
    from bulkup import Updater

    class {cls}(Updater):
        '''Append {mark} to the trail of every Item.'''

        def get_query(self):
            return self.client.query(kind="Item")

        def handle_entity(self, entity):
            if os.environ.get("DIE_AT") == "{mark}" and entity.key.id == 7:
                os.kill(os.getpid(), signal.SIGKILL)
            if os.environ.get("FAIL_AT") == "{mark}" and entity.key.id == 7:
                raise ValueError("not today")
            entity["trail"] = entity.get("trail", "") + "{mark}"
            self.put(entity)
"""
"""Neither idempotent nor commutative, so that a repeated or reordered step shows."""


def write_step(shell: Shell, name: str, mark: str, head: str = "") -> Path:
    path = shell.write(f"updaters/{name}.py", STEP.format(cls=f"Add{mark.upper()}", mark=mark))
    if head:
        path.write_text(f"{head}\n{path.read_text()}")
    return path


def trails(client: datastore.Client) -> set[str]:
    return {e.get("trail", "") for e in client.query(kind="Item").fetch()}


Machine = Callable[[str], Shell]


@pytest.fixture
def project(tmp_path: Path, embedded: Server) -> Shell:
    """Three migrations (a, b, c) and 12 Items, on the embedded Datastore."""
    return _project(tmp_path / "one", embedded)


def _project(folder: Path, server: Server) -> Shell:
    folder.mkdir()
    shell = Shell(folder, server)
    for number, mark in enumerate("abc", 1):
        write_step(shell, f"{number:04d}_{mark}", mark)
    return shell


@pytest.fixture
def items(embedded: Server) -> datastore.Client:
    return seed(embedded, 12)


@pytest.fixture
def machines(tmp_path: Path, server: Server) -> Machine:
    """A project of five migrations (a to e) checked out on any number of machines, each with a
    disk of its own."""

    def machine(name: str) -> Shell:
        (tmp_path / name).mkdir()
        shell = Shell(tmp_path / name, server)
        for number, mark in enumerate("abcde", 1):
            write_step(shell, f"{number:04d}_{mark}", mark)
        return shell

    return machine

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from google.cloud import datastore

from bulkup.state.kinds import RUN_KIND
from bulkup.state.ranges_seen import SEEN_NAME
from tests.cli.shell import Result, Shell, ended, seed, values
from tests.conftest import Server

PROCESSES = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")

BUMP = """
    import time

    from bulkup import Updater, param

    class Bump(Updater):
        '''Count every Item up.'''

        pause_ms: float = param(0.0)
        bad: int = param(0, help="every how manyth fails; 0: none")

        def get_query(self):
            return self.client.query(kind="Item")

        def handle_entity(self, entity):
            time.sleep(self.pause_ms / 1000)
            if self.bad and entity.key.id % self.bad == 0:
                raise ValueError(f"bad {entity.key.id}")
            entity["n"] += 1
            self.put(entity)
"""
"""Not idempotent on purpose, so that an entity handled twice, or never, is noticed."""


class BeamShell(Shell):
    """A user who runs pipelines."""

    server: Server
    client: datastore.Client
    count: int

    def seed(self, server: Server, count: int) -> None:
        self.server, self.count = server, count
        self.client = seed(server, count)

    def run(self, *words: object, runner: tuple[str, ...] = ()) -> Result:
        return ended(self.begin_run(*words, runner=runner), 200)

    def begin_run(self, *words: object, runner: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        return self.start(
            "run", "bump.py", "--on", "beam", "--json", "--yes", *words, "--", *runner
        )

    def once(self) -> None:
        """Every entity was handled exactly once."""
        wrong = {i: n for i, n in values(self.client).items() if n != 1}
        assert wrong == {}
        assert len(values(self.client)) == self.count

    def handled(self) -> int:
        return sum(1 for n in values(self.client).values() if n)

    def await_handled(self, at_least: int, process: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + 100
        while self.handled() < at_least:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def await_look(self, process: subprocess.Popen[str]) -> None:
        """Until the command has looked how far the run is, and listens."""
        deadline = time.monotonic() + 100
        while not list(self.folder.glob(f".bulkup/*/{SEEN_NAME}")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def run_states(self) -> list[str]:
        return [record["state"] for record in self.client.query(kind=RUN_KIND).fetch()]

    def own(self, kind: str) -> int:
        return sum(1 for _ in self.client.query(kind=kind).fetch())


@pytest.fixture
def beam_shell(tmp_path: Path, embedded: Server) -> BeamShell:
    shell = BeamShell(tmp_path, embedded)
    shell.environment |= {"PYTHONWARNINGS": "default", "TMPDIR": str(tmp_path)}
    shell.write("bump.py", BUMP)
    return shell

"""Dask, which knows no Splittable DoFns, runs lost tasks again, and says DONE whatever it lost."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

pytest.importorskip("apache_beam", reason="Apache Beam is not installed")
pytest.importorskip("distributed", reason="Dask is not installed")

from tests.beam.conftest import BeamShell
from tests.cli.shell import Result, ended
from tests.conftest import Server


class Cluster:
    """A scheduler and two workers: processes of their own."""

    def __init__(self, shell: BeamShell) -> None:
        self._shell = shell
        self._open = ExitStack()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        port = self.address.rpartition(":")[2]
        self._start("scheduler", "--host", "127.0.0.1", "--port", port)
        self._workers = [self._worker(), self._worker()]
        self._next = 0

    def _start(self, kind: str, *words: str) -> subprocess.Popen[bytes]:
        with open(self._shell.folder / f"{kind}.log", "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", kind, "--no-dashboard", *words],
                executable=sys.executable,
                env=self._shell.environment, cwd=self._shell.folder, stdout=log, stderr=log,
            )  # fmt: skip
        self._open.callback(process.wait)
        self._open.callback(process.kill)
        return process

    def _worker(self) -> subprocess.Popen[bytes]:
        return self._start(
            "worker", self.address, "--nthreads", "1", "--no-nanny", "--host", "127.0.0.1"
        )

    def kill_a_worker(self) -> None:
        """And start another one, as a cluster does."""
        self._workers[self._next].kill()
        self._workers[self._next].wait()
        self._workers[self._next] = self._worker()
        self._next = 1 - self._next

    def close(self) -> None:
        self._open.close()


@pytest.fixture
def cluster(beam_shell: BeamShell) -> Iterator[Cluster]:
    cluster = Cluster(beam_shell)
    yield cluster
    cluster.close()


@pytest.mark.parametrize("kills", [1, pytest.param(6, marks=pytest.mark.chaos)])
def test_workers_that_are_killed_handle_nothing_twice(
    beam_shell: BeamShell, embedded: Server, cluster: Cluster, kills: int
) -> None:
    count = 300 + 200 * kills
    beam_shell.seed(embedded, count)
    process = beam_shell.begin_run(
        "--ranges", 8, "-p", "pause_ms=10", "--batch-size", 20,
        runner=("--runner=DaskRunner", f"--dask_client_address={cluster.address}"),
    )  # fmt: skip
    ends: list[Result] = []
    waiting = threading.Thread(target=lambda: ends.append(ended(process, 250)))
    waiting.start()
    for kill in range(kills):
        beam_shell.await_handled(count * (kill + 1) // (kills + 2), process)
        cluster.kill_a_worker()
    waiting.join()
    (result,) = ends
    # Dask gives up a task whose worker was killed four times: then the records say that work is
    # left, and the command says so.
    if result.code != 0:
        assert result.code == 1, result
        assert beam_shell.handled() < count or "resume" in str(result)
        assert beam_shell.bulkup("resume").code == 0
    beam_shell.once()

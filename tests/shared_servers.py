"""The Datastore servers of one pytest session, shared by all of its processes.

The pytest process that the user started (with xdist: the controller) starts a keeper, which starts
each server when somebody first asks for it. The keeper holds the reading end of a pipe whose other
end only that pytest process has. When the pipe closes, the keeper kills the servers and itself:
after a normal end as after Ctrl-C, SIGTERM, SIGHUP or `kill -9` of pytest.

Tests do not disturb each other on a shared server, because each has a project of its own. So an
emulator may outlive several runs of pytest: BULKUP_TEST_FS=127.0.0.1:8123 names one that runs
already, which spares its start (about 7 s of CPU).

LF and L become slow with use. They keep every query that they have ever seen, of all projects, and
go through the whole list, under one lock, for each entity that is written (`LocalCompositeIndex-
Manager.buildIndexMapFromQueryHistory`): 0.16 s for each after 1,200 tests of the night. So each of
them is lent to a test, and after `LIFE` tests the next one starts.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
ANSWER_TIMEOUT_S = 240
"""Three emulators may have to start at once on a busy machine."""

LIFE = {"LF": 400, "L": 400}
"""So many tests are lent the same server; one of the night, which does more, counts for `NIGHT`."""
NIGHT = 10
OWN = 0
"""The weight of a test that gets a server of its own: what takes minutes alone would take hours
beside others, which all wait for one lock."""

ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


class Keeper:
    """The keeper process, as seen by the pytest process that started it."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port: int = listener.getsockname()[1]
            # A session of its own: Ctrl-C at a terminal reaches pytest, which then ends the keeper.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.shared_servers", str(listener.fileno())],
                cwd=REPOSITORY,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                pass_fds=[listener.fileno()],
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def close(self) -> None:
        """Close the pipe, and wait until the servers are gone."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)


@contextmanager
def lent_host(name: str, keeper_port: int, weight: int = 1) -> Iterator[str]:
    """The `host:port` of EM (the embedded Datastore), LF, L or FS, which is started if needed.

    It runs until the end of the block, at least.
    """
    with socket.create_connection(("127.0.0.1", keeper_port), ANSWER_TIMEOUT_S) as connection:
        connection.sendall(f"{name} {weight}\n".encode())
        with connection.makefile("rb") as answers:
            line = answers.readline()
        if not line:
            raise RuntimeError(f"the process that keeps the servers ended; {name} was asked for")
        answer: dict[str, str] = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{name} did not start\n{answer['error']}")
        yield answer["host"]


@contextmanager
def _embedded() -> Iterator[str]:
    from bulkup.local.process import start_local

    with start_local(None) as server:
        yield server.host


def _starting(name: str) -> AbstractContextManager[str]:
    """Imports late: the keeper starts with every pytest, its servers only with some."""
    if name == "EM":
        return _embedded()
    from tests.emulators import emulator

    return emulator(name)


class _Server:
    """One server, or why it did not start."""

    def __init__(self, name: str) -> None:
        self._stack = ExitStack()
        self._life = LIFE.get(name)
        self._borrowers = 0
        self.answer = self._start(name)

    def _start(self, name: str) -> dict[str, str]:
        if running := os.environ.get(f"BULKUP_TEST_{name}"):
            self._life = None
            return {"host": running}
        try:
            return {"host": self._stack.enter_context(_starting(name))}
        except Exception:
            return {"error": traceback.format_exc()}

    @property
    def is_worn(self) -> bool:
        return self._life is not None and self._life <= 0

    def lend(self, weight: int) -> None:
        self._borrowers += 1
        if self._life is not None:
            self._life -= weight

    def give_back(self) -> None:
        self._borrowers -= 1
        self.close_if_worn()

    def close_if_worn(self) -> None:
        if self.is_worn and not self._borrowers:
            self.close()

    def close(self) -> None:
        self._stack.close()


class _Servers:
    """What the keeper keeps."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._current: dict[str, _Server] = {}
        self._all: list[_Server] = []

    @contextmanager
    def lent(self, name: str, weight: int) -> Iterator[dict[str, str]]:
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:  # different servers start side by side
            server = self._current.get(name) if weight != OWN else None
            if weight == OWN:
                server = _Server(name)
                self._all.append(server)
            elif server is None or server.is_worn:
                server = self._current[name] = _Server(name)
                self._all.append(server)
            server.lend(weight)
        try:
            yield server.answer
        finally:
            with lock:
                server.give_back()
                if weight == OWN:
                    server.close()

    def close(self) -> None:
        for server in self._all:
            server.close()


def _serve(connection: socket.socket, servers: _Servers) -> None:
    with connection, connection.makefile("rb") as requests:
        name, _, weight = requests.readline().decode().strip().partition(" ")
        if name:
            with servers.lent(name, int(weight)) as answer:
                connection.sendall(json.dumps(answer).encode() + b"\n")
                requests.read()  # until the borrower closes the connection


def _accept(listener: socket.socket, servers: _Servers) -> None:
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=_serve, args=(connection, servers), daemon=True).start()


def main(listener: socket.socket) -> None:
    scratch = tempfile.mkdtemp(prefix="bulkup-tests-")
    tempfile.tempdir = scratch  # of the servers too, so that one removal takes all
    servers = _Servers()
    for number in ENDING:
        signal.signal(number, lambda *_: sys.exit())
    threading.Thread(target=_accept, args=(listener, servers), daemon=True).start()
    try:
        while os.read(0, 1):
            pass
    finally:
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)
        servers.close()
        shutil.rmtree(scratch, ignore_errors=True)
        # Also those that were about to start.
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))

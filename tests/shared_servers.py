"""The Datastore servers of one pytest session, shared by all of its processes.

The pytest process that the user started (with xdist: the controller) starts a keeper, which starts
each server when somebody first asks for it. The keeper holds the reading end of a pipe whose other
end only that pytest process has. When the pipe closes, the keeper kills the servers and itself:
after a normal end as after Ctrl-C, SIGTERM, SIGHUP or `kill -9` of pytest.

Tests do not disturb each other on a shared server, because each has a project of its own. So an
emulator may outlive several runs of pytest: BULKUP_TEST_FS=127.0.0.1:8123 names one that runs
already, which spares its start (about 7 s of CPU). After thousands of tests LF becomes slow: 0.3 s
for each put.
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


def host_of(name: str, keeper_port: int) -> str:
    """The `host:port` of EM (the embedded Datastore), LF, L or FS, which is started if needed."""
    with socket.create_connection(("127.0.0.1", keeper_port), ANSWER_TIMEOUT_S) as connection:
        connection.sendall(name.encode() + b"\n")
        with connection.makefile("rb") as answers:
            line = answers.readline()
    if not line:
        raise RuntimeError(f"the process that keeps the shared servers ended; {name} was asked for")
    answer: dict[str, str] = json.loads(line)
    if "error" in answer:
        raise RuntimeError(f"{name} did not start\n{answer['error']}")
    return answer["host"]


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


class _Servers:
    """What the keeper keeps."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._answers: dict[str, dict[str, str]] = {}
        self._stack = ExitStack()

    def answer(self, name: str) -> dict[str, str]:
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:  # different servers start side by side
            if name not in self._answers:
                self._answers[name] = self._start(name)
            return self._answers[name]

    def _start(self, name: str) -> dict[str, str]:
        if running := os.environ.get(f"BULKUP_TEST_{name}"):
            return {"host": running}
        try:
            return {"host": self._stack.enter_context(_starting(name))}
        except Exception:
            return {"error": traceback.format_exc()}

    def close(self) -> None:
        self._stack.close()


def _serve(connection: socket.socket, servers: _Servers) -> None:
    with connection, connection.makefile("rb") as requests:
        name = requests.readline().decode().strip()
        if name:
            connection.sendall(json.dumps(servers.answer(name)).encode() + b"\n")


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

"""Cheap real processes: one process imports what bulkup needs, and is forked for each command.

Importing grpc and google.cloud takes most of the second that a short command lasts, and there are
a hundred such commands in these tests. What a start from nothing looks like is tested with
`Shell.start`, which runs `python -m bulkup`.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

REPOSITORY = Path(__file__).parents[2]
MAX_REQUEST_BYTES = 1024 * 1024
WARM = (
    "bulkup.cli.run", "bulkup.cli.resume", "bulkup.cli.list", "bulkup.cli.show",
    "bulkup.cli.params", "bulkup.cli.session", "bulkup.runs.start", "bulkup.runs.resume",
    "bulkup.report", "bulkup.report.terminal", "bulkup.report.jsonl",
    "google.auth", "rich.table", "rich.live",
    "bulkup.cli.migrate", "bulkup.cli.status", "bulkup.cli.mark", "bulkup.cli.unlock",
    "bulkup.migrations.apply", "bulkup.migrations.connect",
)  # fmt: skip


class Nursery:
    """The process that is forked; started at first use, ended with `close`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ours, theirs = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.cli.nursery", str(theirs.fileno())],
            cwd=REPOSITORY,
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONPATH": str(REPOSITORY)},
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )
        theirs.close()

    def close(self) -> None:
        self._ours.close()
        self._process.wait(timeout=10)

    def run(
        self, args: Sequence[str], cwd: Path, env: Mapping[str, str], timeout_s: float
    ) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of `bulkup ARGS`. Kills it on a timeout (TimeoutError)."""
        request = json.dumps({"args": list(args), "cwd": str(cwd), "env": dict(env)}).encode()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)  # a message a recv
        with ours, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            with self._lock, theirs:
                fds = [out.fileno(), err.fileno(), theirs.fileno()]
                socket.send_fds(self._ours, [request], fds)
                ours.settimeout(30)
                pid = int(ours.recv(100))
            ours.settimeout(timeout_s)
            try:
                status = int(ours.recv(100))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise
            out.seek(0)
            err.seek(0)
            return os.waitstatus_to_exitcode(status), out.read().decode(), err.read().decode()


def _serve(connection: socket.socket) -> None:
    for name in WARM:
        __import__(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for these processes
    while True:
        request, fds, _, _ = socket.recv_fds(connection, MAX_REQUEST_BYTES, 3)
        if not request:
            return
        if os.fork() == 0:
            connection.close()
            _keep(json.loads(request), fds)
        for descriptor in fds:
            os.close(descriptor)


def _keep(request: Any, fds: Sequence[int]) -> NoReturn:
    """Start the command; send its pid, then its exit status."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid == 0:
        _become(request, fds)
    reply = socket.socket(fileno=fds[2])
    reply.send(b"%d" % pid)
    reply.send(b"%d" % os.waitpid(pid, 0)[1])
    os._exit(0)


def _become(request: Any, fds: Sequence[int]) -> NoReturn:
    """Run as `python -m bulkup` in the folder and environment of the request."""
    code = 70
    try:
        os.dup2(fds[0], 1)
        os.dup2(fds[1], 2)
        for descriptor in fds:
            os.close(descriptor)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["env"])
        sys.path[0] = request["cwd"]
        from bulkup.cli import call

        code = call(request["args"])
    except SystemExit as ending:
        code = ending.code if isinstance(ending.code, int) else int(ending.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))

"""Cheap real processes: one process imports what bulkup needs, and is forked for each command.

Importing grpc and google.cloud takes most of the second that a short command lasts, and there are
a thousand such commands in these tests: 0.15 s of CPU each, and not 1.6. What a start from nothing
looks like is tested with `Shell.start`, which runs `python -m bulkup`.
"""

from __future__ import annotations

import contextlib
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
from typing import Any, NoReturn, TextIO

REPOSITORY = Path(__file__).parents[2]
MAX_REQUEST_BYTES = 1024 * 1024
START_TIMEOUT_S = 300
"""What it waits for takes a second; a hang must fail, and a busy machine must not."""
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
        self._process.wait(timeout=START_TIMEOUT_S)

    def run(
        self, args: Sequence[str] | str, cwd: Path, env: Mapping[str, str], timeout_s: float
    ) -> tuple[int, str, str]:
        """Exit code, stdout and stderr of `bulkup ARGS`, or of a Python script given as a string.

        Raises subprocess.TimeoutExpired after killing it.
        """
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = self._forked(args, cwd, env, out.fileno(), err.fileno())
            try:
                code = process.wait(timeout_s)
            finally:
                process.kill()
            out.seek(0)
            err.seek(0)
            return code, out.read().decode(), err.read().decode()

    def start(self, args: Sequence[str] | str, cwd: Path, env: Mapping[str, str]) -> Forked:
        """The same, without waiting for its end; what it prints comes through pipes."""
        out, their_out = os.pipe()
        err, their_err = os.pipe()
        try:
            process = self._forked(args, cwd, env, their_out, their_err)
        finally:
            os.close(their_out)
            os.close(their_err)
        # Closed by `communicate`.
        process.stdout, process.stderr = open(out), open(err)  # noqa: SIM115
        return process

    def _forked(
        self, args: Sequence[str] | str, cwd: Path, env: Mapping[str, str], out: int, err: int
    ) -> Forked:
        what = {"source": args} if isinstance(args, str) else {"args": list(args)}
        request = json.dumps({**what, "cwd": str(cwd), "env": dict(env)}).encode()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)  # a message a recv
        with self._lock, theirs:
            socket.send_fds(self._ours, [request], [out, err, theirs.fileno()])
            ours.settimeout(START_TIMEOUT_S)
            return Forked(int(ours.recv(100)), ours)


class Forked:
    """A process that was forked for us, as `subprocess.Popen` of one with text pipes would be."""

    def __init__(self, pid: int, status: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout: TextIO | None = None
        self.stderr: TextIO | None = None
        self._status = status

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._status.settimeout(timeout)
            try:
                status = int(self._status.recv(100))
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired("bulkup", timeout or 0.0) from None
            self._status.close()
            self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What is still to be read of its output, to the end."""
        assert self.stdout is not None
        assert self.stderr is not None
        if self._readers is None:
            self._readers = [_Reader(self.stdout), _Reader(self.stderr)]
        for reader in self._readers:
            reader.join(timeout)
            if reader.is_alive():
                raise subprocess.TimeoutExpired("bulkup", timeout or 0.0)
        self.wait(timeout)
        out, err = (reader.text for reader in self._readers)
        return out, err

    _readers: list[_Reader] | None = None

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class _Reader(threading.Thread):
    def __init__(self, stream: TextIO) -> None:
        super().__init__(daemon=True)
        self._stream = stream
        self.text = ""
        self.start()

    def run(self) -> None:
        with self._stream:
            self.text = self._stream.read()


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
    """Run as `python -m bulkup`, or as its script, in the folder and environment of the request."""
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
        sys.argv = ["bulkup", *request.get("args", [])]
        if "source" in request:
            exec(compile(request["source"], "<script>", "exec"), {"__name__": "__main__"})
            code = 0
        else:
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

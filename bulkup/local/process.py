"""The embedded Datastore in another process, so that it does not compete for this interpreter."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from bulkup.core.errors import BulkupError, Exit, StateError, TargetError, UsageError
from bulkup.local.sharing import FileInUseError

_START_SECONDS = 60
_STOP_SECONDS = 15


_BOOT = (
    "import sys; sys.path[:] = filter(None, sys.path); "
    "from bulkup.local.__main__ import main; sys.exit(main())"
)
"""Not `-m`, which would look for modules in the current directory first: a user's `secrets.py`."""


class LocalServer:
    """A running server; a context manager that stops it.

    `host` (`127.0.0.1:PORT`) is the value for DATASTORE_EMULATOR_HOST. The server stops when this
    process ends for any reason. What it has acknowledged is in the file.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], host: str, path: str, scratch: str | None
    ) -> None:
        self.host = host
        self.path = path
        self._process = process
        self._scratch = scratch

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        """Stop the server and wait until it has ended. A second call does nothing."""
        process = self._process
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def __enter__(self) -> LocalServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_local(file: str | os.PathLike[str] | None = None, *, port: int = 0) -> LocalServer:
    """Serve `file`, or a temporary file if it is None; returns once the server accepts calls.

    Raises StateError when the file cannot be used (another format, a newer version, not writable;
    FileInUseError: already open), TargetError when the port is taken or the server does not start.
    """
    scratch = None
    if file is None:
        scratch = tempfile.mkdtemp(prefix="bulkup-")
        file = Path(scratch, "datastore")
    path = os.fspath(file)
    errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed below
    process = subprocess.Popen(  # noqa: S603 - our own interpreter, no shell
        [sys.executable, "-c", _BOOT, "--port", str(port), "--parent", "--", path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # A file, not a pipe: nobody reads it while the server runs, and a full pipe would block it.
        stderr=errors,
        env=_environment(),
        # Ctrl-C on the terminal must not stop the server: the run still has commits to finish.
        start_new_session=True,
    )
    server = LocalServer(process, "", path, scratch)
    try:
        server.host = _wait_until_ready(process, errors)
    except BaseException:
        server.stop()
        raise
    finally:
        errors.close()
    return server


def _environment() -> dict[str, str]:
    """This process's environment, with this package importable from where this process found it."""
    root = str(Path(__file__).resolve().parents[2])
    paths = [root, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


def _wait_until_ready(process: subprocess.Popen[bytes], errors: IO[bytes]) -> str:
    assert process.stdout is not None
    deadline = time.monotonic() + _START_SECONDS
    line = b""
    while not line.endswith(b"\n"):
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([process.stdout], [], [], left)[0]:
            raise TargetError(
                f"the embedded Datastore did not start within {_START_SECONDS} s; try again"
            )
        chunk = os.read(process.stdout.fileno(), 4096)
        if not chunk:
            raise _failure(process, errors)
        line += chunk
    return line.split()[-1].decode()


def _failure(process: subprocess.Popen[bytes], errors: IO[bytes]) -> BulkupError:
    code = process.wait()
    errors.seek(0)
    message = errors.read().decode("utf-8", "replace").strip()
    lines = message.splitlines() or [f"exit code {code}"]
    if len(lines) == 1 and code == Exit.USAGE:
        return UsageError(lines[0])
    if len(lines) == 1 and code == Exit.HELD:
        return FileInUseError(lines[0])
    if len(lines) == 1 and "listen" in lines[0]:
        return TargetError(lines[0])
    if len(lines) == 1:
        return StateError(lines[0])
    return TargetError(
        f"the embedded Datastore stopped while starting: {lines[-1]}; this is a bug in bulkup",
        details=message,
    )

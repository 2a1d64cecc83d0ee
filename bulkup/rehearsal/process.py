"""A pass of a rehearsal, in a process of its own, as its parent sees it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bulkup.core.errors import BulkupError, StateError
from bulkup.core.secrets import without_secrets
from bulkup.rehearsal.work import Ended, Job, Message, Pending

_BOOT = (
    "import sys; sys.path[:] = sys.argv[2:]; del sys.argv[2:]; "
    "from bulkup.rehearsal.child import main; main()"
)
"""Not `-m`, which would look for modules in the current directory first."""
_CHECK_EVERY_S = 0.1
_DEATH_WITHIN_S = 10.0
_TAIL_BYTES = 4000


class PassProcess:
    """A context manager. When its block ends, the process and everything that the updater started
    are dead: they would otherwise keep working on copies that are already removed."""

    def __init__(self, job: Job, log: Path) -> None:
        """`log`: the file that gets what the updater prints."""
        ours, theirs = socket.socketpair()
        self._log = log
        with theirs, open(log, "ab") as output:
            try:
                self._process = subprocess.Popen(  # noqa: S603 - our own interpreter, no shell
                    [sys.executable, "-c", _BOOT, str(theirs.fileno()), *sys.path],
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    # Ctrl-C on the terminal then reaches only the rehearsal, and `kill` can end
                    # the whole process group.
                    start_new_session=True,
                )
            except BaseException:
                ours.close()
                raise
        self._connection: Connection[Job, Message] = Connection(ours.detach())
        self._connection.send(job)

    def __enter__(self) -> PassProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._process.wait()
        self._connection.close()

    def kill(self) -> None:
        """Send SIGKILL to the process and everything it started. Any thread may call this."""
        # While one of them lives, the group's id is not reused.
        with suppress(ProcessLookupError, PermissionError):  # macOS raises the latter for a zombie
            os.killpg(self._process.pid, signal.SIGKILL)

    def result(
        self, on_message: Callable[[Message], None], check: Callable[[], None]
    ) -> Ended | Pending | None:
        """Wait for the result of the pass; None: it was killed. `check` is called regularly, and
        may raise.

        Raises BulkupError if the process dies in another way.
        """
        while True:
            check()
            if not self._connection.poll(_CHECK_EVERY_S):
                # A process that the updater forked may keep the other end open for longer.
                if self._process.poll() is not None and not self._connection.poll(0):
                    self._check_killed()
                    return None
                continue
            try:
                message = self._connection.recv()
            except (EOFError, ConnectionResetError):
                self._wait_for_death(check)
                self._check_killed()
                return None
            if isinstance(message, (Ended, Pending)):
                return message
            on_message(message)

    def _wait_for_death(self, check: Callable[[], None]) -> None:
        """Wait for a process that closed its connection: it is dying, or became another program."""
        for _ in range(round(_DEATH_WITHIN_S / _CHECK_EVERY_S)):
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_CHECK_EVERY_S)
                return
            check()
        raise StateError(
            "the process of the updater has closed its connection to the rehearsal and lives on, "
            "perhaps as another program (os.execv), so how it ends cannot be told; leave that out, "
            "or start the program with subprocess; what was printed last is below",
            details=self._tail(),
        )

    def _check_killed(self) -> None:
        code = self._process.wait()
        if code == -signal.SIGKILL:
            return
        raise StateError(
            f"the process of the updater ended with {_reason(code)}; what it printed last is below",
            details=self._tail(),
        )

    def _tail(self) -> str:
        with open(self._log, "rb") as file:
            # Remove secrets before cutting: half of one may not be recognised.
            file.seek(max(0, os.fstat(file.fileno()).st_size - 4 * _TAIL_BYTES))
            return without_secrets(file.read().decode("utf-8", "replace"))[-_TAIL_BYTES:]


def _reason(code: int) -> str:
    if code < 0:
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"
    return f"exit code {code}"


def run_pass(
    job: Job,
    log: Path,
    on_message: Callable[[Message], None],
    check: Callable[[], None],
) -> Ended | Pending:
    """Start a pass and wait for its end. Raises BulkupError."""
    with PassProcess(job, log) as process:
        result: Any = process.result(on_message, check)
    if result is None:
        raise BulkupError(
            "the process of the updater was killed from outside, perhaps because the machine ran "
            "out of memory; rehearse again"
        )
    assert isinstance(result, (Ended, Pending))
    return result

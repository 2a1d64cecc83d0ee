"""How commands that only read a file find the process that serves it.

That process writes its port into the lock file, which it keeps locked as long as it runs. So the
port is valid while the file is locked, provided that only its owner can write to it.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path

from bulkup.core.errors import StateError

HOST = "127.0.0.1"

_WAIT_S = 5.0
"""A starting server holds the lock for about a second before it has a port. `bulkup local load`
never gets one."""
_POLL_S = 0.05
_MOST_BYTES = 40
"""Enough for two numbers."""


class FileInUseError(StateError):
    """Another process has the file open."""


@dataclass(frozen=True)
class ServedBy:
    """The process that serves a file."""

    pid: int
    port: int

    @property
    def host(self) -> str:
        return f"{HOST}:{self.port}"


def lock_path(path: Path) -> Path:
    return path.with_name(path.name + "-lock")


def note_holder(handle: int, port: int = 0) -> None:
    """Write this process's id and port into the lock file. Only the holder of the lock may call
    this."""
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()} {port}".encode() if port else str(os.getpid()).encode(), 0)


def holder_in(handle: int) -> tuple[int, int]:
    """The process id and the port in a lock file; 0 for one that is missing."""
    words = os.pread(handle, _MOST_BYTES, 0).decode("ascii", "replace").split()
    numbers = [int(word) if word.isdecimal() and len(word) < 11 else 0 for word in words]
    pid, port, *_ = (*numbers, 0, 0)
    return pid, port if 0 < port < 1 << 16 else 0


def served_by(file: str | os.PathLike[str]) -> ServedBy | None:
    """The process that serves a file; None if there is none or it cannot be asked.

    Waits a few seconds for a server that is just starting.
    """
    path = Path(os.path.realpath(file))
    try:
        handle = os.open(lock_path(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None  # no lock file, so nobody holds it; or it is not ours to read
    try:
        if not _is_ours(handle):
            return None
        deadline = time.monotonic() + _WAIT_S
        while True:
            pid, port = holder_in(handle)
            # Try the lock last: trying may briefly take it from a process that is starting. It must
            # be tried, because a holder that was killed leaves its entry in the file.
            if not (_is_alive(pid) and _is_locked(handle)):
                return None
            if port:
                return ServedBy(pid, port)
            if time.monotonic() >= deadline:
                return None
            time.sleep(_POLL_S)
    finally:
        os.close(handle)


def is_in_use(file: str | os.PathLike[str]) -> bool:
    """Whether a live process has the file open. May be wrong about another user's process."""
    path = Path(os.path.realpath(file))
    try:
        handle = os.open(lock_path(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return _is_alive(holder_in(handle)[0]) and _is_locked(handle)
    finally:
        os.close(handle)


def _is_ours(handle: int) -> bool:
    """Whether only this user can have written the file. In a folder that others can write to,
    another user may have created it."""
    status = os.fstat(handle)
    others_may_write = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not others_may_write


def _is_locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(handle, fcntl.LOCK_UN)
    return False


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError, OverflowError):
        return False
    return pid > 0

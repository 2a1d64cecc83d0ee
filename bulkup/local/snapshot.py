"""Copies of a file of the embedded Datastore, made without changing it.

Where the file system can share blocks (btrfs, XFS, bcachefs), a copy takes no time and no room
until one of the two is written to.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from bulkup.core.errors import StateError
from bulkup.core.visible import visible
from bulkup.local.file import APPLICATION_ID, lock
from bulkup.local.sharing import FileInUseError, is_in_use

_FICLONE = 0x40049409
"""Linux ioctl that shares the blocks of a file (linux/fs.h)."""
_CHUNK_BYTES = 8 << 20
_PAGES = 4096
"""SQLite pages copied between two calls of `check`: 16 MB."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def snapshot(source: Path, to: Path, check: Callable[[], None] = lambda: None) -> None:
    """Copy a file as it is now, even while another process serves it and writes to it.

    `to` must not exist; it gets mode 0600, and is removed if copying fails. `check` is called now
    and then, and may raise. Raises StateError.
    """
    source = Path(os.path.realpath(source))
    try:
        _check_ours(source)
        handle = _hold(source)
        try:
            if _has_log(source) or (handle is None and is_in_use(source)):
                _copy_in_use(source, to, check)
            else:
                before = _seen(source)
                copy_at_rest(source, to, check)
                if _seen(source) != before:
                    _remove(to)
                    raise StateError(
                        f"{visible(str(source))} was written to while it was copied; try again"
                    )
        finally:
            if handle is not None:
                os.ftruncate(handle, 0)
                os.close(handle)
    except (OSError, sqlite3.Error) as error:
        raise _cannot_copy(source, to, error) from error


def copy_at_rest(source: Path, to: Path, check: Callable[[], None] = lambda: None) -> None:
    """Copy a file that nobody has open. Raises StateError, and whatever `check` raises."""
    try:
        descriptor = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(source, "rb") as read, open(descriptor, "wb") as write:
                if not _shares_blocks(read.fileno(), write.fileno()):
                    while chunk := read.read(_CHUNK_BYTES):
                        write.write(chunk)
                        check()
        except BaseException:
            _remove(to)
            raise
    except OSError as error:
        raise _cannot_copy(source, to, error) from error


def _shares_blocks(source: int, to: int) -> bool:
    try:
        fcntl.ioctl(to, _FICLONE, source)
    except OSError:
        return False  # not the same file system, or it cannot share blocks
    return True


def _check_ours(path: Path) -> None:
    """Raises StateError for a file that is not one of the embedded Datastore."""
    with open(path, "rb") as file:
        head = file.read(72)
    if head[:16] != b"SQLite format 3\0" or int.from_bytes(head[68:72], "big") != APPLICATION_ID:
        raise StateError(
            f"{visible(str(path))} is not a file of bulkup's embedded Datastore; give one that "
            "`bulkup local load` has made"
        )


def _hold(source: Path) -> int | None:
    """Lock the file so that nobody else opens it. None if somebody has it open, or we may not lock
    it."""
    if not os.access(source.parent, os.W_OK):
        return None
    try:
        return lock(source)
    except FileInUseError:
        return None


def _seen(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_ino, status.st_size, status.st_mtime_ns


def _has_log(source: Path) -> bool:
    """Whether SQLite's log beside the file holds data, as a killed process leaves it. It is part of
    the file."""
    with suppress(FileNotFoundError):
        return source.with_name(f"{source.name}-wal").stat().st_size > 0
    return False


def _copy_in_use(source: Path, to: Path, check: Callable[[], None]) -> None:
    """Copy through SQLite: its read transaction shows one moment, whatever others write."""
    os.close(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    try:
        with (
            closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True, timeout=10)) as read,
            closing(sqlite3.connect(to)) as write,
        ):
            read.isolation_level = None
            read.execute("BEGIN")
            read.execute("SELECT count(*) FROM sqlite_master").fetchone()
            read.backup(write, pages=_PAGES, progress=lambda *_: check())
    except BaseException:
        _remove(to)
        raise


def _remove(path: Path) -> None:
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm", f"{path.name}-journal"):
        with suppress(FileNotFoundError):
            path.with_name(name).unlink()


def remove_copy(path: Path) -> None:
    """Remove a copy, and what SQLite and its lock have left beside it."""
    _remove(path)
    with suppress(FileNotFoundError):
        path.with_name(f"{path.name}-lock").unlink()


def _cannot_copy(source: Path, to: Path, error: Exception) -> StateError:
    full = getattr(error, "errno", 0) in _FULL or "full" in str(error)
    if full:
        free = shutil.disk_usage(to.parent).free
        return StateError(
            f"{visible(str(to.parent))} has no room for a copy of {visible(str(source))} "
            f"({free:,} bytes are free); name a folder on a larger disk with TMPDIR"
        )
    reason = getattr(error, "strerror", None) or str(error)
    return StateError(f"cannot copy {visible(str(source))} ({reason}); check that you may read it")

"""The private folder in which a rehearsal keeps its copies while it works."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bulkup.core.errors import StateError
from bulkup.core.visible import visible
from bulkup.local.access import uninterrupted

_PREFIX = "bulkup-rehearsal-"
_LOCK = "in-use"


@contextmanager
def workplace() -> Iterator[Path]:
    """An empty folder of mode 0700, removed with all its contents when the block ends.

    It is in TMPDIR. Folders left there by rehearsals that were killed (SIGKILL) are removed, too.
    Raises StateError.
    """
    try:
        _sweep(Path(tempfile.gettempdir()))
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        handle = _hold(folder)
    except OSError as error:
        raise StateError(
            f"cannot create a folder in {visible(tempfile.gettempdir())} ({error.strerror}); name "
            "another one with TMPDIR"
        ) from error
    try:
        yield folder
    finally:
        with uninterrupted():  # somebody may press Ctrl-C twice
            shutil.rmtree(folder, ignore_errors=True)
            os.close(handle)


def _hold(folder: Path) -> int:
    """Lock a new folder. The lock file gets its name once it is locked: until then, no other
    process can sweep the folder."""
    new = folder / f"{_LOCK}.new"
    handle = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX)
    new.rename(folder / _LOCK)
    return handle


def _sweep(parent: Path) -> None:
    """Remove the folders of rehearsals that are dead."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if folder.is_symlink() or folder.lstat().st_uid != os.geteuid():
                continue
            handle = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)

"""Which runs of a state directory have not reported that they are finished.

A process may be killed after the commit that finishes its run in Datastore, and before its report
was printed, saved and mailed. A small file in the run's folder says so, from the run's beginning
until its last report was delivered. Folders of earlier versions have none and count as reported.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from bulkup.core.errors import StateError

UNREPORTED_NAME = "unreported"


def begin_unreported(folder: Path, identity: str) -> None:
    """The run of this folder, of work with this identity, has begun. Raises StateError."""
    path = folder / UNREPORTED_NAME
    try:
        # Never through a link, and never over a file that is there: it may be a link's other end.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, flags, 0o600)
            try:
                os.fchmod(descriptor, 0o600)  # whatever the umask is
                os.write(descriptor, identity.encode())
            finally:
                os.close(descriptor)
    except OSError as error:
        raise StateError(
            f"cannot write the run state to {str(path)!r} ({error.strerror}); free disk space or "
            "make it writable, then repeat the command"
        ) from error


def reported(folder: Path) -> None:
    """The report on the end of the run was delivered."""
    with contextlib.suppress(FileNotFoundError):  # also when the folder was deleted meanwhile
        (folder / UNREPORTED_NAME).unlink()


def is_unreported(folder: Path) -> bool:
    return (folder / UNREPORTED_NAME).is_file()


def unreported_runs(state_dir: Path, identity: str) -> list[Path]:
    """The folders of runs of this work that have not reported their end, oldest first.

    Cheap where there are thousands of folders: no checkpoint is opened.
    """
    found = []
    for path in state_dir.glob(f"*/{UNREPORTED_NAME}"):
        with contextlib.suppress(OSError):
            if not path.is_symlink() and path.read_bytes() == identity.encode():
                found.append(path.parent)
    return sorted(found)

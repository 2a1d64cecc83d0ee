"""Which runs of a state directory have not reported that they are finished.

A process may be killed after the commit that finishes its run in Datastore, but before its report
was printed, saved and mailed. So each run has a small file in its folder, from its beginning until
its last report was delivered. Folders of earlier versions have no such file and count as reported.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from bulkup.core.errors import StateError

UNREPORTED_NAME = "unreported"


def begin_unreported(folder: Path, identity: str) -> None:
    """Mark the run in this folder as unreported. `identity`: of its work. Raises StateError."""
    path = folder / UNREPORTED_NAME
    try:
        # Never write through a link, nor over an existing file, which may be a hard link.
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
    """Record that the report on the end of the run was delivered."""
    with contextlib.suppress(FileNotFoundError):  # also when the folder was deleted meanwhile
        (folder / UNREPORTED_NAME).unlink()


def is_unreported(folder: Path) -> bool:
    return (folder / UNREPORTED_NAME).is_file()


def unreported_runs(state_dir: Path, identity: str) -> list[Path]:
    """The folders of runs of this work that have not reported their end, oldest first.

    Cheap even if there are thousands of folders: no checkpoint is opened.
    """
    found = []
    for path in state_dir.glob(f"*/{UNREPORTED_NAME}"):
        with contextlib.suppress(OSError):
            if not path.is_symlink() and path.read_bytes() == identity.encode():
                found.append(path.parent)
    return sorted(found)

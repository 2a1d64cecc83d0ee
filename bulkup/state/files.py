"""Where run state is kept: one folder per run in the state directory, private to its owner."""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from bulkup.core.errors import HeldError, NotFoundError, StateError, UsageError
from bulkup.core.records import group_of, is_run_id

CHECKPOINT_NAME = "checkpoint.sqlite"
LOCK_NAME = "lock"
RANGES_NAME = "ranges"
"""A folder in the folder of a run that is cut into ranges. It holds the folders of the ranges that
this machine has worked on, and a lock shared by all processes that work on them here."""


def make_private_folder(path: Path) -> None:
    """Make a folder and its missing parents, which only the owner can enter, whatever the umask is.
    Existing folders stay as they are. Raises StateError."""
    try:
        missing = [folder for folder in (path, *path.parents) if not folder.exists()]
        for folder in reversed(missing):
            with contextlib.suppress(FileExistsError):  # another process was faster
                folder.mkdir(mode=0o700)
                folder.chmod(0o700)  # a umask may have taken bits away
        path.mkdir(exist_ok=True)  # raises for a path that is a file
    except OSError as error:
        raise StateError(
            f"cannot create the folder {str(path)!r} for the run state ({error.strerror}); "
            "name a writable state directory with --state-dir"
        ) from error


def make_run_folder(state_dir: Path, run_id: str) -> Path:
    """Make the folder of a run. Raises StateError."""
    if not is_run_id(run_id):
        raise StateError(f"{run_id!r} is not the id of a run, so no folder is made for it")
    make_private_folder(state_dir)
    folder = state_dir / run_id
    make_private_folder(folder)
    return folder


def set_aside(folder: Path) -> Path:
    """Rename a run's folder, so that a new run with the same id finds none."""
    for number in itertools.count(1):
        aside = folder.with_name(f"{folder.name}~{number}")
        if not aside.exists():
            break
    folder.rename(aside)
    return aside


def run_folders(state_dir: Path) -> list[Path]:
    """The folders of all runs, sorted by name. That is not always by time: the ids of migrations do
    not begin with one."""
    if not state_dir.is_dir():
        return []
    return sorted(p.parent for p in state_dir.glob(f"*/{CHECKPOINT_NAME}"))


def find_run(
    state_dir: Path, name: str, fits: Callable[[Path], bool] = lambda folder: True
) -> Path:
    """The folder of the run with this id, or with this unambiguous prefix of an id. If several have
    the prefix, `fits` says which can be meant. Raises UsageError, NotFoundError."""
    if not name:
        raise UsageError("the run id is empty; `bulkup list` shows the ids")
    folders = run_folders(state_dir)
    exact = [f for f in folders if f.name == name]
    matching = exact or [f for f in folders if f.name.startswith(name)]
    if len(matching) > 1:
        matching = [folder for folder in matching if fits(folder)] or matching
    if len(matching) > 1:
        raise UsageError(
            f"{name!r} matches {len(matching)} runs, {matching[0].name} and {matching[1].name} "
            "among them; type more of the id"
        )
    if not matching:
        raise NotFoundError(
            f"there is no run {name!r} in {str(state_dir)!r}; `bulkup list` shows the runs there, "
            "--state-dir names another state directory"
        )
    return matching[0]


def find_latest(state_dir: Path) -> Path:
    """The folder of the run that was worked on last."""
    folders = run_folders(state_dir)
    if not folders:
        raise NotFoundError(
            f"there are no runs in {str(state_dir)!r}; --state-dir names another state directory"
        )
    # Among several within one tick of the file system's clock, take the one that began last.
    return max(
        folders, key=lambda folder: ((folder / CHECKPOINT_NAME).stat().st_mtime_ns, folder.name)
    )


def is_latest(folder: Path) -> None:
    """Make this run the one that was worked on last, whatever was just noted in other folders."""
    with contextlib.suppress(FileNotFoundError):  # the folder was deleted meanwhile
        os.utime(folder / CHECKPOINT_NAME)


def group_folders(state_dir: Path, group_id: str) -> list[Path]:
    """The folders of a group's runs, in no useful order; empty: no such group is here."""
    return [f for f in run_folders(state_dir) if group_of(f.name) == group_id]


class RunLock:
    """Held by the process that works on a run. The operating system releases it when that process
    ends."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOCK_NAME
        self.waited = False
        """Whether another process held it and this one waited for that."""
        self._file: IO[str] | None = None

    def acquire(self) -> None:
        """Raises HeldError if another process holds it, StateError if it cannot be acquired."""
        try:
            # The file is truncated below. Through a link, that could be any of the user's files.
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            os.fchmod(descriptor, 0o600)  # whatever the umask is
        except OSError as error:
            raise StateError(
                f"cannot write to the run state in {str(self._path.parent)!r} ({error.strerror}); "
                "make it writable, or name another state directory with --state-dir"
            ) from error
        file = os.fdopen(descriptor, "r+")
        if os.fstat(descriptor).st_nlink > 1:  # a hard link is as harmful as a symbolic one
            file.close()
            raise StateError(
                f"{str(self._path)!r} is a link to another file; delete it and try again"
            )
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = file.read().strip() or "?"
            file.close()
            raise HeldError(
                f"process {holder} of this machine is working on run {self._path.parent.name}; "
                "wait for it (--wait 10m does that), or stop it (its work is safe) and resume"
            ) from None
        except OSError as error:
            file.close()
            raise StateError(
                f"cannot lock {str(self._path)!r} ({error.strerror}); put the run state on a file "
                "system with locks (--state-dir)"
            ) from error
        file.seek(0)
        file.truncate()
        file.write(str(os.getpid()))
        file.flush()
        self._file = file

    def release(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def is_held(self) -> bool:
        """Whether a process is working on the run, or on one of its ranges."""
        shared = self._path.parent / RANGES_NAME / LOCK_NAME
        for path, lock in ((self._path, fcntl.LOCK_SH), (shared, fcntl.LOCK_EX)):
            with contextlib.suppress(FileNotFoundError), path.open() as file:
                try:
                    fcntl.flock(file, lock | fcntl.LOCK_NB)
                except BlockingIOError:
                    return True
        return False


@contextlib.contextmanager
def sharing_ranges(folder: Path) -> Iterator[Path]:
    """Share the work on ranges of the run in this folder with other processes. Yields the folder
    that holds the ranges' folders. Raises StateError."""
    ranges = folder / RANGES_NAME
    make_private_folder(ranges)
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        descriptor = os.open(ranges / LOCK_NAME, flags, 0o600)
    except OSError as error:
        raise StateError(
            f"cannot write to the run state in {str(ranges)!r} ({error.strerror}); make it "
            "writable, or name another state directory with --state-dir"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield ranges
    finally:
        os.close(descriptor)

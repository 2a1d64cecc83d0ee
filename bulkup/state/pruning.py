"""Which folders of a state directory are no longer needed, and how large they are."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bulkup.core.errors import StateError
from bulkup.core.records import group_of
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.files import RunLock, group_folders, run_folders


@dataclass(frozen=True)
class OldRun:
    """A run that is over, and whose folder may be deleted."""

    folder: Path
    updater: str
    state: str
    ended: datetime
    size: int
    """Bytes on disk."""


@dataclass(frozen=True)
class Prunable:
    """What `find_old` found in a state directory."""

    old: tuple[OldRun, ...]
    """The oldest first."""
    younger: int
    """How many runs are over, but ended too recently."""
    unfinished: int
    """How many runs may still be resumed; their folders are never deleted."""
    damaged: tuple[str, ...]
    """Runs whose checkpoint does not say whether they are over; they are kept."""


def find_old(state_dir: Path, before: datetime) -> Prunable:
    """The runs that ended before a time."""
    old, damaged, younger, unfinished = [], [], 0, 0
    for folder in run_folders(state_dir):
        try:
            with closing(Checkpoint.open(folder, check=False)) as checkpoint:
                status, updater = checkpoint.status(), checkpoint.run_info.updater
                ended = datetime.fromisoformat(status.ended or checkpoint.run_info.created)
        except (StateError, sqlite3.DatabaseError):
            damaged.append(folder.name)
            continue
        if not status.state.is_over:
            unfinished += 1
        elif ended >= before:
            younger += 1
        else:
            old.append(OldRun(folder, updater, status.state.value, ended, _size(folder)))
    return Prunable(tuple(old), younger, unfinished, tuple(damaged))


def _size(folder: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in folder.rglob("*"))


def delete(run: OldRun) -> None:
    """Delete a run's folder. Raises HeldError while a process uses it, StateError."""
    if run.folder.is_symlink():
        raise StateError(f"{str(run.folder)!r} is a link, so it is not deleted; delete it by hand")
    lock = RunLock(run.folder)
    lock.acquire()
    try:
        shutil.rmtree(run.folder)
        group_id = group_of(run.folder.name)
        if group_id and not group_folders(run.folder.parent, group_id):
            # The group's own folder holds only its report.
            shutil.rmtree(run.folder.with_name(group_id), ignore_errors=True)
    except OSError as error:
        raise StateError(
            f"cannot delete {str(run.folder)!r} ({error.strerror}); make it writable and try again"
        ) from error
    finally:
        lock.release()

"""The folders of the ranges that this machine has worked on, below the folder of their run.

A range may have several folders: a process that finds the first one in use makes another.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path

from bulkup.core.errors import HeldError, StateError
from bulkup.core.records import RunInfo
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.files import (
    CHECKPOINT_NAME,
    LOCK_NAME,
    RANGES_NAME,
    RunLock,
    make_private_folder,
)


def is_cut(run_folder: Path) -> bool:
    """Whether processes of this machine have worked on ranges of the run, or were about to."""
    return (run_folder / RANGES_NAME).is_dir()


def range_folders(run_folder: Path) -> list[Path]:
    """All folders of ranges, grouped by range, with the ranges in order."""
    return sorted(path.parent for path in (run_folder / RANGES_NAME).glob(f"*/{CHECKPOINT_NAME}"))


def last_folder(run_folder: Path, range_id: str) -> Path | None:
    """The folder of a range that was used last; None: the range has none here."""
    found: dict[Path, int] = {}
    for path in (run_folder / RANGES_NAME).glob(f"{range_id}*/{CHECKPOINT_NAME}"):
        with closing(Checkpoint.open(path.parent, check=False)) as one:
            if one.run_info.run_id == range_id:
                found[path.parent] = one.status().generation
    return max(found, key=lambda folder: (found[folder], folder.name), default=None)


@contextmanager
def range_checkpoint(folder: Path, run_info: RunInfo) -> Iterator[Checkpoint]:
    """Open or create a range's checkpoint, in a folder that no other process uses: a suspended
    process may hold the first one indefinitely. `folder`: the parent of the ranges' folders;
    `run_info`: the range's own."""
    make_private_folder(folder)
    for number in count(1):
        name = run_info.run_id if number == 1 else f"{run_info.run_id}~{number}"
        own = folder / name
        make_private_folder(own)
        lock = RunLock(own)
        with suppress(HeldError):
            lock.acquire()
            break
    try:
        if (own / CHECKPOINT_NAME).exists():
            checkpoint = Checkpoint.open(own)
        else:
            checkpoint = Checkpoint.create(own, run_info)
        with closing(checkpoint):
            yield checkpoint
    finally:
        lock.release()


@contextmanager
def without_workers(run_folder: Path) -> Iterator[None]:
    """Keep processes of this machine from working on ranges of the run in this folder. To join,
    they need the run's own lock, which the caller holds. Raises HeldError, StateError."""
    path = run_folder / RANGES_NAME / LOCK_NAME
    with contextlib.ExitStack() as stack:
        if path.exists():
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
            except OSError as error:
                raise StateError(
                    f"cannot write to the run state in {str(path.parent)!r} ({error.strerror}); "
                    "make it writable, and try again"
                ) from error
            stack.callback(os.close, descriptor)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise HeldError(
                    f"processes of this machine are working on ranges of run {run_folder.name}; "
                    "wait for them, or stop them (their work is safe)"
                ) from None
        yield

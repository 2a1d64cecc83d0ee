"""The files that steer a run, in its folder: `steering.json`, and the answer, `steered.json`.

Whoever steers writes the first file, and the process that works on the run writes the second one
once it has done what was asked. Both are replaced as a whole. Changes are made under a lock on the
folder, so of two concurrent changes the second sees the first. A damaged file counts as missing:
the run record has the same steering.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from bulkup.core.errors import StateError
from bulkup.core.steering import UNSTEERED, Steering, newest, read_stored
from bulkup.state.json_file import read_json, replace_json

STEERING_NAME = "steering.json"
ANSWER_NAME = "steered.json"
LOCK_WAIT_S = 5.0


@dataclass(frozen=True)
class Answer:
    """A runner's answer to the steering with this number."""

    number: int
    phase: str
    """A value of `core.vitals.Phase`, or `ending`."""
    pid: int = 0


def read_steering(folder: Path) -> Steering:
    """What the folder says; UNSTEERED if nobody has steered the run from there."""
    with suppress(OSError, ValueError, RecursionError):
        return read_stored(read_json(folder / STEERING_NAME))
    return UNSTEERED


def read_answer(folder: Path) -> Answer | None:
    """The last answer; None: no runner has answered."""
    with suppress(OSError, ValueError, TypeError, KeyError, RecursionError):
        raw = read_json(folder / ANSWER_NAME)
        return Answer(int(raw["number"]), str(raw["phase"])[:20], int(raw.get("pid", 0)))
    return None


def write_answer(folder: Path, answer: Answer) -> None:
    """Replace the last answer. Raises OSError."""
    replace_json(folder / ANSWER_NAME, asdict(answer))


class FolderBusyError(StateError):
    """Another process is changing the steering, or was stopped while it did."""


def change_steering(
    folder: Path, change: Callable[[Steering], Steering], *, wait_s: float = LOCK_WAIT_S
) -> Steering:
    """Change the steering in the folder and return the new one. `change` may raise.

    Raises FolderBusyError, and StateError if the folder cannot be written.
    """
    try:
        with _locked(folder, wait_s):
            there = read_steering(folder)
            changed = change(there)
            if changed != there:
                replace_json(folder / STEERING_NAME, changed.stored())
            return changed
    except OSError as error:
        raise StateError(
            f"cannot write to the run state in {str(folder)!r} ({error.strerror or error}); make "
            "it writable, or name another state directory with --state-dir"
        ) from error


def adopt_steering(folder: Path, steering: Steering) -> Steering:
    """Write a steering from elsewhere to the folder, unless the folder has a newer one. Does not
    wait for the lock. Returns the one that counts.

    Raises what `change_steering` raises.
    """
    return change_steering(folder, lambda there: newest(there, steering), wait_s=0.0)


class SteeringFile:
    """Looks for changes of `steering.json`, with a single call of `stat` if there are none."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / STEERING_NAME
        self._seen: tuple[int, int, int] | None = None

    def changed(self) -> Steering | None:
        """What the file says, if it was replaced since the last call; None: it was not."""
        try:
            stat = os.stat(self._path)
        except OSError:
            return None
        now = stat.st_mtime_ns, stat.st_ino, stat.st_size
        if now == self._seen:
            return None
        self._seen = now
        return read_steering(self._folder)


@contextmanager
def _locked(folder: Path, wait_s: float) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        give_up = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= give_up:
                    raise FolderBusyError(
                        f"another process is steering the run of {str(folder)!r}; try again"
                    ) from None
                time.sleep(0.01)
        yield
    finally:
        os.close(descriptor)

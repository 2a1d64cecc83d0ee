"""The files of a run's undo log: each runner appends to a file of its own.

A frame consists of its length and its content, compressed by zlib, whose checksum detects damage. A
frame that was cut off by a kill or a power loss is the last one in its file: nothing was written to
that file after it.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from bulkup.core import stop
from bulkup.core.errors import StateError
from bulkup.state.files import RANGES_NAME, make_private_folder

FOLDER = "undo"
"""A folder in the run's folder. It exists if the run keeps before-images, even if there are none
yet."""

_SUFFIX = ".log"
_HEAD = b"bulkup undo log 1\n"
_LENGTH = struct.Struct("<I")

_LEVEL = 1
"""Higher levels save a tenth and take twice the CPU."""


class Frame(NamedTuple):
    kind: int
    payload: bytes


class UndoFiles:
    """Appends frames to a new file of the log. The folder is made now, the file when needed."""

    def __init__(self, run_folder: Path) -> None:
        self._folder = run_folder / FOLDER
        make_private_folder(self._folder)
        self._run_id = run_folder.name
        self.number = max((_number(path) for path in log_files(run_folder)), default=0) + 1
        self._file: int | None = None
        self._is_cut = False
        self._is_gone = False

    def append(self, kind: int, payload: bytes) -> None:
        """Write a frame. It then survives the death of this process. Raises StateError.

        Does nothing once somebody has deleted the run's folder, which the run reports at its end.
        """
        if stop.is_fork:
            stop.end_if_fork()
        if self._is_gone:
            return
        packed = zlib.compress(bytes([kind]) + payload, _LEVEL)
        try:
            if self._is_cut:  # frames after a cut one would never be read
                self.close()
                self.number += 1
                self._is_cut = False
            if self._file is None:
                self._file = _created(self._folder / f"{self.number:06d}{_SUFFIX}")
                os.write(self._file, _HEAD)
            rest = memoryview(_LENGTH.pack(len(packed)) + packed)
            self._is_cut = True
            while rest:
                rest = rest[os.write(self._file, rest) :]
            self._is_cut = False
        except OSError as error:
            if self._file is None and not self._folder.exists():
                self._is_gone = True
                return
            raise StateError(
                f"cannot write before-images to {str(self._folder)!r} ({error.strerror}); free "
                f"disk space and continue with `bulkup resume {self._run_id}`, or with --no-undo, "
                "which keeps none"
            ) from error

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _created(path: Path) -> int:
    """A new file that only its owner can read, whatever the umask is."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    os.fchmod(descriptor, 0o600)
    return descriptor


def keeps_images(run_folder: Path) -> bool:
    """Whether the run has kept before-images, or would have if it had written anything."""
    return (run_folder / FOLDER).is_dir()


def undo_bytes(run_folder: Path) -> int:
    """The size of a run's undo log on disk, including the logs of its ranges."""
    folders = run_folder.glob(FOLDER), run_folder.glob(f"{RANGES_NAME}/*/{FOLDER}")
    return sum(
        path.lstat().st_blocks * 512 for folder in chain(*folders) for path in folder.glob("*")
    )


def log_files(run_folder: Path) -> list[Path]:
    """The files of the log, in order."""
    files = (run_folder / FOLDER).glob(f"*{_SUFFIX}")
    return sorted((path for path in files if path.stem.isdecimal()), key=_number)


def _number(path: Path) -> int:
    return int(path.stem)


def frames_in(path: Path) -> Iterator[Frame]:
    """The frames of a file, up to the first that is cut or damaged. Raises StateError."""
    try:
        with path.open("rb") as file:
            left = os.fstat(file.fileno()).st_size
            head = file.read(len(_HEAD))
            if head != _HEAD:
                if len(head) < len(_HEAD):
                    return
                raise StateError(
                    f"{str(path)!r} was written by another version of bulkup, or is damaged, so "
                    "what the run has changed is not known"
                )
            left -= len(head)
            while len(header := file.read(_LENGTH.size)) == _LENGTH.size:
                (length,) = _LENGTH.unpack(header)
                left -= _LENGTH.size + length
                if left < 0:  # cut; or damaged, and then the length may be anything
                    return
                try:
                    content = zlib.decompress(file.read(length))
                except zlib.error:
                    return
                yield Frame(content[0], content[1:])
    except OSError as error:
        raise StateError(
            f"cannot read the before-images in {str(path)!r} ({error.strerror}); make the file "
            "readable and try again"
        ) from error

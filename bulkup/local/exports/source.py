"""Where the files of an export are.

A `Source` names files by their path relative to the export's folder, with slashes. Another kind of
storage needs only these five methods.
"""

from __future__ import annotations

import errno
import stat
from pathlib import Path
from typing import IO, Protocol


class Source(Protocol):
    """The folder of an export."""

    def find(self, suffix: str) -> list[str]:
        """The names of the files that end in `suffix`, sorted: those in the folder itself, or, if
        it has none, those in its subfolders. Raises OSError."""

    def size(self, name: str) -> int:
        """The size of a file in bytes. Raises FileNotFoundError and other OSErrors."""

    def stamp(self, name: str, *, now: bool = False) -> str:
        """A string that differs from an earlier one if the file was written since. With `now`, it
        must be fetched anew, not taken from what is known about the folder. Raises
        FileNotFoundError and other OSErrors."""

    def open(self, name: str) -> IO[bytes]:
        """A file's content as a stream that is read once, from its beginning to its end.

        Raises FileNotFoundError and other OSErrors, also from `read`.
        """

    def shown(self, name: str) -> str:
        """A file as the user knows it: a path or a URL. An empty `name` stands for the folder."""


class LocalFolder:
    """A folder on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, suffix: str) -> list[str]:
        for pattern in ("*", "*/*"):
            found = sorted(
                path.relative_to(self.folder).as_posix()
                for path in self.folder.glob(pattern)
                if path.name.endswith(suffix) and path.is_file()
            )
            if found:
                return found
        return []

    def size(self, name: str) -> int:
        path = self.folder / name
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):  # reading a pipe would wait forever
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        return found.st_size

    def stamp(self, name: str, *, now: bool = False) -> str:
        found = (self.folder / name).stat()
        return f"{found.st_size}-{found.st_mtime_ns}"

    def open(self, name: str) -> IO[bytes]:
        return (self.folder / name).open("rb")

    def shown(self, name: str) -> str:
        return str(self.folder / name)

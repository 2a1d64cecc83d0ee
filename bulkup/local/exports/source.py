"""Where the files of an export are.

A `Source` names files by their path relative to the export's folder, with slashes. Another kind of
storage needs only the three members.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Protocol


class Source(Protocol):
    """The folder of an export."""

    def names(self) -> list[str]:
        """The names of the files directly in the folder. Raises OSError."""

    def open(self, name: str) -> IO[bytes]:
        """A file's content as a stream that is read once, from its beginning to its end.

        Raises FileNotFoundError if there is no such file, and OSError, also from `read`.
        """

    def shown(self, name: str) -> str:
        """A file as the user knows it: a path or a URL. That of the folder if `name` is empty."""


class LocalFolder:
    """A folder of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        return sorted(entry.name for entry in self.folder.iterdir() if entry.is_file())

    def open(self, name: str) -> IO[bytes]:
        return (self.folder / name).open("rb")

    def shown(self, name: str) -> str:
        return str(self.folder / name)

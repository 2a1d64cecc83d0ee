"""Write an export."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self


class ExportWriter:
    """Writes an export of one database into a new folder; a context manager.

    The folder appears when the block ends, whole and flushed to disk. If an exception leaves the
    block, or the process is killed, there is no folder. Files have mode 0600, folders 0700.

    `kinds`: what the metadata promises; each of these kinds gets its own part, as
    `gcloud datastore export --kinds` does. Empty: all kinds, in one part.

    Raises UsageError if the folder exists and is not empty, StateError if it cannot be written.
    """

    def __init__(self, folder: Path, *, kinds: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.kinds = kinds
        self.entities = 0
        self.bytes = 0

    def write(self, entity: Any) -> None:
        """Add an `Entity` message of the API with a complete key, of any namespace and kind of the
        database. Raises StateError if it cannot be written."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        raise NotImplementedError

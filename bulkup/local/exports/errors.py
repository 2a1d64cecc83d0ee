"""What is wrong with an export, and where."""

from __future__ import annotations

from bulkup.core.errors import BulkupError
from bulkup.core.visible import visible


class ExportError(BulkupError):
    """A file of an export is missing, damaged, cut off, or of another version of the format.

    `file`: as the user knows it, a path or a URL; `offset`: of the damage, in bytes from the
    beginning of the file, or None where the file as a whole is meant.
    """

    def __init__(self, reason: str, file: str, offset: int | None = None, *, advice: str) -> None:
        where = visible(file) + ("" if offset is None else f", byte {offset:,}")
        super().__init__(f"{where}: {reason}; {advice}")
        self.reason = reason
        self.file = file
        self.offset = offset


def damaged(reason: str, file: str, offset: int | None) -> ExportError:
    """Damage that copying the export again can fix."""
    return ExportError(reason, file, offset, advice="copy the export again, or make a new one")

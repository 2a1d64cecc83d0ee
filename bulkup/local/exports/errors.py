"""What is wrong with an export, and where."""

from __future__ import annotations

from bulkup.core.errors import BulkupError
from bulkup.core.visible import visible


class ExportError(BulkupError):
    """A file of an export is missing, damaged, cut off, or of another version of the format.

    `file`: the path or URL, as the user knows it. `offset`: where the damage is, in bytes from the
    beginning of the file, or None for the file as a whole.
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

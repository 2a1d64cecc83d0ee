"""An output stream whose failing cannot end a run.

`bulkup run ... | head` closes our stdout in the middle of a migration; a terminal can hang up,
a disk under a redirected stdout can fill, a console can be unable to encode an arrow. None of
these is a reason to stop writing entities, and none may end in a traceback.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TextIO


class Stream:
    """Writes through to `raw` until it fails once; from then on everything is dropped.

    `lost` says why, in a few words, and is empty while all is well; `on_loss` is told once.
    Has the methods that rich needs of a file.
    """

    def __init__(self, raw: TextIO, on_loss: Callable[[str], None] | None = None) -> None:
        self._raw = raw
        self._on_loss = on_loss
        self.lost = ""

    @property
    def encoding(self) -> str:
        return self._raw.encoding or "utf-8"

    def isatty(self) -> bool:
        try:
            return self._raw.isatty()
        except ValueError:  # a closed stream is no terminal
            return False

    def fileno(self) -> int:
        return self._raw.fileno()

    def write(self, text: str) -> int:
        if not self.lost:
            try:
                try:
                    self._raw.write(text)
                except UnicodeEncodeError:
                    encoded = text.encode(self.encoding, errors="backslashreplace")
                    self._raw.write(encoded.decode(self.encoding))
            except (OSError, ValueError) as error:
                self._lose(error)
        return len(text)

    def flush(self) -> None:
        if not self.lost:
            try:
                self._raw.flush()
            except (OSError, ValueError) as error:
                self._lose(error)

    def line(self, text: str) -> None:
        """Write one line and push it out."""
        self.write(text + "\n")
        self.flush()

    def _lose(self, error: Exception) -> None:
        if isinstance(error, BrokenPipeError):
            self.lost = "its reader went away"
        else:
            self.lost = (isinstance(error, OSError) and error.strerror) or str(error)
        self._drain()
        if self._on_loss is not None:
            self._on_loss(self.lost)

    def _drain(self) -> None:
        """What the interpreter still holds buffered must not fail again when it exits."""
        try:
            number = self._raw.fileno()
        except (OSError, ValueError):  # closed, or no file at all: nothing will be flushed
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)

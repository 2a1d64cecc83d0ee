"""An output stream whose failure cannot end a run.

`bulkup run ... | head` closes stdout in the middle of a migration, a terminal can hang up, a disk
under a redirected stdout can fill, and a console can be unable to encode an arrow. None of these is
a reason to stop writing entities, and none may end in a traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from typing import IO, Any, TextIO, cast

READER_GONE = "its reader has closed it"


class Stream:
    """Writes to `raw` until that fails; from then on drops everything.

    It can replace `sys.stdout`: its other attributes are those of `raw`.
    """

    def __init__(self, raw: TextIO, on_loss: Callable[[str], None] | None = None) -> None:
        self._raw = raw
        self._on_loss = on_loss
        """Called once, with the reason."""
        self.lost: str | None = None
        """Why `raw` failed, in a few words."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    @property
    def encoding(self) -> str:
        return self._raw.encoding or "utf-8"

    def isatty(self) -> bool:
        try:
            return self._raw.isatty()
        except ValueError:  # closed
            return False

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

    def close(self) -> None:
        """Only flushes: an updater that closes `sys.stdout` must not cut off the report."""
        self.flush()

    def line(self, text: str) -> None:
        """Write one line and flush it."""
        self.write(text + "\n")
        self.flush()

    def _lose(self, error: Exception) -> None:
        if isinstance(error, BrokenPipeError):
            self.lost = READER_GONE
        else:
            self.lost = (isinstance(error, OSError) and error.strerror) or str(error)
        self._drain()
        if self._on_loss is not None:
            self._on_loss(self.lost)

    def _drain(self) -> None:
        """Redirect the descriptor to /dev/null, so that other writers do not fail: an updater, or
        the interpreter when it flushes at exit."""
        try:
            number = self._raw.fileno()
        except (OSError, ValueError):  # closed, or not a real file: nothing will be flushed
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


def replace_std(out: TextIO, for_out: Stream, err: TextIO, for_err: Stream) -> ExitStack:
    """Send what is printed to `sys.stdout` and `sys.stderr` to these streams, until the result is
    closed.

    An updater's `print` into a closed pipe would raise, and count as a failure of the entity.
    Streams that are not the process's own (in tests) stay as they are.
    """
    stack = ExitStack()
    if out is sys.stdout:
        stack.enter_context(redirect_stdout(cast(IO[str], for_out)))
    if err is sys.stderr:
        stack.enter_context(redirect_stderr(cast(IO[str], for_err)))
    return stack

"""An output stream whose failing cannot end a run.

`bulkup run ... | head` closes our stdout in the middle of a migration; a terminal can hang up,
a disk under a redirected stdout can fill, a console can be unable to encode an arrow. None of
these is a reason to stop writing entities, and none may end in a traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from typing import IO, Any, TextIO, cast


class Stream:
    """Writes through to `raw` until it fails once; from then on everything is dropped.

    `lost` says why, in a few words, and is empty while all is well; `on_loss` is told once.
    It can stand in for `sys.stdout`: whatever else one may ask of a file is asked of `raw`.
    """

    def __init__(self, raw: TextIO, on_loss: Callable[[str], None] | None = None) -> None:
        self._raw = raw
        self._on_loss = on_loss
        self.lost = ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._raw, name)

    @property
    def encoding(self) -> str:
        return self._raw.encoding or "utf-8"

    def isatty(self) -> bool:
        try:
            return self._raw.isatty()
        except ValueError:  # a closed stream is no terminal
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
        """Whoever else writes there, an updater or the interpreter as it exits, shall not fail."""
        try:
            number = self._raw.fileno()
        except (OSError, ValueError):  # closed, or no file at all: nothing will be flushed
            return
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, number)
        os.close(nowhere)


def stand_in(out: TextIO, for_out: Stream, err: TextIO, for_err: Stream) -> ExitStack:
    """Until the result is closed, who prints to `sys.stdout` and `sys.stderr` prints to these.

    An updater's `print` into a closed pipe would raise, and count as a failure of the entity.
    What is not the process's own output (in tests) is left alone.
    """
    stack = ExitStack()
    if out is sys.stdout:
        stack.enter_context(redirect_stdout(cast(IO[str], for_out)))
    if err is sys.stderr:
        stack.enter_context(redirect_stderr(cast(IO[str], for_err)))
    return stack

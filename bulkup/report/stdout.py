"""Keeps standard output for bulkup's own lines, whatever else this process or its children print.

`print` is not the only writer: `os.write(1, ...)`, a subprocess, a C library and a process that a
handler has forked write to descriptor 1. So `keep_stdout` redirects that descriptor to standard
error, and only the stream it returns reaches the reader. Call it before user code is imported.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO

STDOUT, STDERR = 1, 2


class KeptStdout:
    """`stream` writes to the standard output that the process was started with."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def release(self) -> None:
        """Make descriptor 1 standard output again."""
        global _kept
        if _kept is not self:
            return
        _kept = None
        _flush(sys.__stdout__)  # what was printed so far must not go to standard output
        os.dup2(self.stream.fileno(), STDOUT)  # the null device by now if the reader is gone
        self.stream.close()


_kept: KeptStdout | None = None


def kept_stdout() -> KeptStdout | None:
    """The standard output that `keep_stdout` keeps; None if it is not kept."""
    return _kept


def keep_stdout() -> KeptStdout:
    """Keep standard output for the returned stream, until `release`."""
    global _kept
    if _kept is None:
        _flush(sys.stdout)
        try:
            number = os.dup(STDOUT)  # not inherited by programs that are started
        except OSError:  # closed when the process started; no file may get its number
            _lead_nowhere(STDOUT)
            number = os.dup(STDOUT)
        stream = open(number, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 - `release` closes it
        _kept = KeptStdout(stream)
        try:
            os.dup2(STDERR, STDOUT)
        except OSError:
            _lead_nowhere(STDOUT)
    return _kept


def is_process_stdout(stream: TextIO | None) -> bool:
    """Whether a stream writes to descriptor 1, and not to a test's buffer."""
    try:
        return stream is not None and stream.fileno() == STDOUT
    except (OSError, ValueError, io.UnsupportedOperation, AttributeError):
        return False


def _lead_nowhere(number: int) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if nowhere != number:
        os.dup2(nowhere, number)
        os.close(nowhere)


def _flush(stream: TextIO | None) -> None:
    try:
        if stream is not None:
            stream.flush()
    except (OSError, ValueError):
        pass  # closed, or its reader is gone: there is nobody to tell

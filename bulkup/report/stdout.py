"""Standard output for bulkup's own lines alone, whatever else this process or its children print.

`print` is not all there is: `os.write(1, ...)`, a subprocess, a C library and a process that a
handler has forked write to descriptor 1, so that one leads to standard error from `keep_stdout` on.
Only the stream that it returns reaches the reader. Kept before user code is imported.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO

STDOUT, STDERR = 1, 2


class KeptStdout:
    """`stream` leads to the standard output that the process was started with."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def release(self) -> None:
        """Let descriptor 1 be standard output again."""
        global _kept
        if _kept is not self:
            return
        _kept = None
        _flush(sys.__stdout__)  # what is printed so far is not for standard output
        os.dup2(self.stream.fileno(), STDOUT)  # leads nowhere by now if its reader is gone
        self.stream.close()


_kept: KeptStdout | None = None


def kept_stdout() -> KeptStdout | None:
    """The standard output that `keep_stdout` keeps; None: nobody keeps it."""
    return _kept


def keep_stdout() -> KeptStdout:
    """Keep standard output for the stream that is returned, until `release`."""
    global _kept
    if _kept is None:
        _flush(sys.stdout)
        try:
            number = os.dup(STDOUT)  # closed in a program that is started
        except OSError:  # it was closed when the process started; keep files off its number
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

"""Reads the log of a run, even while another process writes it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from bulkup.core.closing import Closing
from bulkup.core.errors import StateError
from bulkup.core.log_entry import LogEntry as LogEntry
from bulkup.core.log_entry import parse_entry
from bulkup.state.run_log import EVENTS_NAME, OLDER_NAME

MAX_LINE_BYTES = 256 * 1024
"""A longer line was not written by bulkup."""


def read_log(folder: Path) -> Iterator[LogEntry]:
    """The events in a run's folder, oldest first; none if there is no log. Lines that are damaged
    or torn are left out. Raises StateError."""
    with LogReader(folder) as reader:
        yield from reader.read()


class LogReader(Closing):
    """A position in a run's log: each `read` yields what was added since the last one."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / EVENTS_NAME
        self._older = folder / OLDER_NAME
        self._file: IO[bytes] | None = None
        self._torn = b""
        """The beginning of a line that is being written."""

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self) -> Iterator[LogEntry]:
        """Raises StateError when the log cannot be read."""
        try:
            if self._file is None:
                self._file = _opened(self._older) or _opened(self._path)
            while self._file is not None:
                # Check before reading: once replaced, the open file gets no more lines.
                is_replaced = self._is_replaced()
                yield from self._rest()
                if not is_replaced:
                    return
                self._open_next()
        except OSError as error:
            raise StateError(
                f"cannot read {str(self._path)!r} ({error.strerror}); make it readable and try "
                "again"
            ) from error

    def _is_replaced(self) -> bool:
        """Whether the log's name now belongs to another file than the open one."""
        return self._path.exists() and not self._is_open(self._path)

    def _is_open(self, path: Path) -> bool:
        assert self._file is not None
        with suppress(FileNotFoundError):
            return os.path.samestat(os.fstat(self._file.fileno()), path.stat())
        return False

    def _open_next(self) -> None:
        """Open the file that was written after the open one. If this process reads slowly, that
        file may be the older one by now, too."""
        following = self._path if self._is_open(self._older) else None
        file = _opened(following or self._older) or _opened(self._path)
        self.close()
        self._file, self._torn = file, b""

    def _rest(self) -> Iterator[LogEntry]:
        assert self._file is not None
        skips = False
        while chunk := self._file.readline(MAX_LINE_BYTES):
            line, self._torn = self._torn + chunk, b""
            if not line.endswith(b"\n"):
                if len(line) >= MAX_LINE_BYTES:
                    skips = True
                else:
                    self._torn = line
                continue
            entry = None if skips else parse_entry(line)
            skips = False
            if entry is not None:
                yield entry


def _opened(path: Path) -> IO[bytes] | None:
    with suppress(FileNotFoundError):
        # Do not block on a pipe that somebody has put there.
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")
    return None

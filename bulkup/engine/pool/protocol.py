"""What goes through the pipes between a run and its worker processes, at both ends.

A frame is its length and a marshalled tuple whose first field says which it is. marshal makes
plain data only (nothing is imported or called by reading it) and takes a third of pickle's time;
that it differs between versions of Python does not matter, for both ends are the same interpreter.
The pipes are inherited, so nobody else can write to them.
"""

from __future__ import annotations

import marshal
import os
import signal
import struct
import threading
from typing import Any

from bulkup.core.model import Failure
from bulkup.datastore.call_error import CallError
from bulkup.engine.handled import Handled, Write

# To a worker.
ORDERS, CHUNK, AGAIN, STOP, END = range(5)
"""(ORDERS, dict) · (CHUNK, number, PageBatch bytes) · (AGAIN, number, key, cursor,
PageResult bytes) · (STOP, seconds since a signal or -1) · (END,)"""

# From a worker.
DONE, HANDLED_AGAIN, RETRYING, PRINTED, REFUSED = range(5)
"""(DONE, number, items, whole, moves, error, seconds) · (HANDLED_AGAIN, number, item, moves,
error) · (RETRYING, error, attempt, wait_s, left_s) · (PRINTED, to stderr, bytes) ·
(REFUSED, class of the error, message, details)"""

SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""Those that the run decides about, also where all processes get them."""

_LENGTH = struct.Struct("<Q")

READ_BYTES = 64 * 1024
"""At a time, at most: all that a pipe holds."""


def frame(content: tuple[Any, ...]) -> bytes:
    data = marshal.dumps(content)
    return _LENGTH.pack(len(data)) + data


class Reader:
    """Frames from a pipe, waited for."""

    def __init__(self, descriptor: int) -> None:
        # No file object: Python would wait for its lock when it ends, and a thread is reading.
        self._descriptor = descriptor
        self._ahead = bytearray()
        """Read, and not given yet."""

    def read(self) -> tuple[Any, ...] | None:
        """None: the other end is closed."""
        size = _LENGTH.size
        if not self._fill(size):
            return None
        end = size + _LENGTH.unpack_from(self._ahead)[0]
        if not self._fill(end):
            return None
        with memoryview(self._ahead) as ahead:
            content: tuple[Any, ...] = marshal.loads(ahead[size:end])  # noqa: S302 - from our own other end
        del self._ahead[:end]
        return content

    def _fill(self, size: int) -> bool:
        """So many bytes are there; False: there will not be any more."""
        while len(self._ahead) < size:
            # As much as there is: each read is one more wait for the interpreter's lock.
            part = os.read(self._descriptor, READ_BYTES)
            if not part:
                return False
            self._ahead += part
        return True

    def close(self) -> None:
        os.close(self._descriptor)


class Writer:
    """Frames to a pipe; any thread may send."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self.is_ours = True
        """Not in a process that a handler has forked: if that comes back from the handler, it ends
        where it would send."""

    def send(self, *content: Any) -> None:
        """Raises BrokenPipeError when nobody is there to read."""
        if not self.is_ours:
            os._exit(0)
        rest = memoryview(frame(content))
        with self._lock:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]


def packed(item: Handled) -> tuple[Any, ...]:
    """A handled entity as plain data; the two common cases are short."""
    writes = item.writes
    if not (item.log_lines or item.failure or item.unchanged):
        if not writes:
            return item.key, item.cursor
        if len(writes) == 1:
            write = writes[0]
            if write.key == item.key and not write.incomplete:
                return item.key, item.cursor, write.mutation, write.version, write.deletes
    failure = item.failure
    return (
        item.key,
        item.cursor,
        [(w.key, w.mutation, w.version, w.deletes, w.incomplete) for w in writes],
        item.unchanged,
        [str.__str__(line) for line in item.log_lines],  # marshal takes no subclass
        failure and (failure.key, failure.step, failure.error, failure.traceback),
    )


def unpacked(data: tuple[Any, ...]) -> Handled:
    item = Handled(data[0], data[1])
    if len(data) == 2:
        return item
    if len(data) == 5:
        item.set_writes((Write(data[0], data[2], data[3], data[4], False),))
        return item
    _, _, writes, item.unchanged, item.log_lines, failure = data
    item.set_writes([Write(*write) for write in writes])
    item.failure = Failure(*failure) if failure else None
    return item


def packed_error(error: CallError) -> tuple[Any, ...]:
    return error.call, error.code_name, error.details, error.request_bytes


def unpacked_error(data: tuple[Any, ...]) -> CallError:
    return CallError.named(*data)

"""The messages between a run and its worker processes, and how they go through the pipes.

A frame is a length and a marshalled tuple whose first field is the kind of message. Reading
marshalled data imports and calls nothing, and takes a third of pickle's time. Its format differs
between versions of Python, which does not matter: both ends are the same interpreter. The pipes are
inherited, so nobody else can write to them.
"""

from __future__ import annotations

import marshal
import os
import signal
import struct
import threading
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

from bulkup.core.model import Failure, LogLine, TargetInfo
from bulkup.datastore.call_error import CallError
from bulkup.datastore.messages import QueryPb
from bulkup.engine.handled import Handled, Write
from bulkup.engine.key_scan import KeyPlan
from bulkup.engine.scan import QueryPlan
from bulkup.state.key_list import KeyFacts

# To a worker.
SETUP, CHUNK, AGAIN, STOP, END = range(5)
"""(SETUP, a packed WorkerSetup, worker number, argv) · (CHUNK, number, PageBatch bytes) ·
(AGAIN, number, key, cursor, PageResult bytes) · (STOP, seconds since a signal or -1) · (END,)"""

# From a worker.
DONE, HANDLED_AGAIN, RETRYING, PRINTED, REFUSED, COMMITS, HINTS = range(7)
"""(DONE, number, items, whole, moves, error, seconds, requests for reads) ·
(HANDLED_AGAIN, number, item, moves, error) · (RETRYING, error, attempt, wait_s, left_s) ·
(PRINTED, to stderr, bytes) ·
(REFUSED, class of the error, message, details) · (COMMITS,): a handler is about to write through
its client, for the first time · (HINTS, what was noticed about the updater's code)"""

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""The run decides what a signal means, even if every process receives it."""

_LENGTH = struct.Struct("<Q")

READ_BYTES = 64 * 1024
"""At most this much in one read: all that a pipe holds by default."""


@dataclass(frozen=True)
class WorkerSetup:
    """What a worker needs to make the run's updater again."""

    spec: str
    checksum: str
    params: Mapping[str, str]
    target: TargetInfo
    address: str | None
    """host:port of the emulator or the embedded Datastore; None: the real service."""
    query: QueryPlan
    retry_for_s: float
    keeps_images: bool
    """Note with each write what it replaces."""

    def packed(self) -> tuple[Any, ...]:
        """The setup as plain data, which marshal can write."""
        query = self.query
        return (
            self.spec, self.checksum, dict(self.params), astuple(self.target), self.address,
            (
                query.pb.SerializeToString(), query.namespace, query.keys_only,
                query.has_filters, tuple(query.ranged),
                astuple(query.keys) if isinstance(query, KeyPlan) else None, query.is_repeated,
            ),
            self.retry_for_s, self.keeps_images,
        )  # fmt: skip

    @classmethod
    def unpacked(cls, data: tuple[Any, ...]) -> WorkerSetup:
        spec, checksum, params, target, address, query, retry_for_s, keeps_images = data
        pb, namespace, keys_only, has_filters, ranged, keys, is_repeated = query
        plan = QueryPlan(
            QueryPb.FromString(pb), namespace, keys_only, has_filters, frozenset(ranged),
            is_repeated=is_repeated,
        )  # fmt: skip
        if keys is not None:
            plan = KeyPlan.of(plan, KeyFacts(*keys), None)
        return cls(
            spec, checksum, params, TargetInfo(*target), address, plan, retry_for_s, keeps_images
        )


def frame(content: tuple[Any, ...]) -> bytes:
    data = marshal.dumps(content)
    return _LENGTH.pack(len(data)) + data


class Reader:
    """Reads frames from a pipe, and blocks until they arrive."""

    def __init__(self, descriptor: int) -> None:
        # Not a file object: at exit Python would wait for its lock, which a reading thread holds.
        self._descriptor = descriptor
        self._ahead = bytearray()
        """What was read from the pipe and not returned yet."""

    def read(self) -> tuple[Any, ...] | None:
        """The next frame; None if the other end is closed."""
        size = _LENGTH.size
        if not self._fill(size):
            return None
        end = size + _LENGTH.unpack_from(self._ahead)[0]
        if not self._fill(end):
            return None
        with memoryview(self._ahead) as ahead:
            content: tuple[Any, ...] = marshal.loads(ahead[size:end])  # noqa: S302 - our own pipe
        del self._ahead[:end]
        return content

    def _fill(self, size: int) -> bool:
        """Read until this many bytes are there. Returns False if the pipe ends before that."""
        while len(self._ahead) < size:
            # Read as much as there is: each read has to wait for the interpreter's lock.
            part = os.read(self._descriptor, READ_BYTES)
            if not part:
                return False
            self._ahead += part
        return True

    def close(self) -> None:
        os.close(self._descriptor)


class Writer:
    """Writes frames to a pipe, from any thread."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self.is_ours = True
        """False in a process that a handler has forked. If such a process returns from the handler,
        it exits instead of sending."""

    def send(self, *content: Any) -> None:
        """Raises BrokenPipeError when the other end is closed."""
        if not self.is_ours:
            os._exit(0)
        rest = memoryview(frame(content))
        with self._lock:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]


def packed(item: Handled) -> tuple[Any, ...]:
    """A handled entity as plain data, short in the two common cases."""
    writes = item.writes
    if not (item.log_lines or item.failure or item.unchanged or item.reads or item.unwritten):
        if not writes:
            return item.key, item.cursor
        if len(writes) == 1:
            write = writes[0]
            if write.key == item.key and not write.incomplete:
                return (
                    item.key, item.cursor, write.mutation, write.version, write.deletes,
                    write.before,
                )  # fmt: skip
    failure = item.failure
    return (
        item.key,
        item.cursor,
        [(w.key, w.mutation, w.version, w.deletes, w.incomplete, w.before) for w in writes],
        item.unchanged,
        [(str.__str__(line), line.at) for line in item.log_lines],  # marshal takes no subclass
        failure and (failure.key, failure.step, failure.error, failure.traceback, failure.at),
        item.reads,
        item.unwritten,
        item.together,
    )


def unpacked(data: tuple[Any, ...]) -> Handled:
    item = Handled(data[0], data[1])
    if len(data) == 2:
        return item
    if len(data) == 6:
        item.set_writes((Write(data[0], data[2], data[3], data[4], False, data[5]),))
        return item
    (
        _, _, writes, item.unchanged, log_lines, failure, item.reads, item.unwritten, item.together,
    ) = data  # fmt: skip
    item.log_lines = [LogLine.of(line, at) for line, at in log_lines]
    item.set_writes([Write(*write) for write in writes])
    item.failure = Failure(*failure) if failure else None
    return item


def packed_error(error: CallError) -> tuple[Any, ...]:
    return error.call, error.code_name, error.details, error.request_bytes


def unpacked_error(data: tuple[Any, ...]) -> CallError:
    return CallError.named(*data)

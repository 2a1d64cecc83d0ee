"""A worker process: the updater's handler, and nothing else of a run.

It gets entities through a pipe, calls the handler for each, and gives back what the handler asked
for. Reading pages, writing, and all that a run promises stay in the process that started it
(`engine/pool/pool.py`). It ends when that process does, however it does.
"""

from __future__ import annotations

import io
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections import deque
from contextlib import suppress
from typing import Any

from bulkup.authoring.loader import load, make
from bulkup.authoring.parameters import convert
from bulkup.core.clock import Clock
from bulkup.core.errors import BulkupError, UpdaterError
from bulkup.core.user_traceback import error_line, user_traceback
from bulkup.datastore.call_error import CallError
from bulkup.datastore.connect import open_rpc
from bulkup.datastore.messages import QueryPb
from bulkup.datastore.pages import PageBatch, PageResult
from bulkup.datastore.retry import RetryPolicy
from bulkup.datastore.target import resolve
from bulkup.datastore.user_client import UserClient
from bulkup.engine.handle import Handler
from bulkup.engine.pool import protocol
from bulkup.engine.scan import QueryPlan

IS_LOADING = False
"""A worker imports the user's file. A `bulkup.run` at its top level would start yet more."""

_ORPHANED = 1
_FAILED = 1


class Worker:
    def __init__(self, reader: protocol.Reader, writer: protocol.Writer) -> None:
        self._reader = reader
        self._writer = writer
        self._send = writer.send
        self._inbox: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
        self._urgent: deque[tuple[Any, ...]] = deque()
        """Entities to be handled again, which the run waits for: before the next of a chunk."""
        self._stopping = False
        self._asked_at: float | None = None
        """When the user asked to stop, by time.monotonic."""
        self._handler: Handler

    def work(self) -> None:
        """Until told to end. Orders come first."""
        orders = self._reader.read()
        if orders is None:
            return
        sys.argv[:] = orders[1]["argv"]
        sys.stdout = self._printer(to_stderr=False)
        sys.stderr = self._printer(to_stderr=True)
        os.register_at_fork(after_in_child=self._forked)
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            self._handler = self._ready(orders[1])
        except BulkupError as error:
            self._send(protocol.REFUSED, type(error).__name__, error.message, error.details)
            return
        with self._handler.open():
            while (frame := self._inbox.get()) is None or frame[0] != protocol.END:
                self._handle_urgent()
                if frame is not None:
                    self._handle_chunk(frame[1], frame[2])
                sys.stdout.flush()
                sys.stderr.flush()
        # The thread that listens keeps this object to the end. What the updater has left open is
        # to be closed then.
        del self._handler

    def _forked(self) -> None:
        """What a handler forks shares the pipe, and not the lock that keeps its frames whole."""
        self._writer.is_ours = False
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__

    def _listen(self) -> None:
        """On a thread, so that the end of the run is heard in the middle of a long handler."""
        while (frame := self._reader.read()) is not None:
            if frame[0] == protocol.AGAIN:
                self._urgent.append(frame)
                self._inbox.put(None)
            elif frame[0] == protocol.STOP:
                self._asked_at = time.monotonic() - frame[1] if frame[1] >= 0 else None
                self._stopping = True
            else:
                self._inbox.put(frame)
        os._exit(_ORPHANED)  # the run is gone without a word; nobody wants what we do

    # --- the updater ---

    def _ready(self, orders: dict[str, Any]) -> Handler:
        """The same updater as in the run, on the same target. Raises BulkupError."""
        global IS_LOADING
        target = resolve(
            orders["project"], orders["database"], orders["namespace"],
            local=orders["local"], address=orders["emulator"],
        )  # fmt: skip
        IS_LOADING = True
        source = load(orders["spec"])
        IS_LOADING = False
        if source.checksum != orders["checksum"]:
            raise UpdaterError(
                f"{source.path} has changed since this run loaded it, and its worker processes "
                "would work with the new code: run the command again"
            )
        updater = make(source, convert(source, orders["params"]))
        retry_policy = RetryPolicy(orders["retry_for_s"], stopping_s=self._stopping_s)
        rpc = open_rpc(target, retry_policy, Clock())
        rpc.contacted = True  # the run has reached the server
        rpc.on_retry = self._retrying
        updater.client = UserClient.over(rpc, target.client)
        try:
            updater.get_query()  # the run has its own; this one for what it may set on self
        except (Exception, SystemExit) as error:
            raise UpdaterError(
                f"get_query of {source.name} raised {error_line(error)} in a worker process",
                details=user_traceback(error),
            ) from error
        query = QueryPlan(
            QueryPb.FromString(orders["query"]), orders["query_namespace"], orders["keys_only"],
            orders["has_filters"], frozenset(orders["ranged"]),
        )  # fmt: skip
        return Handler(updater, query, fresh_from=orders["number"] << 40)

    def _stopping_s(self) -> float:
        return -1.0 if self._asked_at is None else time.monotonic() - self._asked_at

    def _retrying(self, error: CallError, attempt: int, wait_s: float, left_s: float) -> None:
        self._send(protocol.RETRYING, protocol.packed_error(error), attempt, wait_s, left_s)

    # --- entities ---

    def _handle_chunk(self, number: int, data: bytes) -> None:
        began = time.monotonic()
        handle, packed = self._handler.handle, protocol.packed
        entities = PageBatch.FromString(data).entity_results
        items: list[tuple[Any, ...]] = []
        error = None
        try:
            for result in entities:
                if self._urgent:
                    self._handle_urgent()
                if self._stopping:
                    break
                items.append(packed(handle(result, result.entity.key, result.cursor)))
        except CallError as failed:
            error = protocol.packed_error(failed)
        self._send(
            protocol.DONE, number, items, len(items) == len(entities), self._handler.moves, error,
            time.monotonic() - began,
        )  # fmt: skip

    def _handle_urgent(self) -> None:
        while self._urgent:
            _, number, key, cursor, data = self._urgent.popleft()
            item = error = None
            try:
                item = self._handler.handle(PageResult.FromString(data), key, cursor)
            except CallError as failed:
                error = protocol.packed_error(failed)
            self._send(
                protocol.HANDLED_AGAIN,
                number,
                item and protocol.packed(item),
                self._handler.moves,
                error,
            )

    # --- what it prints ---

    def _printer(self, *, to_stderr: bool) -> io.TextIOWrapper:
        """Through the run, which knows where that belongs: above its progress bar, or not on
        stdout when that has JSON lines alone."""
        raw = _Printed(self._send, to_stderr)
        return io.TextIOWrapper(
            io.BufferedWriter(raw), "utf-8", "backslashreplace", line_buffering=True
        )


class _Printed(io.RawIOBase):
    def __init__(self, send: Any, to_stderr: bool) -> None:
        self._send = send
        self._to_stderr = to_stderr

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2 if self._to_stderr else 1  # for the processes that a handler starts

    def write(self, data: Any) -> int:
        self._send(protocol.PRINTED, self._to_stderr, bytes(data))
        return len(data)


def main() -> None:
    """`argv`: the descriptors to read from and to write to, and then `sys.path`."""
    down, up = int(sys.argv[1]), int(sys.argv[2])
    for descriptor in (down, up):
        os.set_inheritable(descriptor, False)  # a handler's own processes must not hold them open
    for number in protocol.SIGNALS:
        # The run decides. Not SIG_IGN, which processes that a handler starts would inherit.
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, protocol.SIGNALS)
    try:
        Worker(protocol.Reader(down), protocol.Writer(up)).work()
    except BaseException:
        # At once: a thread of the user's would keep the process, and the run would wait for it.
        with suppress(OSError):
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(_FAILED)
    sys.stdout.flush()
    sys.stderr.flush()

"""What runs in a worker process: the updater's handler, and nothing else of a run.

A worker reads entities from a pipe, calls the handler for each, and sends back the writes that the
handler asked for. Reading pages, committing, and all of a run's guarantees stay in the run's
process (`engine/pool/pool.py`). A worker ends when that process ends, however it ends.
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
from contextlib import ExitStack, suppress
from typing import Any

from bulkup.authoring.loader import load, make
from bulkup.authoring.parameters import convert
from bulkup.core.clock import Clock
from bulkup.core.errors import BulkupError, UpdaterError
from bulkup.core.stop import default_in_forks
from bulkup.core.user_traceback import error_line, user_traceback
from bulkup.datastore.call_error import CallError
from bulkup.datastore.connect import open_rpc
from bulkup.datastore.containment import Containment, contained
from bulkup.datastore.pages import PageBatch, PageResult
from bulkup.datastore.retry import RetryPolicy
from bulkup.datastore.target import resolve
from bulkup.datastore.user_client import UserClient
from bulkup.engine.any_handler import AnyHandler
from bulkup.engine.async_handler import AsyncHandler
from bulkup.engine.handle import Handler
from bulkup.engine.handled import Handled
from bulkup.engine.key_handler import make_handler
from bulkup.engine.pool import protocol
from bulkup.engine.pool.protocol import WorkerSetup
from bulkup.engine.pool.state_watch import StateWatch

IS_LOADING = False
"""The worker is importing the user's file. A `bulkup.run` at the top level of that file would start
more workers, and is refused."""

_ORPHANED = 1
_FAILED = 1


class Worker:
    def __init__(self, reader: protocol.Reader, writer: protocol.Writer) -> None:
        self._reader = reader
        self._writer = writer
        self._send = writer.send
        self._inbox: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
        self._urgent: deque[tuple[Any, ...]] = deque()
        """Entities to handle again. The run waits for them, so they come before the next entity of
        a chunk."""
        self._stopping = False
        self._asked_at: float | None = None
        """When the user asked to stop, as a value of time.monotonic()."""
        self._handler: AnyHandler
        self._state: StateWatch
        self._chunks = 0
        self._open = ExitStack()
        """Stays open as long as the updater may be called."""

    def work(self) -> None:
        """Work until told to end. The first message is the setup."""
        message = self._reader.read()
        if message is None:
            return
        _, setup, number, argv = message
        sys.argv[:] = argv
        sys.stdout = self._printer(to_stderr=False)
        sys.stderr = self._printer(to_stderr=True)
        os.register_at_fork(after_in_child=self._forked)
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            self._handler = self._make_handler(WorkerSetup.unpacked(setup), number)
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
        self._state.look()
        self._send_hints()
        if isinstance(self._handler, AsyncHandler):
            self._handler.close()
        # The listening thread keeps this object alive to the end, but what the updater has left
        # open must be closed now.
        del self._handler, self._state

    def _forked(self) -> None:
        """A forked process shares the pipe, but not the lock that keeps frames whole."""
        self._writer.is_ours = False
        sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__

    def _listen(self) -> None:
        """On a thread of its own, so that a long handler does not hide the end of the run."""
        while (frame := self._reader.read()) is not None:
            if frame[0] == protocol.AGAIN:
                self._urgent.append(frame)
                self._inbox.put(None)
            elif frame[0] == protocol.STOP:
                self._asked_at = time.monotonic() - frame[1] if frame[1] >= 0 else None
                self._stopping = True
            else:
                self._inbox.put(frame)
        os._exit(_ORPHANED)  # the run's process has died; nobody needs the results

    # --- the updater ---

    def _make_handler(self, setup: WorkerSetup, number: int) -> AnyHandler:
        """Make the handler of the same updater as in the run, on the same target. Raises
        BulkupError."""
        global IS_LOADING
        info = setup.target
        target = resolve(
            info.project, info.database, info.namespace,
            local=info.local, address=setup.address or "",
        )  # fmt: skip
        self._open.enter_context(contained(Containment(target, warn=_warn, owns_process=True)))
        IS_LOADING = True
        source = load(setup.spec)
        IS_LOADING = False
        if source.checksum != setup.checksum:
            raise UpdaterError(
                f"{source.path} has changed since this run loaded it, so its worker processes "
                "would run the new code: run the command again"
            )
        updater = make(source, convert(source, setup.params))
        retry_policy = RetryPolicy(setup.retry_for_s, stopping_s=self._stopping_s)
        rpc = open_rpc(target, retry_policy, Clock())
        rpc.tag(source.name)
        rpc.contacted = True  # the run has reached the server
        rpc.on_retry = self._retrying
        updater.client = UserClient.over(rpc, target.client)
        try:
            updater.get_query()  # not for its result, which the run has, but for what it sets
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raise UpdaterError(
                f"get_query of {source.name} raised {error_line(error)} in a worker process",
                details=user_traceback(error),
            ) from error
        handler = make_handler(
            updater, setup.query, rpc, keeps_images=setup.keeps_images, fresh_from=number << 40
        )
        handler.watch_client(self._commits)
        if isinstance(handler, AsyncHandler):
            handler.on_wait = self._stop_if_asked
        self._state = StateWatch(updater, handler.hints)
        return handler

    def _stop_if_asked(self) -> None:
        if self._stopping and isinstance(self._handler, AsyncHandler):
            self._handler.stop_starting()

    def _commits(self) -> None:
        self._handler.watch_client(None)  # once is enough
        self._send(protocol.COMMITS)

    def _stopping_s(self) -> float:
        return -1.0 if self._asked_at is None else time.monotonic() - self._asked_at

    def _retrying(self, error: CallError, attempt: int, wait_s: float, left_s: float) -> None:
        self._send(protocol.RETRYING, protocol.packed_error(error), attempt, wait_s, left_s)

    # --- entities ---

    def _handle_chunk(self, number: int, data: bytes) -> None:
        began, requests = time.monotonic(), self._handler.requests
        self._chunks += 1
        handle, packed = self._handler.handle, protocol.packed
        if self._chunks == 1:
            handle = self._handle_first
        entities = PageBatch.FromString(data).entity_results
        count = len(entities)
        items: list[tuple[Any, ...]] = []
        error = None
        try:
            if not isinstance(self._handler, Handler):
                for item in self._handler.handle_many(entities):
                    items.append(packed(item))
                    if self._chunks == len(items) == 1:
                        self._state.begin()
                entities = ()
            for result in entities:
                if self._urgent:
                    self._handle_urgent()
                if self._stopping:
                    break
                items.append(packed(handle(result, result.entity.key, result.cursor)))
        except CallError as failed:
            error = protocol.packed_error(failed)
        if not self._chunks & (self._chunks - 1):  # 1, 2, 4, 8, ...
            self._state.look()
        self._send_hints()
        self._send(
            protocol.DONE, number, items, len(items) == count, self._handler.moves, error,
            time.monotonic() - began, self._handler.requests - requests,
        )  # fmt: skip

    def _handle_first(self, result: Any, key: bytes, cursor: bytes) -> Handled:
        item = self._handler.handle(result, key, cursor)
        self._state.begin()
        return item

    def _send_hints(self) -> None:
        if hints := self._handler.hints.taken():
            self._send(protocol.HINTS, [tuple(hint) for hint in hints])

    def _handle_urgent(self) -> None:
        while self._urgent:
            _, number, key, cursor, data = self._urgent.popleft()
            item = error = None
            try:
                item = self._handler.handle_once_more(PageResult.FromString(data), key, cursor)
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
        """Prints through the run, which knows where output belongs: above its progress bar, or,
        when stdout is for JSON lines only, elsewhere."""
        raw = _Printed(self._send, to_stderr)
        return io.TextIOWrapper(
            io.BufferedWriter(raw), "utf-8", "backslashreplace", line_buffering=True
        )


def _warn(message: str) -> None:
    print(f"Warning: {message}", file=sys.stderr, flush=True)


class _Printed(io.RawIOBase):
    def __init__(self, send: Any, to_stderr: bool) -> None:
        self._send = send
        self._to_stderr = to_stderr

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2 if self._to_stderr else 1  # for processes that a handler starts

    def write(self, data: Any) -> int:
        self._send(protocol.PRINTED, self._to_stderr, bytes(data))
        return len(data)


def main() -> None:
    """`argv`: the descriptors to read from and to write to, then `sys.path`."""
    read_from, write_to = int(sys.argv[1]), int(sys.argv[2])
    for descriptor in (read_from, write_to):
        os.set_inheritable(descriptor, False)  # a handler's own processes must not hold them open
    for number in protocol.SIGNALS:
        # The run decides what to do. Not SIG_IGN, which a handler's own processes would inherit.
        signal.signal(number, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, protocol.SIGNALS)
    by_default = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGUSR1: signal.SIG_DFL,
    }
    try:
        with default_in_forks(by_default):
            Worker(protocol.Reader(read_from), protocol.Writer(write_to)).work()
    except BaseException:
        # At once: a thread of the user's would keep the process alive, and the run waiting.
        with suppress(OSError):
            traceback.print_exc()
            sys.stderr.flush()
        os._exit(_FAILED)
    sys.stdout.flush()
    sys.stderr.flush()

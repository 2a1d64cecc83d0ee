"""One worker process as the run sees it: started, sent messages, ended.

A worker is a new interpreter, never a fork, because the run already has gRPC's threads. The run's
`__main__` is not imported again.
"""

from __future__ import annotations

import codecs
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import ExitStack, suppress
from typing import Any

from bulkup.datastore.call import TICK_S
from bulkup.datastore.rpc import Rpc
from bulkup.engine.pool import protocol
from bulkup.engine.pool.chunk import Chunk

CHECK_ENDED_S = 0.05
"""How often to check whether a worker has ended when its pipe does not show it."""

Inbox = deque[tuple["WorkerProcess", tuple[Any, ...] | None]]
"""Frames of all workers, as they arrive; None if the worker has closed its pipe."""

_BOOT = (
    "import gc, sys; gc.disable(); sys.path[:] = sys.argv[3:]; "
    "from bulkup.engine.pool.worker_main import main; gc.freeze(); gc.enable(); main()"
)
"""Not `-m`, which would look for modules in the current directory first. Imported modules stay
until the end, so they are frozen: collecting garbage among them takes a third of a worker's start.
"""


class WorkerProcess:
    """A worker and the run's ends of its pipes."""

    def __init__(
        self,
        inbox: Inbox,
        rpc: Rpc,
        address: str | None,
        pipe_bytes: int,
        folder: str,
    ) -> None:
        self._inbox = inbox
        self._rpc = rpc
        self.chunks: deque[Chunk] = deque()
        """The chunks that it has not handled yet, oldest first."""
        self.is_alive = True
        self.was_told_to_end = False
        self._is_used = False
        """It has been sent an entity."""
        utf8 = codecs.getincrementaldecoder("utf-8")
        self._decoders = utf8("replace"), utf8("replace")
        with ExitStack() as ours, ExitStack() as theirs:
            worker_in, self._to_worker = os.pipe()
            theirs.callback(os.close, worker_in)
            ours.callback(os.close, self._to_worker)
            from_worker, worker_out = os.pipe()
            theirs.callback(os.close, worker_out)
            ours.callback(os.close, from_worker)
            _enlarge(self._to_worker, pipe_bytes)
            _enlarge(worker_out, pipe_bytes)
            os.set_blocking(self._to_worker, False)
            self.process = _start(worker_in, worker_out, address, folder)
            ours.callback(self.process.wait)
            ours.callback(self.process.kill)
            self._thread = threading.Thread(
                target=self._listen, args=(protocol.Reader(from_worker),), daemon=True
            )
            self._thread.start()
            ours.pop_all()

    @property
    def load(self) -> int:
        return len(self.chunks)

    def _listen(self, reader: protocol.Reader) -> None:
        frame: tuple[Any, ...] | None = ()
        while frame is not None:
            frame = reader.read()
            self._inbox.append((self, frame))
            self._rpc.arrived.set()
        reader.close()

    def send(self, *content: Any) -> None:
        """Does nothing for a worker that has ended: `pump` reports that."""
        self._is_used = self._is_used or content[0] in (protocol.CHUNK, protocol.AGAIN)
        rest = memoryview(protocol.frame(content))
        while rest:
            try:
                rest = rest[os.write(self._to_worker, rest) :]
            except BlockingIOError:  # the user's C code holds the interpreter's lock
                select.select([], [self._to_worker], [], TICK_S)
                self._rpc.on_tick()
            except BrokenPipeError:
                return

    def print(self, to_stderr: bool, data: bytes) -> None:
        stream = sys.stderr if to_stderr else sys.stdout
        text = self._decoders[to_stderr].decode(data)
        encoding = getattr(stream, "encoding", None) or "utf-8"
        with suppress(OSError):  # the reader is gone, which must not end the run
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            stream.flush()

    def end(self) -> None:
        """Tell it to end. A worker that was sent no entity may still be starting and has nothing to
        finish, so it is killed."""
        self.was_told_to_end = True
        if not self._is_used:
            self.process.kill()
        elif self.is_alive:
            with suppress(OSError):
                os.write(
                    self._to_worker,
                    protocol.frame((protocol.STOP, -1.0)) + protocol.frame((protocol.END,)),
                )

    def close(self, give_up: float) -> None:
        """Wait until it has ended; kill it after `give_up` (time.monotonic)."""
        # The pipe closes when the worker ends, and this is noticed at once, whereas `wait` polls.
        # But a process that a handler has forked may hold the other end open for longer.
        while self._thread.is_alive() and self.process.poll() is None:
            left = give_up - time.monotonic()
            if left <= 0:
                break
            self._thread.join(min(left, CHECK_ENDED_S))
        try:
            self.process.wait(max(0.0, give_up - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self._to_worker >= 0:
            os.close(self._to_worker)
            self._to_worker = -1
        self._thread.join(1.0)  # a forked process may hold the other end open for longer


def _start(
    worker_in: int, worker_out: int, address: str | None, folder: str
) -> subprocess.Popen[bytes]:
    """Start a worker that uses these descriptors."""
    flags = ["-O"] * sys.flags.optimize
    # The worker starts with these signals blocked, until it handles them (`worker_main.main`).
    # Until it is started, they are blocked in this thread too.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, protocol.SIGNALS)
    try:
        return subprocess.Popen(  # noqa: S603 - our own interpreter, no shell
            [sys.executable, *flags, "-c", _BOOT, str(worker_in), str(worker_out), *sys.path],
            pass_fds=(worker_in, worker_out),
            stdin=subprocess.DEVNULL,
            # The worker loads the updater again, which may have changed the run's current directory
            # by now.
            cwd=folder or None,
            env={**os.environ, **({"DATASTORE_EMULATOR_HOST": address} if address else {})},
            # A Ctrl-C on the terminal reaches only the run, which decides what workers do.
            start_new_session=True,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _enlarge(descriptor: int, size: int) -> None:
    import fcntl

    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, size)

"""One worker process: how it is started, what it is sent, and how it ends.

It is started as a new interpreter, never forked: the run has gRPC's threads by then, and its
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
from typing import TYPE_CHECKING, Any

from bulkup.datastore.call import TICK_S
from bulkup.datastore.rpc import Rpc
from bulkup.engine.pool import protocol

if TYPE_CHECKING:
    from bulkup.engine.pool.pool import Ticket

LOOK_S = 0.05
"""At the end: how often it is looked whether it has ended, where its pipe does not say so."""

_BOOT = (
    "import gc, sys; gc.disable(); sys.path[:] = sys.argv[3:]; "
    "from bulkup.engine.pool.worker_main import main; gc.freeze(); gc.enable(); main()"
)
"""Not `-m`, which would look for modules in the current directory first. What a worker imports it
has until its end: looking there for garbage, and at the end once more, takes a third of the start.
"""


class WorkerProcess:
    """One worker, at the end of its pipes."""

    def __init__(
        self,
        inbox: deque[tuple[WorkerProcess, tuple[Any, ...] | None]],
        rpc: Rpc,
        emulator: str,
        pipe_bytes: int,
    ) -> None:
        self._inbox = inbox
        self._rpc = rpc
        self.tickets: deque[Ticket] = deque()
        self.is_alive = True
        self.is_ended = False
        """By us."""
        self._is_used = False
        """It was given an entity."""
        utf8 = codecs.getincrementaldecoder("utf-8")
        self._decoders = utf8("replace"), utf8("replace")
        with ExitStack() as ours, ExitStack() as theirs:
            theirs_down, self._down = os.pipe()
            theirs.callback(os.close, theirs_down)
            ours.callback(os.close, self._down)
            up, theirs_up = os.pipe()
            theirs.callback(os.close, theirs_up)
            ours.callback(os.close, up)
            _widen(self._down, pipe_bytes)
            _widen(theirs_up, pipe_bytes)
            os.set_blocking(self._down, False)
            self.process = _started(theirs_down, theirs_up, emulator)
            ours.callback(self.process.wait)
            ours.callback(self.process.kill)
            self._thread = threading.Thread(
                target=self._listen, args=(protocol.Reader(up),), daemon=True
            )
            self._thread.start()
            ours.pop_all()

    @property
    def load(self) -> int:
        return len(self.tickets)

    def _listen(self, reader: protocol.Reader) -> None:
        frame: tuple[Any, ...] | None = ()
        while frame is not None:
            frame = reader.read()
            self._inbox.append((self, frame))
            self._rpc.arrived.set()
        reader.close()

    def send(self, *content: Any) -> None:
        """For a worker that is gone it does nothing: `pump` says so."""
        self._is_used = self._is_used or content[0] in (protocol.CHUNK, protocol.AGAIN)
        rest = memoryview(protocol.frame(content))
        while rest:
            try:
                rest = rest[os.write(self._down, rest) :]
            except BlockingIOError:  # C code of the user's that lets no other thread run
                select.select([], [self._down], [], TICK_S)
                self._rpc.on_tick()
            except BrokenPipeError:
                return

    def print(self, to_stderr: bool, data: bytes) -> None:
        stream = sys.stderr if to_stderr else sys.stdout
        text = self._decoders[to_stderr].decode(data)
        encoding = getattr(stream, "encoding", None) or "utf-8"
        with suppress(OSError):  # whoever read it is gone, and the run is not for that
            stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            stream.flush()

    def end(self) -> None:
        """Tell it to. One that was given nothing may still be starting, and has nothing to end."""
        self.is_ended = True
        if not self._is_used:
            self.process.kill()
        elif self.is_alive:
            with suppress(OSError):
                os.write(
                    self._down,
                    protocol.frame((protocol.STOP, -1.0)) + protocol.frame((protocol.END,)),
                )

    def close(self, give_up: float) -> None:
        """Wait for its end; after that time (time.monotonic) it is killed."""
        # When it ends, its pipe is closed: that is heard at once, where `wait` looks now and then.
        # But what a handler has forked may hold the other end for longer.
        while self._thread.is_alive() and self.process.poll() is None:
            left = give_up - time.monotonic()
            if left <= 0:
                break
            self._thread.join(min(left, LOOK_S))
        try:
            self.process.wait(max(0.0, give_up - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self._down >= 0:
            os.close(self._down)
            self._down = -1
        self._thread.join(1.0)  # what a handler has forked may hold the other end for longer


def _started(down: int, up: int, emulator: str) -> subprocess.Popen[bytes]:
    """A worker, at these descriptors."""
    flags = ["-O"] * sys.flags.optimize
    # Held back until it can hear them (`worker.main`), and from this thread meanwhile.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, protocol.SIGNALS)
    try:
        return subprocess.Popen(  # noqa: S603 - our own interpreter, no shell
            [sys.executable, *flags, "-c", _BOOT, str(down), str(up), *sys.path],
            pass_fds=(down, up),
            stdin=subprocess.DEVNULL,
            env={**os.environ, **({"DATASTORE_EMULATOR_HOST": emulator} if emulator else {})},
            # A Ctrl-C on the terminal is for the run, which decides what becomes of this.
            start_new_session=True,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _widen(descriptor: int, size: int) -> None:
    import fcntl

    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, size)

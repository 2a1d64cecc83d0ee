"""The worker processes of a run: chunks of entities go out, handled entities come back.

`process.py` is one worker as the run sees it, `worker_main.py` what runs inside it, and
`protocol.py` the messages between the two.
"""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

from bulkup.core import errors
from bulkup.core.errors import BulkupError
from bulkup.datastore.keys import key_of, key_text
from bulkup.datastore.raw_requests import page_batch
from bulkup.datastore.rpc import Rpc
from bulkup.engine.handled import Handled
from bulkup.engine.pool import protocol
from bulkup.engine.pool.chunk import Chunk
from bulkup.engine.pool.process import Inbox, WorkerProcess
from bulkup.engine.pool.protocol import WorkerSetup

QUEUED = 2
"""Chunks that a worker has at a time: the one that it handles, and the next one."""

CHUNK_S = 0.05
"""How long a chunk should take. With longer chunks, workers wait for the last one at the end; with
shorter ones the cost of sending them shows."""

MAX_CHUNK = 500
FIRST_CHUNK = 1
"""Entities in a chunk until it is known how long one takes, which may be a minute."""

ROUNDS = 8
"""A chunk for async handlers has this many entities for each that is handled at once: at the end of
a chunk, some of the handlers have nothing to do."""

MAX_CHUNK_BYTES = 256 * 1024
PIPE_BYTES = 1024 * 1024
"""More than QUEUED chunks, so that neither end waits for the other to read. Linux allows this much
without privileges."""

ALL_PIPES_BYTES = 16 * 1024 * 1024
"""For all workers together. On Linux a user whose pipes exceed 64 MiB gets only small new ones, in
every program."""

COLLECT_S = 10.0
"""How long the entity that a worker is handling may take after a stop request. Half of the time
that the run has then (`datastore.retry.AFTER_STOP_S`), because its commits come after that."""

END_S = 5.0
"""How long a worker may take to end: a thread of the user's may keep it alive."""


class WorkerDiedError(BulkupError):
    pass


class WorkerPool:
    """`count` worker processes; a context manager that starts and ends them.

    `folder`: where they start; empty: in the current directory. `least_chunk`: how many entities a
    chunk should have at least, if the page and the batch size allow it. Used from one thread.
    Chunks become done when `pump` is called; `rpc.arrived` is set when there is something to pump.
    """

    at_once = False
    max_chunk = MAX_CHUNK

    def __init__(
        self,
        count: int,
        setup: WorkerSetup,
        rpc: Rpc,
        folder: str = "",
        *,
        least_chunk: int = FIRST_CHUNK,
    ) -> None:
        self.count = count
        self.most_chunks = QUEUED * count
        self._least_chunk = least_chunk
        self._setup = setup
        self._rpc = rpc
        self._folder = folder
        self._workers: list[WorkerProcess] = []
        self._inbox: Inbox = deque()
        self._chunks: dict[int, Chunk] = {}
        """The chunks that the workers have, by number."""
        self._number = 0
        """Number of the last chunk or entity that was sent."""
        self._again: tuple[Any, ...] | None = None
        """The answer to `handle_again`, once it has arrived."""
        self._entity_s = 0.0
        """How long one entity takes on average; 0 if unknown."""
        self.on_client_commit: Callable[[], None] = lambda: None
        """Called when a handler writes through its client."""
        self.on_handled: Callable[[float, int], None] = lambda seconds, entities: None
        """Called with how long a worker took for some entities."""
        self.on_reads: Callable[[int, int], None] = lambda entities, requests: None
        """Called with how many requests a worker's handler has sent for some entities."""
        self.on_hints: Callable[[Iterable[tuple[Any, ...]]], None] = lambda hints: None
        """Called with what workers have noticed about the updater's code."""
        self.moves = False
        """Some write changed a property that the query orders or ranges on."""

    def __enter__(self) -> WorkerPool:
        setup = self._setup.packed()
        pipe_bytes = min(PIPE_BYTES, ALL_PIPES_BYTES // (2 * self.count))
        try:
            for number in range(self.count):
                worker = WorkerProcess(
                    self._inbox, self._rpc, self._setup.address, pipe_bytes, self._folder
                )
                self._workers.append(worker)
                worker.send(protocol.SETUP, setup, number, list(sys.argv))
        except BaseException as error:
            self.__exit__(*sys.exc_info())
            if not isinstance(error, OSError | RuntimeError):  # the latter: no more threads
                raise
            raise WorkerDiedError(
                f"worker process {len(self._workers) + 1} of {self.count} could not be started "
                f"({getattr(error, 'strerror', None) or error}); nothing is lost: resume the run "
                "with fewer --processes"
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        at_once = kind is not None and not issubclass(kind, Exception)  # the second Ctrl-C
        give_up = time.monotonic() + (0.0 if at_once else END_S)
        try:
            for worker in self._workers:
                worker.end()
            for worker in self._workers:
                worker.close(give_up)
        except BaseException:  # the second Ctrl-C, while waiting here
            for worker in self._workers:
                worker.close(0.0)
            raise
        with suppress(BulkupError):
            self.pump()  # print what they printed last

    # --- chunks ---

    def has_room(self) -> bool:
        return any(w.load < QUEUED for w in self._workers if w.is_alive)

    def submit(self, entities: Sequence[Any], most: float) -> Chunk:
        """Send the first of these PageResults, at most `most`, to the worker with the fewest
        chunks."""
        size = self._least_chunk
        if self._entity_s:
            size = max(size, min(int(CHUNK_S / self._entity_s), MAX_CHUNK))
        size = math.ceil(len(entities) / math.ceil(len(entities) / size))  # of about the same size
        some = entities[: int(min(size, most))]
        serialized: list[bytes] = []
        total_bytes = 0
        for result in some:
            data = result.SerializeToString()
            total_bytes += len(data)
            if serialized and total_bytes > MAX_CHUNK_BYTES:
                break
            serialized.append(data)
        worker = min((w for w in self._workers if w.is_alive), key=lambda w: w.load)
        self._number += 1
        last = some[len(serialized) - 1]
        chunk = Chunk(self._number, len(serialized), some[0].entity.key, last.entity.key)
        self._chunks[chunk.number] = chunk
        worker.chunks.append(chunk)
        worker.send(protocol.CHUNK, chunk.number, page_batch(serialized))
        return chunk

    def handle_again(self, item: Handled, result: Any) -> None:
        """Handle an entity again, as it was just read, and wait for it. The first outcome is
        replaced.

        Raises CallError from the handler's own reads, WorkerDiedError.
        """
        alive = [w for w in self._workers if w.is_alive]
        if not alive:
            raise WorkerDiedError("no worker process is left to handle an entity again")
        self._again = None
        self._number += 1
        worker = min(alive, key=lambda w: w.load)
        worker.send(protocol.AGAIN, self._number, item.key, item.cursor, result.SerializeToString())
        while self._again is None:
            self._rpc.arrived.clear()
            self.pump()
            if self._again is None:
                self._rpc.wait()
        _, _, data, _, error = self._again
        item.drop_writes()
        item.failure = None
        item.log_lines = ()
        if error is not None:
            raise protocol.unpacked_error(error)
        again = protocol.unpacked(data)
        item.set_writes(again.writes)
        item.unchanged, item.unwritten, item.log_lines, item.failure = (
            again.unchanged, again.unwritten, again.log_lines, again.failure,
        )  # fmt: skip

    def collect(self) -> None:
        """Tell the workers to start no more entities, and wait for those they are handling, for
        COLLECT_S at most."""
        for worker in self._workers:
            worker.send(protocol.STOP, self._rpc.retry_policy.stopping_s())
        give_up = self._rpc.monotonic() + COLLECT_S
        while self._chunks and self._rpc.monotonic() < give_up:
            self._rpc.arrived.clear()
            self.pump()
            if self._chunks:
                self._rpc.wait()

    def pump(self) -> None:
        """Take in what has arrived. Raises WorkerDiedError when a worker has ended, and BulkupError
        when a worker could not make the updater."""
        while self._inbox:
            worker, frame = self._inbox.popleft()
            if frame is None:
                self._note_end(worker)
            elif frame[0] == protocol.DONE:
                self._take_done(worker, frame)
            elif frame[0] == protocol.HANDLED_AGAIN:
                self.moves |= frame[3]
                if frame[1] == self._number:  # else nobody is waiting for it any more
                    self._again = frame
            elif frame[0] == protocol.COMMITS:
                self.on_client_commit()
            elif frame[0] == protocol.HINTS:
                self.on_hints(frame[1])
            elif frame[0] == protocol.PRINTED:
                worker.print(frame[1], frame[2])
            elif frame[0] == protocol.RETRYING:
                self._rpc.on_retry(protocol.unpacked_error(frame[1]), *frame[2:])
            else:
                _, kind, message, details = frame
                raise getattr(errors, kind)(message, details=details)
        for worker in self._workers:
            if worker.is_alive and worker.process.poll() is not None:
                self._note_end(worker)  # a process that a handler has forked may hold its pipe open

    def _note_end(self, worker: WorkerProcess) -> None:
        if not worker.is_alive:
            return
        worker.is_alive = False
        if worker.was_told_to_end:
            return
        message = _how_it_ended(worker)
        for chunk in worker.chunks:
            del self._chunks[chunk.number]
        raise WorkerDiedError(message)

    def _take_done(self, worker: WorkerProcess, frame: tuple[Any, ...]) -> None:
        _, number, items, whole, moves, error, seconds, requests = frame
        chunk = self._chunks.pop(number, None)
        if chunk is None:
            return  # its worker was found dead before this was read
        worker.chunks.remove(chunk)
        chunk.items, chunk.whole, chunk.is_done = items, whole, True
        chunk.error = protocol.unpacked_error(error) if error is not None else None
        self.moves |= moves
        if items:
            self.on_handled(seconds, len(items))
            self.on_reads(len(items), requests)
            each = seconds / len(items)
            self._entity_s += (each - self._entity_s) * (0.3 if self._entity_s else 1.0)


def _how_it_ended(worker: WorkerProcess) -> str:
    try:
        code = worker.process.wait(END_S)
        how = f"ended with exit code {code}"
    except subprocess.TimeoutExpired:
        worker.process.kill()
        worker.process.wait()
        code, how = 0, "was ended because it had closed its pipe to the run"
    if code < 0:
        with suppress(ValueError):
            how = f"was ended by {signal.Signals(-code).name}"
        if code == -signal.SIGKILL:
            how += " (perhaps because memory ran out)"
    where = ""
    if worker.chunks:
        chunk = worker.chunks[0]
        where = f" while it handled {key_text(key_of(chunk.first_key))}"
        if chunk.first_key != chunk.last_key:
            where += f" or a later entity, up to {key_text(key_of(chunk.last_key))}"
    return (
        f"worker process {worker.process.pid} {how}{where}; nothing is lost, and resume writes "
        "nothing twice"
    )

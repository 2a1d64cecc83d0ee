"""The worker processes of a run: chunks of entities go out, handled entities come back.

Each is an `engine/pool/process.py`; what goes between the two is in `engine/pool/protocol.py`.
"""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any

from bulkup.core import errors
from bulkup.core.errors import BulkupError
from bulkup.datastore.call_error import CallError
from bulkup.datastore.keys import key_of, key_text
from bulkup.datastore.raw_requests import page_batch
from bulkup.datastore.rpc import Rpc
from bulkup.engine.handled import Handled
from bulkup.engine.pool import protocol
from bulkup.engine.pool.process import WorkerProcess

QUEUED = 2
"""Chunks that a worker has at a time: the one it handles, and one that it need not wait for."""

CHUNK_S = 0.05
"""What a chunk should take. Longer, and the last one keeps the others waiting at the end; shorter,
and its way there and back shows."""

MAX_CHUNK = 500
FIRST_CHUNK = 20
"""Entities, while it is not known how long one takes."""

MAX_CHUNK_BYTES = 256 * 1024
PIPE_BYTES = 1024 * 1024
"""More than QUEUED chunks, so that nobody waits for the other to read. What Linux allows to all."""

ALL_PIPES_BYTES = 16 * 1024 * 1024
"""Of all of them. A user who has more than 64 MiB in pipes gets none but small ones on Linux, in
all programs."""

COLLECT_S = 10.0
"""On a stop: how long the entity that a worker is at may take. Half of what the run has then
(`wire.retries.AFTER_STOP_S`), since the commits come after it."""

END_S = 5.0
"""How long a worker may take to end; a thread of the user's may not want to."""


@dataclass(frozen=True)
class WorkerSetup:
    """All that a worker must know to make the run's updater again."""

    spec: str
    checksum: str
    params: Mapping[str, str]
    project: str
    database: str
    namespace: str
    local: str
    emulator: str
    """Where the emulator or the embedded Datastore answers; empty: the real service."""
    query: bytes
    query_namespace: str
    keys_only: bool
    has_filters: bool
    ranged: tuple[str, ...]
    retry_for_s: float


class WorkerDiedError(BulkupError):
    pass


class Ticket:
    """A chunk on its way. `count`: the entities it has. `first`, `last`: their serialized keys."""

    __slots__ = ("count", "error", "first", "is_done", "items", "last", "whole", "worker")

    def __init__(self, worker: WorkerProcess, count: int, first: bytes, last: bytes) -> None:
        self.worker = worker
        self.count = count
        self.first = first
        self.last = last
        self.is_done = False
        self.items: list[tuple[Any, ...]] = []
        self.whole = False
        self.error: CallError | None = None

    def done(self) -> bool:
        return self.is_done

    def result(self) -> list[Handled]:
        """What came back, in order; less than `count` after a stop or an error."""
        return [protocol.unpacked(item) for item in self.items]


class WorkerPool:
    """`count` processes. A context manager that starts and ends them.

    Used from one thread. `pump` has to be called for tickets to become done; `wire.arrived` is set
    when there is something for it.
    """

    def __init__(self, count: int, orders: WorkerSetup, rpc: Rpc) -> None:
        self.count = count
        self._orders = orders
        self._rpc = rpc
        self._crew: list[WorkerProcess] = []
        self._inbox: deque[tuple[WorkerProcess, tuple[Any, ...] | None]] = deque()
        self._tickets: dict[int, Ticket] = {}
        self._number = 0
        self._again: tuple[Any, ...] = ()
        """The last answer to `handle_again`."""
        self._entity_s = 0.0
        """What one entity takes, about."""
        self.moves = False
        """Some write changed a property by which the query finds its way."""

    def __enter__(self) -> WorkerPool:
        orders = {**asdict(self._orders), "params": dict(self._orders.params), "argv": sys.argv}
        pipe_bytes = min(PIPE_BYTES, ALL_PIPES_BYTES // (2 * self.count))
        try:
            for number in range(self.count):
                process = WorkerProcess(self._inbox, self._rpc, self._orders.emulator, pipe_bytes)
                self._crew.append(process)
                process.send(protocol.ORDERS, {**orders, "number": number})
        except BaseException as error:
            self.__exit__(*sys.exc_info())
            if not isinstance(error, OSError | RuntimeError):  # the latter: no more threads
                raise
            raise WorkerDiedError(
                f"worker process {len(self._crew) + 1} of {self.count} could not be started "
                f"({getattr(error, 'strerror', None) or error}); nothing is lost: go on with "
                "fewer --processes"
            ) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        at_once = kind is not None and not issubclass(kind, Exception)  # the second Ctrl-C
        give_up = time.monotonic() + (0.0 if at_once else END_S)
        try:
            for process in self._crew:
                process.end()
            for process in self._crew:
                process.close(give_up)
        except BaseException:  # the second Ctrl-C, now
            for process in self._crew:
                process.close(0.0)
            raise
        with suppress(BulkupError):
            self.pump()  # what they printed last

    # --- chunks ---

    def has_room(self) -> bool:
        return any(p.load < QUEUED for p in self._crew if p.is_alive)

    def submit(self, entities: Sequence[Any], most: float) -> Ticket:
        """Hand the first of these PageResults to the worker that has least to do: `most` of
        them at most, and as many as it should handle without a break."""
        size = FIRST_CHUNK
        if self._entity_s:
            size = max(1, min(int(CHUNK_S / self._entity_s), MAX_CHUNK))
        size = math.ceil(len(entities) / math.ceil(len(entities) / size))  # no small one at the end
        some = entities[: int(min(size, most))]
        chunk: list[bytes] = []
        weight = 0
        for result in some:
            data = result.SerializeToString()
            weight += len(data)
            if chunk and weight > MAX_CHUNK_BYTES:
                break
            chunk.append(data)
        worker = min((p for p in self._crew if p.is_alive), key=lambda p: p.load)
        last = some[len(chunk) - 1]
        ticket = Ticket(worker, len(chunk), some[0].entity.key, last.entity.key)
        self._number += 1
        self._tickets[self._number] = ticket
        worker.tickets.append(ticket)
        worker.send(protocol.CHUNK, self._number, page_batch(chunk))
        return ticket

    def handle_again(self, item: Handled, result: Any) -> None:
        """Handle an entity with what was just read; what it did before is forgotten. Waits for it.

        Raises CallError as the handler's own reads do, WorkerDiedError.
        """
        alive = [p for p in self._crew if p.is_alive]
        if not alive:
            raise WorkerDiedError("no worker process is left to handle an entity again")
        self._again = ()
        self._number += 1
        worker = min(alive, key=lambda p: p.load)
        worker.send(protocol.AGAIN, self._number, item.key, item.cursor, result.SerializeToString())
        while not self._again:
            self._rpc.arrived.clear()
            self.pump()
            if not self._again:
                self._rpc.wait()
        _, _, data, _, error = self._again
        item.drop_writes()
        item.failure = None
        item.log_lines = ()
        if error is not None:
            raise protocol.unpacked_error(error)
        again = protocol.unpacked(data)
        item.set_writes(again.writes)
        item.unchanged, item.log_lines, item.failure = (
            again.unchanged, again.log_lines, again.failure,
        )  # fmt: skip

    def collect(self) -> None:
        """Nothing more shall be begun: wait for what has been, for COLLECT_S at most."""
        for process in self._crew:
            process.send(protocol.STOP, self._rpc.retry_policy.stopping_s())
        give_up = self._rpc.monotonic() + COLLECT_S
        while self._tickets and self._rpc.monotonic() < give_up:
            self._rpc.arrived.clear()
            self.pump()
            if self._tickets:
                self._rpc.wait()

    def pump(self) -> None:
        """Take in what has arrived. Raises WorkerDiedError when one has ended, and what the
        updater raises when a worker cannot make it."""
        while self._inbox:
            worker, frame = self._inbox.popleft()
            if frame is None:
                self._gone(worker)
            elif frame[0] == protocol.DONE:
                self._done(worker, frame)
            elif frame[0] == protocol.HANDLED_AGAIN:
                self.moves |= frame[3]
                if frame[1] == self._number:  # else nobody waits for it any more
                    self._again = frame
            elif frame[0] == protocol.PRINTED:
                worker.print(frame[1], frame[2])
            elif frame[0] == protocol.RETRYING:
                self._rpc.on_retry(protocol.unpacked_error(frame[1]), *frame[2:])
            else:
                _, kind, message, details = frame
                raise getattr(errors, kind)(message, details=details)
        for worker in self._crew:
            if worker.is_alive and worker.process.poll() is not None:
                self._gone(worker)  # what a handler has forked may hold its pipe open

    def _gone(self, worker: WorkerProcess) -> None:
        if not worker.is_alive:
            return
        worker.is_alive = False
        if worker.is_ended:
            return
        text = self._obituary(worker)
        for number in [n for n, ticket in self._tickets.items() if ticket.worker is worker]:
            del self._tickets[number]
        raise WorkerDiedError(text)

    def _done(self, worker: WorkerProcess, frame: tuple[Any, ...]) -> None:
        _, number, items, whole, moves, error, seconds = frame
        ticket = self._tickets.pop(number, None)
        if ticket is None:
            return  # its worker was found dead before this was read
        worker.tickets.remove(ticket)
        ticket.items, ticket.whole, ticket.is_done = items, whole, True
        ticket.error = protocol.unpacked_error(error) if error is not None else None
        self.moves |= moves
        if items:
            each = seconds / len(items)
            self._entity_s += (each - self._entity_s) * (0.3 if self._entity_s else 1.0)

    def _obituary(self, worker: WorkerProcess) -> str:
        try:
            code = worker.process.wait(END_S)
            how = f"with exit code {code}"
        except subprocess.TimeoutExpired:
            worker.process.kill()
            worker.process.wait()
            code, how = 0, "since it had closed its pipe to the run"
        if code < 0:
            with suppress(ValueError):
                how = f"by {signal.Signals(-code).name}"
            if code == -signal.SIGKILL:
                how += " (who ran out of memory, perhaps)"
        at = ""
        if worker.tickets:
            first, last = worker.tickets[0].first, worker.tickets[0].last
            at = f" while it handled {key_text(key_of(first))}"
            if first != last:
                at += f" or an entity behind that, up to {key_text(key_of(last))}"
        return (
            f"worker process {worker.process.pid} was ended {how}{at}; nothing is lost, and "
            "nothing will be written twice"
        )

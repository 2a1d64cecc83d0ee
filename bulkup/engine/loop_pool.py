"""Sends entities to the event loop and takes them back. To a Dispatcher it is a pool of workers,
whose chunks have one entity each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any

from bulkup.datastore.call_error import CallError
from bulkup.datastore.rpc import Rpc
from bulkup.engine.async_handler import AsyncHandler, Given, Outcome
from bulkup.engine.handled import Handled
from bulkup.engine.pool.pool import COLLECT_S

QUEUED = 2
"""Entities at the loop for each one that it may handle at once, so that the next one begins without
a wait."""

WINDOW = 500
"""At least this many entities of a shard may be handed out before the oldest is done: one that
takes long must not keep those after it from being handled."""


class Flight:
    """An entity on its way to the loop and back: a chunk of one. See `pool/chunk.py`."""

    count = 1

    def __init__(self) -> None:
        self.knows = 0
        self.ticket = 0
        self.is_added = False
        self.is_done = False
        self.items: list[Handled] = []
        self.whole = False
        self.error: CallError | None = None

    def done(self) -> bool:
        return self.is_done

    def result(self) -> list[Handled]:
        return self.items


class LoopPool:
    """A context manager, used from the thread of the run. What `pump` raises ends the run."""

    at_once = True
    max_chunk = 1

    def __init__(self, handler: AsyncHandler, rpc: Rpc) -> None:
        self._handler = handler
        self._rpc = rpc
        self.most_chunks = max(WINDOW, 2 * QUEUED * handler.concurrency)
        self.on_client_commit: Callable[[], None] = lambda: None
        self.on_handled: Callable[[float, int], None] = lambda seconds, entities: None
        self.on_reads: Callable[[int, int], None] = lambda entities, requests: None
        self.on_hints: Callable[[Iterable[tuple[Any, ...]]], None] = lambda hints: None
        self._out = 0
        """Entities at the loop."""
        self._inbox: deque[tuple[Flight, Outcome, float]] = deque()
        self._commits = False
        """A handler is about to write through its client."""

    @property
    def moves(self) -> bool:
        return self._handler.moves

    def __enter__(self) -> LoopPool:
        self._open = self._handler.open()
        self._open.__enter__()
        self._handler.watch_client(self._note_commit)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if kind is not None and not issubclass(kind, Exception):  # the second Ctrl-C
            self._handler.hurry()
        self._handler.stop_starting()
        self._handler.cancel()
        self._open.__exit__(None, None, None)

    def has_room(self) -> bool:
        return self._out < QUEUED * self._handler.concurrency

    def submit(self, entities: Sequence[Any], most: float) -> Flight:
        """Give the first of these PageResults to the loop."""
        flight, result = Flight(), entities[0]
        began = self._rpc.monotonic()

        def done(outcome: Outcome) -> None:
            self._inbox.append((flight, outcome, self._rpc.monotonic() - began))
            self._rpc.arrived.set()

        self._out += 1
        self._handler.start(Given(result, result.entity.key, result.cursor), done)
        return flight

    def handle_again(self, item: Handled, result: Any) -> None:
        item.reset()
        item.adopt(self._handler.handle_once_more(result, item.key, item.cursor))

    def collect(self) -> None:
        """Start no more entities, and wait for those in progress, for COLLECT_S at most; those that
        take longer are cancelled."""
        self._handler.stop_starting()
        give_up = self._rpc.monotonic() + COLLECT_S
        while self._out:
            self._rpc.arrived.clear()
            self.pump()
            if self._rpc.monotonic() >= give_up:
                self._handler.cancel()
                return
            if self._out:
                self._rpc.wait()

    def pump(self) -> None:
        """Take in what has been handled. Raises what ends the run: HeldError, KeyboardInterrupt."""
        self._handler.tell_retries()
        if self._commits:
            self._commits = False
            self.on_client_commit()
        while self._inbox:
            flight, outcome, seconds = self._inbox.popleft()
            self._out -= 1
            flight.is_done = True
            if isinstance(outcome.error, CallError):
                flight.error = outcome.error
            elif outcome.error is not None:
                raise outcome.error
            elif outcome.item is not None:
                flight.items, flight.whole = [outcome.item], True
                self.on_handled(seconds / (QUEUED * self._handler.concurrency), 1)

    def _note_commit(self) -> None:
        """Called on the loop's thread."""
        self._handler.watch_client(None)  # once is enough
        self._commits = True
        self._rpc.arrived.set()

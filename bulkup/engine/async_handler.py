"""Calls an updater's `async def handle_entity` for many entities at once, on one event loop.

Each call has a slot of its own for what it reads and writes. The caller of `put` is known from the
context of the task (`contextvars`), which the tasks and threads that a handler starts inherit.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager
from inspect import isawaitable
from itertools import count
from typing import Any, NamedTuple

from google.cloud.datastore import Entity, Key

from bulkup.authoring.call_threads import current_call, end_call, left_behind
from bulkup.authoring.running import begin_task, writing_to
from bulkup.authoring.user_lines import source_file
from bulkup.authoring.writes import NOTHING, WriteSink
from bulkup.authoring.wrong_result import method_result
from bulkup.core import stop
from bulkup.core.errors import HeldError
from bulkup.datastore.call import TICK_S
from bulkup.datastore.call_error import CallError
from bulkup.datastore.lazy_entity import LazyEntity
from bulkup.datastore.reads import ABSENT
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.user_client import UserClient
from bulkup.engine.call_setup import CallSetup
from bulkup.engine.call_slot import CallSlot
from bulkup.engine.event_loop import LoopThread
from bulkup.engine.handled import Handled

CLOSE_S = 5.0
"""How long cancelled tasks, and the updater's `aclose`, may take to end."""


HURRIED_S = 0.1


class Given(NamedTuple):
    """An entity to handle, as it was read."""

    result: Any
    key: bytes
    cursor: bytes
    once_more: bool = False


class Outcome(NamedTuple):
    """The outcome of a call."""

    item: Handled | None
    """None if the entity was not handled because the run ends."""
    error: BaseException | None = None
    """The error that ends the run, if any."""
    own: LazyEntity | None = None


_NOT_HANDLED = Outcome(None)


class _Slot(CallSlot):
    """One of the calls that are running."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.tasks: list[asyncio.Task[Any]] = []
        """The tasks that the call has started."""

    def _is_open(self) -> bool:
        return self.own is not NOTHING

    async def call(self, given: Given, item: Handled) -> None:
        """Raises what the handler raises."""
        self.reads.clear()
        entity = self.begin(given.result, item, once_more=given.once_more)
        begin_task(self, self._updater)
        returned = self._handle_entity(entity)
        if isawaitable(returned):
            returned = await returned
        if returned is not None:
            raise method_result(self._updater, returned)


class AsyncHandler(WriteSink):
    """Like a `Handler`, but for as many entities at once as the updater's `concurrency` says.

    The setup's `calls` is called with each entity, and may return an awaitable.
    """

    serves_many = True
    requests = 0
    """Not counted, because handlers wait for their requests together."""

    def __init__(self, setup: CallSetup, rpc: Rpc) -> None:
        updater = setup.updater
        self.concurrency = updater.concurrency
        self._updater = updater
        self._rpc = rpc
        self._may_be_absent = setup.may_be_absent

        def make_slot(beside: _Slot | None) -> _Slot:
            return _Slot(setup, beside)

        self._first = first = make_slot(None)
        self._make_slot = make_slot
        self._free = [first]
        self.previewed = first.previewed
        self.hints = first.hints
        self.moves = False
        self.handled: LazyEntity
        self.on_wait: Callable[[], None] = lambda: None
        """Called while waiting for outcomes; may raise."""
        self._on_commit: Callable[[], None] | None = None
        self._retries: deque[tuple[Any, ...]] = deque()
        self._thread = LoopThread(threads=updater.concurrency)
        self._room = asyncio.Semaphore(updater.concurrency)
        self._numbers = count()
        self._running: dict[int, asyncio.Task[None]] = {}
        self._is_stopping = False
        self._own_rpc: Rpc | None = None
        self._close_s = CLOSE_S
        self._file = source_file(updater)

    # --- on the thread of the run ---

    def open(self) -> AbstractContextManager[None]:
        if self._own_rpc is None:
            self._begin()
        return writing_to(self, self._updater)

    def _begin(self) -> None:
        """Open a connection for the handlers. The run's own connection is for the run's thread
        only, because a wait on it renews the lease."""
        self._own_rpc = own = self._rpc.beside()
        own.on_retry = lambda *retry: self._retries.append(retry)
        client = getattr(self._updater, "client", None)
        if isinstance(client, UserClient):
            client._rpc = own
            self._first.allocates_with(own)
        self._thread.loop.set_task_factory(self._new_task)

    def close(self) -> None:
        """End what still runs. Raises what the updater's `aclose` raises."""
        self.stop_starting()
        error = None
        if self._own_rpc is not None:
            closing = self._thread.run(self._close())
            try:
                error = closing.result(2 * self._close_s)
            except TimeoutError:
                error = None
            self._thread.close(self._close_s)
            client = getattr(self._updater, "client", None)
            if isinstance(client, UserClient) and client._rpc is self._own_rpc:
                client._rpc = self._rpc
                if client._lookups is not None:
                    client._lookups.close()
                    client._lookups = None
            self._own_rpc.close()
            self._own_rpc = None
        if error is not None:
            raise error

    def watch_client(self, on_commit: Callable[[], None] | None) -> None:
        """Have `on_commit` called, on the loop's thread, before a handler writes through its
        client."""
        self._on_commit = on_commit

    @property
    def commits_itself(self) -> bool:
        return bool(self._first.reads.commits_itself)

    def start(self, given: Given, done: Callable[[Outcome], None], *, alone: bool = False) -> int:
        """Handle an entity as soon as there is room for it; with `alone`, at once. `done` is called
        on the loop's thread. Returns the number of the task."""
        number = next(self._numbers)
        self._thread.soon(self._start, number, given, done, alone)
        return number

    def stop_starting(self) -> None:
        """Do not handle the entities that still wait for room."""
        self._is_stopping = True

    def hurry(self) -> None:
        """Do not wait long for cancelled calls to end."""
        self._close_s = HURRIED_S

    def cancel(self) -> None:
        """Cancel the calls that are running."""
        self._thread.soon(self._cancel, None)

    def handle_many(self, results: Iterable[Any]) -> Iterator[Handled]:
        """Handle PageResults, `concurrency` at once. Ends at the first one that was not handled
        because of a stop."""
        waiting = {}
        for result in results:
            future: Future[Outcome] = Future()
            given = Given(result, result.entity.key, result.cursor)
            waiting[self.start(given, future.set_result)] = future
        try:
            for future in waiting.values():
                item = self._taken(self._awaited(future))
                if item is None:
                    return
                yield item
        finally:
            self._thread.soon(self._cancel, [*waiting])

    def forget_reads(self) -> None:
        """Nothing to forget: each call reads anew."""

    def handle(self, result: Any, key: bytes, cursor: bytes) -> Handled:
        return self._alone(Given(result, key, cursor))

    def handle_again(self, item: Handled, result: Any) -> None:
        item.reset()
        with self.open():
            item.adopt(self.handle_once_more(result, item.key, item.cursor))

    def handle_once_more(self, result: Any, key: bytes, cursor: bytes) -> Handled:
        return self._alone(Given(result, key, cursor, once_more=True))

    def _alone(self, given: Given) -> Handled:
        future: Future[Outcome] = Future()
        self.start(given, future.set_result, alone=True)
        item = self._taken(self._awaited(future))
        assert item is not None
        return item

    def _awaited(self, future: Future[Outcome]) -> Outcome:
        while True:
            try:
                return future.result(TICK_S / 5)
            except TimeoutError:
                self.tell_retries()
                self._rpc.on_tick()
                self.on_wait()
            except KeyboardInterrupt:
                self.hurry()
                raise

    def _taken(self, outcome: Outcome) -> Handled | None:
        if outcome.error is not None:
            raise outcome.error
        if outcome.own is not None:
            self.handled = outcome.own
        return outcome.item

    def tell_retries(self) -> None:
        while self._retries:
            self._rpc.on_retry(*self._retries.popleft())

    # --- on the loop's thread ---

    def _new_task(self, loop: Any, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
        call = current_call()
        if call is not None and isinstance(call.sink, _Slot):
            call.sink.tasks.append(task)
        return task

    def _start(
        self, number: int, given: Given, done: Callable[[Outcome], None], alone: bool
    ) -> None:
        outcomes: list[Outcome] = []

        def ended(task: asyncio.Task[None]) -> None:
            del self._running[number]
            # Do not ask for its result: a GeneratorExit in a handler's task closes everything that
            # awaits it.
            if not task.cancelled():
                task.exception()
            done(outcomes[0] if outcomes else _NOT_HANDLED)

        coroutine = self._called if alone else self._when_room
        task = asyncio.get_running_loop().create_task(coroutine(given, outcomes.append))
        self._running[number] = task
        task.add_done_callback(ended)

    def _cancel(self, numbers: Iterable[int] | None) -> None:
        """Cancel the tasks with these numbers; `None`: all tasks."""
        for number in [*self._running] if numbers is None else numbers:
            if number in self._running:
                self._running[number].cancel()

    async def _when_room(self, given: Given, done: Callable[[Outcome], None]) -> None:
        async with self._room:
            if self._is_stopping:
                done(_NOT_HANDLED)
            else:
                await self._called(given, done)

    async def _called(self, given: Given, done: Callable[[Outcome], None]) -> None:
        """Never raises: what ends the run must not end the loop."""
        item = Handled(given.key, given.cursor)
        if self._may_be_absent and given.result.version == ABSENT:
            item.vanished = True
            done(Outcome(item))
            return
        slot = self._free.pop() if self._free else self._make_slot(self._first)
        slot.reads.on_commit = self._about_to_commit if self._on_commit is not None else None
        error: BaseException | None = None
        try:
            await slot.call(given, item)
        except BaseException as raised:
            error = raised
        stop.end_if_fork()
        if isinstance(error, (HeldError, KeyboardInterrupt)) or (
            isinstance(error, CallError) and error.worth_another_try
        ):
            end_call(slot)
            done(Outcome(None, error))
            return
        if isinstance(error, asyncio.CancelledError) and self._is_stopping:
            end_call(slot)
            done(_NOT_HANDLED)
            return
        own = slot.own
        slot.end(error or self._left_running(slot))
        item.reads = tuple(slot.reads.versions)
        self.moves = self.moves or slot.moves
        end_call(slot)
        slot.tasks.clear()
        self._free.append(slot)
        done(Outcome(item, None, own))

    def _left_running(self, slot: _Slot) -> BaseException | None:
        """Returns an error if a task of the updater's own code is still running: what it puts would
        be refused. Libraries may leave tasks running, for example for a connection."""
        for task in slot.tasks:
            code = getattr(task.get_coro(), "cr_code", None)
            if code is None or task.done() or code.co_filename != self._file:
                continue
            task.cancel()
            return RuntimeError(
                f"handle_entity has returned and left a task running ({code.co_qualname}), which "
                "can no longer write anything; await it, or start it in an asyncio.TaskGroup"
            )
        return None

    def _about_to_commit(self) -> None:
        if self._on_commit is not None:
            self._on_commit()

    async def _close(self) -> BaseException | None:
        """Cancel what runs, and call the updater's `aclose`. Returns what `aclose` raises."""
        self._cancel(None)
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        try:
            await asyncio.wait_for(self._updater.aclose(), self._close_s)
        except BaseException as error:
            return error
        return None

    # --- called by the updater, and by its client ---

    @property
    def reads(self) -> Any:
        slot = self._slot()
        return None if slot is None else slot.reads

    def for_caller(self) -> WriteSink:
        slot = self._slot()
        if slot is None:
            raise left_behind()
        return slot

    def _slot(self) -> _Slot | None:
        """The slot of the call whose task or thread asks; None if there is no such call, or it has
        ended."""
        call = current_call()
        if call is None or not isinstance(call.sink, _Slot) or call.own is not call.sink.own:
            return None
        return call.sink

    def put(self, entity: Entity) -> None:
        self.for_caller().put(entity)

    def delete(self, key: Key) -> None:
        self.for_caller().delete(key)

    def log(self, line: str) -> None:
        self.for_caller().log(line)

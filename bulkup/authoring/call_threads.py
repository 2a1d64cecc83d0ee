"""Which handler call a thread works for.

A handler may put, delete and log on threads that it starts. A thread that outlives its handler
call would write into whichever call runs by then. So each thread, and each task of a pool, belongs
to the call that started it. None of this affects handlers that start no threads.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from bulkup.authoring.writes import NOTHING, WriteSink

_LEFT_BEHIND = (
    "put, delete and log were called on a thread (or a task of one) that the running "
    "handle_entity has not started; wait in handle_entity for the threads that it starts, "
    "or put there what they return; of an async handler: await the tasks that it creates"
)


class _Call(NamedTuple):
    sink: WriteSink
    own: Any
    """The handled entity: a different object in each call."""


class _Here(threading.local):
    sink: WriteSink | None = None
    """The sink of the handler that runs on this thread."""
    call: _Call | None = None
    """The call that submitted the task running on this thread."""


_here = _Here()
_lock = threading.RLock()
_open = 0
_start, _submit = threading.Thread.start, ThreadPoolExecutor.submit


_of_task: ContextVar[_Call | None] = ContextVar("_of_task", default=None)
"""The call of an async handler, in the handler's task and in the tasks that this task creates."""


def current_call() -> _Call | None:
    """The call that this thread or task works for. The call may have ended."""
    sink = _here.sink
    if sink is not None:
        return _Call(sink, sink.own)
    of_thread = getattr(threading.current_thread(), "_bulkup_call", None)
    return _here.call or _of_task.get() or of_thread


def begin_task(sink: WriteSink) -> None:
    """Note that this task works for the call that the sink has begun."""
    _of_task.set(_Call(sink, sink.own))


def left_behind() -> RuntimeError:
    return RuntimeError(_LEFT_BEHIND)


def _is_internal(module: str) -> bool:
    """Whether a module belongs to gRPC or bulkup, which also start threads between two calls."""
    package, _, rest = module.partition(".")
    return package == "grpc" or (package == "bulkup" and not rest.startswith("examples"))


def _start_for_call(thread: threading.Thread) -> None:
    call = current_call()
    if call is not None and not _is_internal(sys._getframe(1).f_globals.get("__name__", "")):
        thread._bulkup_call = call  # type: ignore[attr-defined]
        call.sink.share()
    _start(thread)


def _submit_for_call(pool: Any, function: Any, /, *args: Any, **options: Any) -> Any:
    call = current_call()
    if call is None:
        return _submit(pool, function, *args, **options)
    call.sink.share()

    def task(*args: Any, **options: Any) -> Any:
        before, _here.call = _here.call, call
        try:
            return function(*args, **options)
        finally:
            _here.call = before

    return _submit(pool, task, *args, **options)


def _replace(start: Any, submit: Any) -> None:
    threading.Thread.start = start  # type: ignore[method-assign]
    ThreadPoolExecutor.submit = submit  # type: ignore[method-assign]


@contextmanager
def handling(sink: WriteSink | None) -> Iterator[None]:
    """Within this block, tie the threads that the handler on this thread starts to its call.

    `sink`: None if handlers run elsewhere, in tasks.
    """
    global _open, _start, _submit
    with _lock:
        if _open == 0 and threading.Thread.start is not _start_for_call:
            _start, _submit = threading.Thread.start, ThreadPoolExecutor.submit
            _replace(_start_for_call, _submit_for_call)
        _open += 1
    before, _here.sink = _here.sink, sink
    try:
        yield
    finally:
        _here.sink = before
        with _lock:
            _open -= 1
            if _open == 0 and threading.Thread.start is _start_for_call:
                _replace(_start, _submit)


def end_call(sink: WriteSink) -> None:
    """The handler has returned: refuse writes by its threads from now on."""
    with _lock:
        sink.own = NOTHING


class SharedSink(WriteSink):
    """A sink for one of several threads. Raises RuntimeError on a thread of another call."""

    def __init__(self, sink: WriteSink, of: WriteSink | None = None) -> None:
        """`of`: the sink of the whole call, if `sink` is for one entity of a batch."""
        self._sink = sink
        self._of = of or sink
        self._call = current_call()
        if self._call is not None:
            self.own = self._call.own
        self._do(lambda: None)

    def _do(self, write: Callable[[], None]) -> None:
        with _lock:
            sink, call = self._of, self._call
            if call is None or call.sink is not sink or call.own is not sink.own:
                raise left_behind()
            write()

    def owned_by(self, owner: Any) -> WriteSink:
        return SharedSink(self._sink.owned_by(owner), self._of)

    def fail(self, entity: Any, error: BaseException | str) -> None:
        self._do(lambda: self._sink.fail(entity, error))

    def put(self, entity: Any) -> None:
        self._do(lambda: self._sink.put(entity))

    def delete(self, key: Any) -> None:
        self._do(lambda: self._sink.delete(key))

    def delete_own(self) -> None:
        self._do(self._sink.delete_own)

    def log(self, line: str) -> None:
        self._do(lambda: self._sink.log(line))

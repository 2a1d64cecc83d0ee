"""An event loop on a thread of its own, for handlers that wait.

It does not use the run's thread, which must renew the lease, commit, and receive signals, whatever
a handler does meanwhile.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from bulkup.core.stop import default_in_forks

R = TypeVar("R")


class LoopThread:
    """Starts with its first task. A daemon thread, so that a handler that never returns cannot keep
    Python from exiting."""

    def __init__(self, threads: int) -> None:
        """`threads`: how many threads `asyncio.to_thread` has."""
        self._threads = threads
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._is_closing = False

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._loop.set_default_executor(ThreadPoolExecutor(self._threads))
            self._thread = threading.Thread(target=self._run, name="bulkup-loop", daemon=True)
            self._thread.start()
        return self._loop

    def run(self, coroutine: Coroutine[Any, Any, R]) -> Future[R]:
        """Start a coroutine on the loop, from any other thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def soon(self, function: Callable[..., Any], *args: Any) -> None:
        """Call a function on the loop's thread."""
        self.loop.call_soon_threadsafe(function, *args)

    def _run(self) -> None:
        assert self._loop is not None
        asyncio.set_event_loop(self._loop)
        with default_in_forks({}):
            while not self._is_closing:
                # asyncio ends the loop if a task raises these. Whoever awaits the task gets them.
                with suppress(KeyboardInterrupt, SystemExit):
                    self._loop.run_forever()
        self._loop.close()

    def close(self, timeout_s: float) -> None:
        """Cancel what still runs, and end the thread. Gives up after this time."""
        if self._loop is None or self._thread is None or self._is_closing:
            return
        with suppress(TimeoutError):
            self.run(_cancel_all()).result(timeout_s)
        self._is_closing = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout_s)


async def _cancel_all() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.get_running_loop().shutdown_asyncgens()

"""Threads for slow work: files and Datastore are read in them, never in the event loop.

They are daemon threads, not asyncio's: Python waits for asyncio's threads when it exits, so a
Datastore that does not answer would delay Ctrl-C by a minute.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

MAX_THREADS = 8


class Reader:
    """Calls functions in threads, at most `MAX_THREADS` at once; further calls wait."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(MAX_THREADS)

    async def call(self, function: Callable[[], T]) -> T:
        """Return or raise what `function` does. Cancelling the caller does not end the thread."""
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def done(result: T | None, error: BaseException | None) -> None:
            self._free.release()
            if answer.cancelled():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result)  # type: ignore[arg-type]

        def work() -> None:
            result, failed = None, None
            try:
                result = function()
            except BaseException as error:
                failed = error
            with suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(done, result, failed)

        threading.Thread(target=work, name="bulkup-web", daemon=True).start()
        return await answer

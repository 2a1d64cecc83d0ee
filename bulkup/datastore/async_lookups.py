"""Lookups awaited by handlers on an event loop. Those requested while others are in flight are
sent together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context
from typing import TypeAlias

from bulkup.datastore.messages import Pb
from bulkup.datastore.rpc import Rpc

AT_ONCE = 8
"""Maximum number of calls in flight. Further lookups wait until one of these is answered."""

_Found: TypeAlias = "asyncio.Future[Pb | None]"


class AsyncLookups:
    """Combines lookups into calls. An instance belongs to one event loop."""

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="bulkup-lookup")
        self._waiting: dict[bytes, tuple[Pb, _Found]] = {}
        """Requested but not sent yet."""
        self._in_flight = 0

    async def read(self, keys: Mapping[bytes, Pb]) -> dict[bytes, Pb | None]:
        """The EntityResults of these Key messages; None for a missing entity. Raises CallError."""
        loop = asyncio.get_running_loop()
        if not self._waiting and keys:
            # In a context of its own, because one call serves all handlers that wait.
            loop.call_soon(self._send, context=Context())
        found = {}
        for id_, key in keys.items():
            if id_ not in self._waiting:
                self._waiting[id_] = key, loop.create_future()
            found[id_] = self._waiting[id_][1]
        return {id_: await asyncio.shield(future) for id_, future in found.items()}

    def _send(self) -> None:
        if not self._waiting or self._in_flight >= AT_ONCE:
            return
        asked, self._waiting = self._waiting, {}
        self._in_flight += 1
        lookup = self._pool.submit(self._rpc.lookup, [key for key, _ in asked.values()])
        loop = asyncio.get_running_loop()

        def arrived(_: object) -> None:
            with suppress(RuntimeError):  # the loop has closed, so nobody waits
                loop.call_soon_threadsafe(self._answered, asked, lookup, context=Context())

        lookup.add_done_callback(arrived)

    def _answered(self, asked: dict[bytes, tuple[Pb, _Found]], lookup: object) -> None:
        self._in_flight -= 1
        error = lookup.exception()  # type: ignore[attr-defined]
        results = {} if error is not None else lookup.result()  # type: ignore[attr-defined]
        for id_, (_, future) in asked.items():
            if future.cancelled():
                continue
            if error is None:
                future.set_result(results.get(id_))
            else:
                future.set_exception(error)
                future.exception()  # whoever asked may have been cancelled
        self._send()

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

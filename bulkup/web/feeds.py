"""Pages that change while they are looked at: server-sent events.

A page consists of regions, each a piece of HTML with a name. While at least one browser watches a
page, one task reads it again and again; each browser is sent the regions that have changed since
what it has. There is no queue: a browser that reads slowly misses what was in between, so it takes
no memory, and one that does not read at all is dropped.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from bulkup.web.door import Receive, Refused, Scope, Send
from bulkup.web.regions import Region

MAX_CLIENTS = 32
"""Browsers, or tabs of one, that watch at the same time. A hidden tab does not watch."""
EVERY_S = 1.0
HEARTBEAT_S = 15.0
"""How often something is sent if nothing changes: only a write tells that the reader is gone."""
SEND_TIMEOUT_S = 20.0
"""A reader that takes nothing for so long is dropped."""

Read = Callable[[], Awaitable[Mapping[str, Region]]]


@dataclass
class _Topic:
    """One page that is watched."""

    watchers: int = 0
    regions: Mapping[str, Region] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Replaced by a new one at each change."""
    task: asyncio.Task[None] | None = None

    def publish(self, regions: Mapping[str, Region]) -> None:
        if regions == self.regions:
            return
        self.regions = regions
        self.wake()

    def wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class Feeds:
    """The pages that are watched now."""

    def __init__(self, max_clients: int = MAX_CLIENTS, every_s: float = EVERY_S) -> None:
        self.clients = 0
        self._max_clients = max_clients
        self._every_s = every_s
        self._topics: dict[object, _Topic] = {}
        self._ending = False

    def end(self) -> None:
        """Say goodbye to all, so that the server can end."""
        self._ending = True
        for topic in self._topics.values():
            topic.wake()

    def stream(self, name: object, read: Read) -> EventStream:
        """The answer to a browser that watches the page `name`. Raises Refused."""
        if self.clients >= self._max_clients:
            raise Refused(503, "Too many pages are being watched; close some of them.")
        return EventStream(self, name, read)

    async def watch(self, name: object, read: Read, send: Callable[[str], Awaitable[None]]) -> None:
        """Send what changes until `end`, or until `send` raises."""
        self.clients += 1
        topic = self._topics.setdefault(name, _Topic())
        topic.watchers += 1
        if topic.task is None:
            topic.task = asyncio.create_task(self._read_on(topic, read))
        sent: dict[str, str] = {}
        try:
            await send("retry: 2000\n\n")
            while not self._ending:
                changed = topic.changed
                news = {
                    name: region.as_json()
                    for name, region in topic.regions.items()
                    if sent.get(name) != region.version
                }
                sent |= {name: topic.regions[name].version for name in news}
                if news:
                    await send(f"event: regions\ndata: {json.dumps(news)}\n\n")
                    continue  # it may have changed while that was sent
                try:
                    await asyncio.wait_for(changed.wait(), HEARTBEAT_S)
                except TimeoutError:
                    await send(": nothing new\n\n")
            await send("event: end\ndata: {}\n\n")
        finally:
            self.clients -= 1
            topic.watchers -= 1
            if not topic.watchers:
                del self._topics[name]
                topic.task.cancel()

    async def _read_on(self, topic: _Topic, read: Read) -> None:
        while not self._ending:
            topic.publish(await read())
            await asyncio.sleep(self._every_s)


@dataclass(frozen=True)
class EventStream:
    """An ASGI application that answers with events until either side ends."""

    feeds: Feeds
    name: object
    read: Read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

        async def write(text: str) -> None:
            body: MutableMapping[str, Any] = {
                "type": "http.response.body", "body": text.encode(), "more_body": True,
            }  # fmt: skip
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await send(body)

        watching = asyncio.create_task(self.feeds.watch(self.name, self.read, write))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait((watching, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            watching.cancel()
            with suppress(asyncio.CancelledError, TimeoutError):
                await watching
        with suppress(OSError):
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    """Until the browser has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass

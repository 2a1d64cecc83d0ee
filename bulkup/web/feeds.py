"""Pages that change while somebody watches them: server-sent events.

A page consists of regions, each a piece of HTML with a name. While at least one browser watches a
page, one task reads it again and again, and each browser is sent the regions that have changed
since its last update. There is no queue: a slow browser skips the changes in between, so it takes
no memory. One that does not read at all is dropped.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from starlette.responses import PlainTextResponse

from bulkup.web.door import Receive, Scope, Send
from bulkup.web.regions import Region

MAX_CLIENTS = 32
"""Browser tabs that can watch at the same time. A hidden tab does not watch."""
EVERY_S = 1.0
IDLE_PARTS = 4
"""After a read that took T, wait at least this many times T before the next one."""
HEARTBEAT_S = 15.0
"""How often something is sent if nothing changes: only a write shows that the reader is gone."""
SEND_TIMEOUT_S = 20.0
"""A reader that takes nothing for this long is dropped."""

Read = Callable[[], Awaitable[Mapping[str, Region]]]


@dataclass
class _Topic:
    """A page that is being watched."""

    watchers: int = 0
    regions: Mapping[str, Region] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Replaced by a new one at each change."""
    reading: asyncio.Task[None] | None = None

    def publish(self, regions: Mapping[str, Region]) -> None:
        if regions != self.regions:
            self.regions = regions
            self.wake()

    def wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class Feeds:
    """The pages that are being watched now."""

    def __init__(self, max_clients: int = MAX_CLIENTS, every_s: float = EVERY_S) -> None:
        self.clients = 0
        self.max_clients = max_clients
        self._every_s = every_s
        self._topics: dict[object, _Topic] = {}
        self._is_ending = False

    def end(self) -> None:
        """End all streams, so that the server can exit."""
        self._is_ending = True
        for topic in self._topics.values():
            topic.wake()

    async def watch(self, name: object, read: Read, send: Callable[[str], Awaitable[None]]) -> None:
        """Send what changes until `end` is called. Raises what `read` or `send` raises."""
        topic = self._topics.setdefault(name, _Topic())
        topic.watchers += 1
        if topic.reading is None:
            topic.reading = asyncio.create_task(self._read_on(topic, read))
        sent: dict[str, str] = {}
        try:
            await send("retry: 2000\n\n")
            while not self._is_ending:
                changed, regions = topic.changed, topic.regions
                news = {name: one for name, one in regions.items() if sent.get(name) != one.version}
                if news:
                    sent |= {name: one.version for name, one in news.items()}
                    data = json.dumps({name: one.as_json() for name, one in news.items()})
                    await send(f"event: regions\ndata: {data}\n\n")
                    continue  # the regions may have changed while this was sent
                if topic.reading.done():
                    topic.reading.result()  # raises what ended it
                with suppress(TimeoutError):
                    await asyncio.wait_for(changed.wait(), HEARTBEAT_S)
                    continue
                await send(": nothing new\n\n")
            await send("event: end\ndata: {}\n\n")
        finally:
            topic.watchers -= 1
            if not topic.watchers:
                del self._topics[name]
                topic.reading.cancel()

    async def _read_on(self, topic: _Topic, read: Read) -> None:
        try:
            while not self._is_ending:
                began = time.monotonic()
                topic.publish(await read())
                # A slow page, such as one that groups a million failures, is read less often.
                took_s = time.monotonic() - began
                await asyncio.sleep(max(self._every_s, took_s * IDLE_PARTS))
        finally:
            topic.wake()


@dataclass(frozen=True)
class EventStream:
    """The response to a browser that watches a page: events until either side ends."""

    feeds: Feeds
    name: object
    """Browsers that watch the same page share a name."""
    read: Read

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.feeds.clients >= self.feeds.max_clients:
            full = PlainTextResponse("Too many pages are watched; close some of them.\n", 503)
            await full(scope, receive, send)
            return
        self.feeds.clients += 1
        try:
            await self._stream(receive, send)
        finally:
            self.feeds.clients -= 1

    async def _stream(self, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

        async def write(text: str, *, more: bool = True) -> None:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await send({"type": "http.response.body", "body": text.encode(), "more_body": more})

        watching = asyncio.create_task(self.feeds.watch(self.name, self.read, write))
        leaving = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait((watching, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            watching.cancel()
            # A timeout means that the reader took nothing for too long. The server closes the
            # connection.
            with suppress(asyncio.CancelledError, TimeoutError):
                await watching
                await write("", more=False)


async def _left(receive: Receive) -> None:
    """Return when the browser has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass

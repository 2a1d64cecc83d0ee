"""Browsers get what has changed; slow ones, and many, cost nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from bulkup.web import feeds as feeds_module
from bulkup.web.feeds import EventStream, Feeds
from bulkup.web.regions import Region, region


class Counter:
    """A page with a region that changes with each reading, and one that never does."""

    def __init__(self) -> None:
        self.readings = 0
        self.read_again = asyncio.Event()

    async def read(self) -> Mapping[str, Region]:
        self.readings += 1
        self.read_again.set()
        self.read_again.clear()
        return {"count": region(f"<p>{self.readings}</p>"), "same": region("<p>same</p>")}

    async def reaches(self, readings: int) -> None:
        while self.readings < readings:
            await self.read_again.wait()


class Reader:
    """Notes what it is sent, once it is let."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.may_read = asyncio.Event()
        self.may_read.set()
        self.got = asyncio.Event()

    async def take(self, text: str) -> None:
        await self.may_read.wait()
        self.sent.append(text)
        self.got.set()

    async def gets(self, amount: int) -> None:
        while len(self.sent) < amount:
            self.got.clear()
            await self.got.wait()

    def news(self) -> list[dict[str, dict[str, str]]]:
        lines = [text.partition("data: ")[2] for text in self.sent if "event: regions" in text]
        return [json.loads(line) for line in lines]


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await test()

    asyncio.run(bounded())


def test_only_what_has_changed_is_sent() -> None:
    async def test() -> None:
        feeds, page, reader = Feeds(every_s=0), Counter(), Reader()
        watching = asyncio.create_task(feeds.watch("page", page.read, reader.take))
        await reader.gets(4)
        feeds.end()
        await watching
        first, second, *_ = reader.news()
        assert set(first) == {"count", "same"}
        assert set(second) == {"count"}
        assert reader.sent[-1] == "event: end\ndata: {}\n\n"

    run(test)


def test_a_slow_reader_misses_what_was_in_between() -> None:
    async def test() -> None:
        feeds, page, reader = Feeds(every_s=0), Counter(), Reader()
        watching = asyncio.create_task(feeds.watch("page", page.read, reader.take))
        await reader.gets(2)
        reader.may_read.clear()
        await page.reaches(page.readings + 200)
        newest = page.readings
        reader.may_read.set()
        before = len(reader.sent)
        await reader.gets(before + 2)
        # One was on its way; the next one has the latest, and there is nothing between them.
        assert int(reader.news()[before]["count"]["html"].strip("<p>/")) >= newest
        feeds.end()
        await watching

    run(test)


def test_several_browsers_cost_one_reading() -> None:
    async def test() -> None:
        feeds, page = Feeds(every_s=3600), Counter()
        readers = [Reader() for _ in range(10)]
        tasks = [asyncio.create_task(feeds.watch("page", page.read, r.take)) for r in readers]
        for reader in readers:
            await reader.gets(2)
        assert page.readings == 1
        feeds.end()
        await asyncio.gather(*tasks)

    run(test)


def test_a_page_that_nobody_watches_is_not_read() -> None:
    async def test() -> None:
        feeds, page, reader = Feeds(every_s=0), Counter(), Reader()
        watching = asyncio.create_task(feeds.watch("page", page.read, reader.take))
        await reader.gets(2)
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watching
        readings = page.readings
        for _ in range(20):
            await asyncio.sleep(0)
        assert page.readings <= readings + 1

    run(test)


def test_what_reading_raises_ends_the_watching() -> None:
    async def broken() -> Mapping[str, Region]:
        raise OSError("gone")

    async def test() -> None:
        with pytest.raises(OSError, match="gone"):
            await Feeds().watch("page", broken, Reader().take)

    run(test)


Message = dict[str, Any]


class Connection:
    """The server's side of one browser that never leaves by itself."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.reads = True
        self.left = asyncio.Event()

    async def receive(self) -> Message:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if not self.reads and message["type"] == "http.response.body":
            await asyncio.Event().wait()
        self.messages.append(message)


def test_one_browser_too_many_is_told_so_and_one_that_leaves_makes_room() -> None:
    async def test() -> None:
        feeds, page = Feeds(max_clients=1, every_s=3600), Counter()
        first, second, third = Connection(), Connection(), Connection()
        stream = EventStream(feeds, "page", page.read)
        watching = asyncio.create_task(stream({}, first.receive, first.send))
        await page.reaches(1)
        await stream({"type": "http"}, second.receive, second.send)
        assert second.messages[0]["status"] == 503
        first.left.set()
        await watching
        assert feeds.clients == 0
        watching = asyncio.create_task(stream({}, third.receive, third.send))
        await page.reaches(2)
        feeds.end()
        await watching
        assert third.messages[0]["status"] == 200
        assert third.messages[-1] == {
            "type": "http.response.body", "body": b"", "more_body": False,
        }  # fmt: skip

    run(test)


def test_a_reader_that_takes_nothing_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeds_module, "SEND_TIMEOUT_S", 0.01)

    async def test() -> None:
        feeds, page, stuck = Feeds(every_s=0), Counter(), Connection()
        stuck.reads = False
        await EventStream(feeds, "page", page.read)({}, stuck.receive, stuck.send)
        assert feeds.clients == 0

    run(test)

"""The application without a socket, and a browser's view of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from bulkup.web.app import make_app
from bulkup.web.board import Board
from bulkup.web.door import Keys
from bulkup.web.feeds import Feeds
from tests.browser import browser, browser_context, browser_page  # noqa: F401 - fixtures

PORT = 4321
ORIGIN = f"http://127.0.0.1:{PORT}"


class Client:
    """Calls the application in one event loop, as one browser: it keeps cookies."""

    def __init__(self, runner: asyncio.Runner, client: httpx.AsyncClient) -> None:
        self._runner = runner
        self._client = client
        self.cookies = client.cookies

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self._runner.run(self._client.request(method, path, **options))

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def head(self, path: str) -> httpx.Response:
        return self.request("HEAD", path)

    def post(self, path: str, **options: Any) -> httpx.Response:
        return self.request("POST", path, **options)


@dataclass(frozen=True)
class Site:
    """A server for a state directory, and a client that knows no cookie yet."""

    state_dir: Path
    keys: Keys
    feeds: Feeds
    client: Client
    link: str
    """What `bulkup serve` prints, without the host."""

    @property
    def base(self) -> str:
        return self.keys.base

    def enter(self) -> None:
        """As a browser does that opens the link."""
        assert self.client.get(self.link).status_code == 200


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    state_dir = tmp_path / ".bulkup"
    keys, feeds = Keys(), Feeds(every_s=0.01)
    app = make_app(Board(state_dir, None, tmp_path / "updaters"), keys, feeds, PORT)
    link = keys.url(PORT).removeprefix(ORIGIN)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ORIGIN)
    with asyncio.Runner() as runner:
        yield Site(state_dir, keys, feeds, Client(runner, client), link)
        runner.run(client.aclose())

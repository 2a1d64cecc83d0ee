"""The application without a socket, and a browser's view of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from bulkup.runs.target import TargetOptions
from bulkup.web.app import make_app
from bulkup.web.board import Board
from bulkup.web.door import Keys
from bulkup.web.feeds import Feeds

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

    def page(self, path: str, *, status: int = 200, **params: str) -> httpx.Response:
        """The page at a path below the base."""
        answer = self.client.get(f"{self.base}{path}", params=params or None)
        assert answer.status_code == status, answer.text
        return answer


@contextmanager
def site_of(state_dir: Path, target: TargetOptions | None = None) -> Iterator[Site]:
    """The migrations are those in `updaters` beside the state directory."""
    keys, feeds = Keys(), Feeds(every_s=0.01)
    board = Board(state_dir, target, state_dir.parent / "updaters")
    app = make_app(board, keys, feeds, PORT)
    link = keys.url(PORT).removeprefix(ORIGIN)
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ORIGIN)
    with asyncio.Runner() as runner:
        yield Site(state_dir, keys, feeds, Client(runner, client), link)
        runner.run(client.aclose())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with site_of(tmp_path / ".bulkup") as site:
        yield site

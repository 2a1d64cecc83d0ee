"""The server: a socket on the loopback interface, until Ctrl-C."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from bulkup.core.errors import StateError, UsageError
from bulkup.web.app import make_app
from bulkup.web.board import Board
from bulkup.web.door import HOST, Keys
from bulkup.web.feeds import Feeds

MAX_CONNECTIONS = 100
"""Further requests are answered with 503."""
MAX_HEADERS_BYTES = 16 * 1024
_GRACE_S = 2
"""Seconds that responses in progress may still take when the server ends."""


class _Server(uvicorn.Server):
    """Does not handle signals: `_serve` does, because uvicorn would raise them again after it has
    ended."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def listen(port: int) -> socket.socket:
    """A listening socket on the loopback interface. Port 0: any free port. Raises UsageError,
    StateError."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        made.bind((HOST, port))
        made.listen()
    except OSError as error:
        made.close()
        if error.errno == errno.EADDRINUSE:
            raise UsageError(
                f"port {port} is in use by another program; choose another with --port, or leave "
                "--port out for any free one"
            ) from error
        raise StateError(
            f"cannot listen on port {port} ({error.strerror}); choose another with --port"
        ) from error
    return made


def serve(board: Board, listening: socket.socket, ready: Callable[[str], None]) -> None:
    """Serve the board until SIGINT or SIGTERM. `ready` is called with the link that opens it."""
    with listening:
        asyncio.run(_serve(board, listening, ready))


async def _serve(board: Board, listening: socket.socket, ready: Callable[[str], None]) -> None:
    port: int = listening.getsockname()[1]
    keys, feeds = Keys(), Feeds()
    config = uvicorn.Config(
        make_app(board, keys, feeds, port),
        lifespan="off", ws="none", http="h11", loop="asyncio", log_config=None, access_log=False,
        server_header=False, proxy_headers=False, limit_concurrency=MAX_CONNECTIONS,
        h11_max_incomplete_event_size=MAX_HEADERS_BYTES, timeout_graceful_shutdown=_GRACE_S,
    )  # fmt: skip
    server = _Server(config)

    def end() -> None:
        if server.should_exit:  # Ctrl-C again
            server.force_exit = True
        server.should_exit = True
        feeds.end()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    ready(keys.url(port))
    await server.serve(sockets=[listening])

"""Calls that wait for their client: to send the rest of a request, or to read an answer.

grpcio bounds neither how long a client may take nor how much unread data it can make the server
hold. A client that stops halfway would otherwise occupy a thread, or memory, for as long as it
keeps its connection open.
"""

from __future__ import annotations

import threading
import time
from typing import Any


class StalledCalls:
    """Cancels calls whose client makes them wait longer than `limit_s`, and counts the bytes of
    answers that have not been read yet.

    Its thread runs until `close`.
    """

    def __init__(self, limit_s: float) -> None:
        self.unread_bytes = 0
        self._limit_s = limit_s
        self._lock = threading.Lock()
        self._since: dict[Any, float] = {}
        """Calls that wait for their client (`grpc.ServicerContext`), and since when, the oldest
        first."""
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stalled", daemon=True)
        self._thread.start()

    def request_begins(self, call: Any) -> None:
        """The call has begun, and its request is still to come."""
        with self._lock:
            self._since[call] = time.monotonic()

    def request_ends(self, call: Any) -> None:
        with self._lock:
            self._since.pop(call, None)

    def answer_begins(self, call: Any, size: int) -> None:
        """An answer of `size` bytes is about to be sent; it counts until the call is over."""

        def over() -> None:
            with self._lock:
                self._since.pop(call, None)
                self.unread_bytes -= size

        with self._lock:
            self._since[call] = time.monotonic()
            self.unread_bytes += size
        if not call.add_callback(over):
            over()

    def close(self) -> None:
        self._closed.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._closed.wait(self._limit_s / 10):
            since = time.monotonic() - self._limit_s
            with self._lock:
                stalled = [call for call, began in self._since.items() if began < since]
            for call in stalled:
                call.cancel()
                self.request_ends(call)

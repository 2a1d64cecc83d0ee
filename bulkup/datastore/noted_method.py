"""A server method that notes its unanswered calls, so that a silent server can be reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class NotedMethod:
    """Notes in `in_flight` when each call was sent, until it is answered."""

    def __init__(
        self, method: Any, in_flight: dict[object, float], monotonic: Callable[[], float]
    ) -> None:
        self._method = method
        self._in_flight = in_flight
        self._monotonic = monotonic

    def __call__(self, request: bytes, **options: Any) -> Any:
        return self._method(request, **options)

    def future(self, request: bytes, **options: Any) -> Any:
        call = self._method.future(request, **options)
        self._in_flight[call] = self._monotonic()
        call.add_done_callback(self._answered)
        return call

    def _answered(self, call: Any) -> None:
        # Runs on a gRPC thread, so do only what is safe without a lock.
        self._in_flight.pop(call, None)

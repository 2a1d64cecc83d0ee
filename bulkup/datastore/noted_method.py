"""A server method that notes its unanswered calls, so that a silent server can be reported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class NotedMethod:
    """Notes in `in_flight` when each call was sent, until it is answered.

    `on_interrupt` is called if an exception (Ctrl-C) ends the sending.
    """

    def __init__(
        self,
        method: Any,
        in_flight: dict[object, float],
        monotonic: Callable[[], float],
        on_interrupt: Callable[[], None],
    ) -> None:
        self._method = method
        self._in_flight = in_flight
        self._monotonic = monotonic
        self._on_interrupt = on_interrupt

    def __call__(self, request: bytes, **options: Any) -> Any:
        return self._method(request, **options)

    def future(self, request: bytes, **options: Any) -> Any:
        try:
            call = self._method.future(request, **options)
        except BaseException:
            self._on_interrupt()
            raise
        self._in_flight[call] = self._monotonic()
        call.add_done_callback(self._answered)
        return call

    def _answered(self, call: Any) -> None:
        # Runs on a gRPC thread, so do only what is safe without a lock.
        self._in_flight.pop(call, None)

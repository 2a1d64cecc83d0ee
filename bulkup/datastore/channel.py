"""The channel that calls are made on: opening it, waiting for it, replacing it and closing it.

Endpoint and credentials are those of `google.cloud.datastore.Client`, but an answer may have up to
MAX_ANSWER_BYTES. The official channel stops at 4 MiB, which a page of 300 entities of 20 KB
exceeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlparse

import grpc
from google.cloud.datastore import Client as OfficialClient

from bulkup.datastore.call import TICK_S
from bulkup.datastore.call_error import MAX_ANSWER_BYTES, CallError
from bulkup.datastore.causes import cause_of, is_loopback
from bulkup.datastore.google_private import (
    close_channel,
    ready_future,
    refresh_token,
    secure_channel,
)
from bulkup.datastore.greenlets import tell_grpc
from bulkup.datastore.noted_method import NotedMethod
from bulkup.datastore.retry import FIRST_CONTACT_S, RetryPolicy

KEEPALIVE_MS = 20_000
"""How long a connection with a call in flight may be silent before it is pinged. Google's own
clients ping every 30 s. A server that allows only one ping every five minutes, which is gRPC's
default, tolerates this, because gRPC sends at most two pings between calls."""

PING_TIMEOUT_MS = 10_000
"""How long the answer to a ping may take. Then the connection is closed, and each of its calls is
sent again on a new one."""

MAX_RECONNECT_PAUSE_MS = 5_000
"""The longest that gRPC waits before it reconnects. Its default of 2 minutes would add to the
pauses between attempts, so a server that is back would still seem unavailable."""

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", PING_TIMEOUT_MS),
    ("grpc.http2.ping_timeout_ms", PING_TIMEOUT_MS),
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", MAX_RECONNECT_PAUSE_MS),
    # Otherwise a new channel to the same address would use the connection of the old one.
    ("grpc.use_local_subchannel_pool", 1),
)

_PROBE_S = 0.2
"""Timeout of the call that asks why a channel is not ready. A call on a channel that could not
connect fails at once."""

_PROBE_EVERY_S = 3.0
"""How often to ask why a channel is not ready."""

_CALLS = "RunQuery", "RunAggregationQuery", "Lookup", "Commit", "AllocateIds"


class Channel:
    """A channel to a server, which is replaced by a new one when the server falls silent.

    `on_tick` is called at least every TICK_S during a wait for a call or a pause, and may raise to
    end the wait.
    """

    def __init__(
        self, client: OfficialClient, retry_policy: RetryPolicy, monotonic: Callable[[], float]
    ) -> None:
        self.retry_policy = retry_policy
        self.monotonic = monotonic
        self.on_tick: Callable[[], None] = lambda: None
        self.heard_at = 0.0
        """When the last answer arrived."""
        self.in_flight: dict[object, float] = {}
        """Unanswered attempts, oldest first, and when each was sent."""
        self._refreshed_at = -math.inf
        self._client = client
        url = urlparse(client.base_url)
        self.address = url.netloc
        self._secure = url.scheme == "https"
        self.methods: Mapping[str, Any]
        self._open_channel()

    def _open_channel(self) -> None:
        tell_grpc()
        options: tuple[tuple[str, int], ...] = _OPTIONS
        if is_loopback(self.address):
            options += (("grpc.enable_http_proxy", 0),)  # a proxy cannot reach loopback
        if self._secure:
            channel = secure_channel(self._client, self.address, options)
        else:
            channel = grpc.insecure_channel(self.address, options=options)
        self._channel = channel
        self._interrupted = False
        self.methods = {
            name: NotedMethod(
                channel.unary_unary(
                    f"/google.datastore.v1.Datastore/{name}",
                    request_serializer=None,
                    response_deserializer=None,
                ),
                # Do not note counts: they take long, and nothing waits for them.
                {} if name == "RunAggregationQuery" else self.in_flight,
                self.monotonic,
                self._note_interrupt,
            )
            for name in _CALLS
        }

    def _note_interrupt(self) -> None:
        self._interrupted = True

    def unanswered(self) -> tuple[str, float]:
        """The server's address, and the age in seconds of its oldest unanswered call."""
        oldest = next(iter(self.in_flight.copy().values()), None)
        return self.address, 0.0 if oldest is None else self.monotonic() - oldest

    def fell_silent(self, since: float) -> None:
        """Handle a timeout of a call that was sent at `since`. If no other call was answered since
        then, use a new connection: behind a NAT or a load balancer a connection may die silently
        while a new one works. Calls in flight on the old one are sent again, like this one."""
        if self.heard_at >= since:
            return
        old, interrupted = self._channel, self._interrupted
        self._open_channel()
        self.heard_at = self.monotonic()  # calls on the old channel say nothing about the new one
        close_channel(old, interrupted=interrupted)

    def refresh_credentials(self, since: float, error: CallError) -> None:
        """Get a new token, because the server refused the token of a call sent at `since`. Do
        nothing if it was refreshed after that. If it cannot be refreshed, add why to `error`."""
        if not self._secure or self._refreshed_at >= since:
            return
        self._refreshed_at = self.monotonic()
        reason = refresh_token(self._client)
        if reason:
            error.details += f"; a new token could not be obtained: {reason}"

    def connect(self) -> None:
        """Wait until a gRPC server has answered at the address. Raises CallError.

        This distinguishes a port that accepts connections but says nothing from a busy server,
        which completes the handshake at once.
        """
        limit_s = min(FIRST_CONTACT_S, self.retry_policy.retry_for_s)
        give_up = self.monotonic() + limit_s
        probe_at = 0.0
        ready = ready_future(self._channel)
        try:
            while True:
                try:
                    ready.result(timeout=TICK_S)
                    return
                except grpc.FutureTimeoutError:
                    self.on_tick()
                    now = self.monotonic()
                    if now < min(probe_at, give_up):
                        continue
                    probe_at = now + _PROBE_EVERY_S
                    details = self._why_not_ready()
                    cause = cause_of(details, self.address)
                    if now >= give_up or (cause is not None and cause.is_final):
                        raise CallError(
                            "Connect",
                            grpc.StatusCode.UNAVAILABLE,
                            details or f"gave up after {limit_s:.0f} s",
                        ) from None
        finally:
            ready.cancel()

    def _why_not_ready(self) -> str:
        """Why there is no connection. gRPC reports that only to a call, so send an empty one."""
        try:
            self.methods["Lookup"](b"", timeout=_PROBE_S)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                return error.details() or ""
        return ""  # it is still connecting, or has just connected

    def close(self) -> None:
        """End the calls in flight and close the channel."""
        close_channel(self._channel, interrupted=self._interrupted)

"""The channel that calls are made on: how it is opened, waited for, given up and closed.

Endpoint and credentials are those of `google.cloud.datastore.Client`. What differs: no limit on the
size of an answer. The official channel stops at 4 MiB, which a page of 300 entities of 20 KB
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
clients ping every 30 s. A server that allows a ping every five minutes only, as gRPC's do by
default, tolerates this: gRPC sends two between calls at most."""

PING_TIMEOUT_MS = 10_000
"""How long the answer to a ping may take. Then the connection is closed, and each of its calls is
sent again on a new one."""

MAX_RECONNECT_PAUSE_MS = 5_000
"""The longest that gRPC waits before it connects again. Its own 2 minutes would add to the pauses
between attempts: a server that is back would seem to be away."""

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
"""A call on a channel that could not connect fails at once."""

_PROBE_EVERY_S = 3.0
"""How often a channel that does not get ready is asked why."""

_CALLS = "RunQuery", "RunAggregationQuery", "Lookup", "Commit", "AllocateIds"


class Channel:
    """A channel to a server, in whose place comes another when it falls silent.

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
        """Attempts that are not answered, oldest first, and when they were sent."""
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
            options += (("grpc.enable_http_proxy", 0),)  # no proxy reaches it
        if self._secure:
            channel = secure_channel(self._client, self.address, options)
        else:
            channel = grpc.insecure_channel(self.address, options=options)
        self._channel = channel
        self.methods = {
            name: NotedMethod(
                channel.unary_unary(
                    f"/google.datastore.v1.Datastore/{name}",
                    request_serializer=None,
                    response_deserializer=None,
                ),
                # Nothing waits for a count, and counting takes long.
                {} if name == "RunAggregationQuery" else self.in_flight,
                self.monotonic,
            )
            for name in _CALLS
        }

    def unanswered(self) -> tuple[str, float]:
        """The server's address, and for how many seconds it has not answered a call."""
        oldest = next(iter(self.in_flight.copy().values()), None)
        return self.address, 0.0 if oldest is None else self.monotonic() - oldest

    def fell_silent(self, since: float) -> None:
        """A call that was sent at `since` got no answer in time. If no other call did either, use a
        new connection: behind a NAT or a load balancer a connection may die without a word, and
        another one works. The calls in flight on the old one are sent again like this one."""
        if self.heard_at >= since:
            return
        old = self._channel
        self._open_channel()
        self.heard_at = self.monotonic()  # the calls in flight on the old one say nothing about it
        close_channel(old)

    def refresh_credentials(self, since: float, error: CallError) -> None:
        """The server has refused the token of a call that was sent at `since`: get a new one,
        unless that has happened meanwhile. If there is none, the error says so."""
        if not self._secure or self._refreshed_at >= since:
            return
        self._refreshed_at = self.monotonic()
        reason = refresh_token(self._client)
        if reason:
            error.details += f"; a new token could not be obtained: {reason}"

    def connect(self) -> None:
        """Wait until a gRPC server has answered at the address. Raises CallError.

        This tells a port that accepts and says nothing from a busy server, which shakes hands at
        once.
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
        """gRPC tells why it has no connection only to a call; this one asks for nothing."""
        try:
            self.methods["Lookup"](b"", timeout=_PROBE_S)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                return error.details() or ""
        return ""  # it is still connecting, or has just connected

    def close(self) -> None:
        """End the calls in flight and close the channel."""
        close_channel(self._channel)

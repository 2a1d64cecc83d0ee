"""The gRPC endpoint: grpcio's server on the loopback interface, with bounds on the memory that
clients can make it use.

Threads, not asyncio: SQLite blocks. The pool also bounds how many requests are in memory: a call
that waits for a thread can send 64 KiB; the rest of its request is accepted once a thread is free.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import grpc

from bulkup.core.errors import TargetError
from bulkup.local.stalled import StalledCalls
from bulkup.local.status import RpcError

HOST = "127.0.0.1"
THREADS = 16
MAX_REQUEST_BYTES = 12 << 20
"""A little above the 10 MiB of a commit, so that most commits that are too large are refused with
the service's message and not with grpcio's."""
MAX_STREAMS = 100
"""Concurrent calls on one connection. Clients wait when they reach this."""
MAX_CALLS = 1000
"""Concurrent calls on all connections. Calls beyond this are refused with RESOURCE_EXHAUSTED."""
MAX_UNREAD_BYTES = 256 << 20
"""Bytes of answers that clients have requested but not read. While there are more, calls are
refused in the same way. An answer has at most 4 MiB."""
STALLED_SECONDS = 30
"""How long a client may take to send a request, or to read an answer."""
_HANDSHAKE_MS = 10_000
_STATUS_BYTES = 4000
"""Maximum size of a percent-encoded status message. It is sent as a header, and clients accept 8
KiB of headers."""

Method = Callable[[bytes], bytes]
"""Takes a serialized request, returns a serialized response. Raises nothing but RpcError."""


class Endpoint:
    """Serves `methods` (by name) of a gRPC service from the start until `stop`.

    `port` is the port it listens on. Raises TargetError when that port cannot be used.
    """

    def __init__(self, port: int, service: str, methods: Mapping[str, Method]) -> None:
        _check_port(port)
        self._stalled = StalledCalls(STALLED_SECONDS)
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="datastore")
        handlers: dict[str, Any] = {
            # Not unary_unary: it could not cancel a call whose request never ends.
            name: grpc.stream_unary_rpc_method_handler(self._handler(method))
            for name, method in methods.items()
        }
        self._server = grpc.server(
            self._pool,
            handlers=[grpc.method_handlers_generic_handler(service, handlers)],
            maximum_concurrent_rpcs=MAX_CALLS,
            options=[
                # Otherwise a second server on the same port would take half of the connections.
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_concurrent_streams", MAX_STREAMS),
                ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
                ("grpc.http.overload_protection", 0),
                # Clients may send keepalive pings as often as they like.
                ("grpc.http2.max_ping_strikes", 0),
                # The probe widens the window of each call until a whole request fits. With it, a
                # thousand half-sent requests took 10 GiB. A request that a thread waits for gets
                # the window it needs anyway.
                ("grpc.http2.bdp_probe", 0),
            ],
        )
        try:
            self.port: int = self._server.add_insecure_port(f"{HOST}:{port}")
        except RuntimeError as error:
            self._close()
            raise _port_taken(port) from error
        self._server.start()

    def stop(self, grace_s: float) -> None:
        """Refuse new calls, give those in progress `grace_s` to finish, and wait for them."""
        self._server.stop(grace_s).wait()
        self._close()

    def _close(self) -> None:
        self._pool.shutdown()
        self._stalled.close()

    def _handler(self, method: Method) -> Callable[[Iterator[bytes], Any], bytes]:
        stalled = self._stalled

        def handle(requests: Iterator[bytes], call: Any) -> bytes:
            stalled.request_begins(call)
            try:
                request = next(requests, None)
            finally:
                stalled.request_ends(call)
            try:
                if request is None:
                    raise RpcError(grpc.StatusCode.INTERNAL, "The call has no request message.")
                if stalled.unread_bytes > MAX_UNREAD_BYTES:
                    raise RpcError(
                        grpc.StatusCode.RESOURCE_EXHAUSTED,
                        "Clients have not read the answers they asked for; try again later.",
                    )
                answer = method(request)
            except RpcError as error:
                call.abort(error.code, _status_message(error.message))
            stalled.answer_begins(call, len(answer))
            return answer

        return handle


def _status_message(message: str) -> str:
    while len(quote(message)) > _STATUS_BYTES:
        message = message[: len(message) * 3 // 4]
    return message


def _check_port(port: int) -> None:
    """Try the port before grpcio does: grpcio would print the reason for a failure, and put it into
    its exception only if GRPC_VERBOSITY is set."""
    if not 0 <= port < 1 << 16:
        raise TargetError(f"cannot listen on port {port}: use a port from 1 to 65535, or 0")
    if not port:
        return
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((HOST, port))
            trial.listen()
        except OSError as error:
            raise _port_taken(port) from error


def _port_taken(port: int) -> TargetError:
    return TargetError(
        f"cannot listen on {HOST}:{port}: the port is in use or not allowed; "
        "use another port, or 0 for any free one"
    )

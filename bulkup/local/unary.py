"""gRPC's unary calls, as HTTP/2 carries them: a message in, a message or a status out."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import grpc

from bulkup.local import frames
from bulkup.local.http2 import MAX_BODY_BYTES, Connection, Request
from bulkup.local.status import RpcError

_log = logging.getLogger(__name__)

_SMALL_BYTES = 4096
"""A request of so many may be answered by the thread that read it."""
_MESSAGE_BYTES = 4000
"""Of a status message, encoded: it is a header, and clients take 8 KiB of them."""
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")

_STATUS_200 = b"\x88"
_HEADERS = _STATUS_200 + frames.header(b"content-type", b"application/grpc")
_ENCODINGS = frames.header(b"grpc-accept-encoding", b"identity,deflate,gzip")
_OK = frames.header(b"grpc-status", b"0")
_NOT_GRPC = frames.header(b":status", b"415")

Method = Callable[[bytes], bytes]
"""Takes and gives a serialized message. Raises RpcError, and nothing else."""


class Calls:
    """Answers requests by their path, in `pool` or at once.

    `methods`: by path. `is_quick`: whether a call of that path would come back soon now.
    """

    def __init__(
        self,
        methods: Mapping[bytes, Method],
        is_quick: Callable[[bytes], bool],
        pool: ThreadPoolExecutor,
    ) -> None:
        self._methods = methods
        self._is_quick = is_quick
        self._pool = pool

    def answer(self, connection: Connection, request: Request, alone: bool) -> None:
        small = alone and request.size <= _SMALL_BYTES
        if small and self._is_quick(request.headers.get(b":path", b"")):
            self._answer(connection, request)
        else:
            self._pool.submit(self._answer, connection, request)

    def _answer(self, connection: Connection, request: Request) -> None:
        try:
            self._respond(connection, request)
        except Exception:
            _log.exception("a call failed")  # the client hears that its connection ended
            connection.outgoing.close()
        finally:
            connection.done(request)

    def _respond(self, connection: Connection, request: Request) -> None:
        if not connection.is_waited_for(request):
            return
        headers = request.headers
        if not headers.get(b"content-type", b"").startswith(b"application/grpc"):
            connection.respond(request, _NOT_GRPC)
            return
        try:
            method = self._methods.get(headers.get(b":path", b""))
            if method is None:
                raise RpcError(grpc.StatusCode.UNIMPLEMENTED, "There is no such method here.")
            answer = method(_message(request))
        except RpcError as error:
            connection.respond(request, _HEADERS + _ENCODINGS + _status(error))
            return
        body = b"".join((b"\0", len(answer).to_bytes(4, "big"), answer))
        connection.respond(request, _HEADERS, body, _OK)


def _message(request: Request) -> bytes:
    """The one message of a request. Raises RpcError."""
    if request.too_large:
        raise RpcError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"The request is larger than {MAX_BODY_BYTES >> 20} MiB.",
        )
    body = request.body[0] if len(request.body) == 1 else b"".join(request.body)
    if len(body) < 5 or len(body) - 5 != int.from_bytes(body[1:5], "big"):
        raise RpcError(grpc.StatusCode.INTERNAL, "The request is not one whole message.")
    message = body[5:]
    if not body[0]:
        return message
    if request.headers.get(b"grpc-encoding") not in (b"gzip", b"deflate"):
        raise RpcError(
            grpc.StatusCode.UNIMPLEMENTED, "The request is compressed in a way unknown here."
        )
    inflated = zlib.decompressobj(32 + zlib.MAX_WBITS)  # either of the two
    try:
        message = inflated.decompress(message, MAX_BODY_BYTES)
    except zlib.error as error:
        raise RpcError(grpc.StatusCode.INTERNAL, "The request cannot be decompressed.") from error
    if not inflated.eof:
        raise RpcError(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"The request ends early, or is larger than {MAX_BODY_BYTES >> 20} MiB.",
        )
    return message


def _status(error: RpcError) -> bytes:
    message = error.message.strip()  # a header's value has no blanks at its ends
    while len(text := quote(message, safe=_PRINTABLE)) > _MESSAGE_BYTES:
        message = message[: len(message) * 3 // 4].rstrip()
    number: int = error.code.value[0]
    return frames.header(b"grpc-status", b"%d" % number) + frames.header(
        b"grpc-message", text.encode()
    )

"""One connection of a client: HTTP/2 without encryption, as far as unary calls need it.

gRPC's own server in Python costs a call about 0.2 ms of CPU and three changes of thread, which for
a server on the same machine is most of a small call. Here a thread for each connection reads
frames, and may answer small calls itself. Header blocks are decoded by the `hpack` package.
Reading is here, sending in `local/outgoing.py`.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from hpack import Decoder, HPACKError

from bulkup.local import frames as f
from bulkup.local.frames import Broken, Code
from bulkup.local.incoming import Incoming
from bulkup.local.outgoing import FRAME_BYTES, Outgoing

MAX_STREAMS = 100
"""Calls at once on a connection, as of gRPC's own servers."""
MAX_BODY_BYTES = 64 << 20
"""Well above the 10 MiB that a request may have, so that larger ones are refused in our words."""
_MAX_HEADER_BYTES = 64 << 10
_MAX_CONTINUATIONS = 64


class Request:
    """A call as it arrived. `too_large`: its body is not kept."""

    __slots__ = ("body", "headers", "size", "stream", "too_large")

    def __init__(self, stream: int, headers: dict[bytes, bytes]) -> None:
        self.stream = stream
        self.headers = headers
        self.body: list[bytes] = []
        self.size = 0
        self.too_large = False


Answer = Callable[["Connection", Request, bool], None]


class Connection:
    """Reads requests until the client leaves or `close`, and hands each to `answer`, which calls
    `respond` once, and `done` in the end, at any time, in any thread. Its last argument: this is
    all that the client wants for now, so the thread that reads, which hears nothing meanwhile, may
    answer it."""

    def __init__(self, sock: socket.socket, answer: Answer) -> None:
        self._sock = sock
        self._answer = answer
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.incoming = Incoming(sock)
        self.outgoing = Outgoing(sock)
        self._lock = self.outgoing.lock
        """Of what is at work and open, too."""
        self._decoder = Decoder(max_header_list_size=_MAX_HEADER_BYTES)
        self._arriving: dict[int, Request] = {}
        self._arrived: Request | None = None
        """The last one, as long as what came with it is being read."""
        self._at_work: set[int] = set()
        """Handed out, and not done."""
        self._last = 0
        self._leaving = False
        self._received = 0
        """Bytes of bodies since the client was last told that its window is open."""

    def serve(self) -> None:
        """Read frames, from behind the preface to the end. Raises OSError."""
        stream = self.incoming
        try:
            self._greet()
            while True:
                if self._arrived is not None and not stream.has_more():
                    self._hand_out(alone=True)
                head = stream.read(f.HEAD_BYTES)
                if len(head) < f.HEAD_BYTES:
                    return
                size, kind, flags, number = f.read_head(head)
                if size > FRAME_BYTES:
                    raise Broken(Code.FRAME_SIZE_ERROR, "a frame larger than allowed")
                if self._arrived is not None and kind in (f.HEADERS, f.DATA):
                    self._hand_out(alone=False)  # the rest of that frame may take its time
                payload = stream.read(size)
                if len(payload) < size:
                    return
                if kind == f.HEADERS:
                    self._headers(flags, number, payload)
                elif kind == f.DATA:
                    self._data(flags, number, payload)
                else:
                    self._control(kind, flags, number, payload)
        except Broken as broken:
            with self._lock:
                self.outgoing.send(f.goaway(self._last, broken.code, str(broken)))
        finally:
            self.outgoing.drop()

    def _greet(self) -> None:
        ours = f.settings(
            {
                f.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
                f.INITIAL_WINDOW_SIZE: f.MAX_WINDOW,
                f.MAX_FRAME_SIZE: FRAME_BYTES,
                f.MAX_HEADER_LIST_SIZE: _MAX_HEADER_BYTES,
            }
        )
        with self._lock:
            self.outgoing.send(ours + f.window_update(0, f.MAX_WINDOW - f.DEFAULT_WINDOW))

    def _headers(self, flags: int, number: int, payload: bytes) -> None:
        block = f.unpadded(flags, payload, priority=True)
        if not flags & f.END_HEADERS:
            block += self._continuations(number)
        try:
            headers = dict(self._decoder.decode(block, raw=True))
        except HPACKError as error:
            raise Broken(Code.COMPRESSION_ERROR, "the headers cannot be decoded") from error
        if number % 2 == 0:
            raise Broken(Code.PROTOCOL_ERROR, "headers of a stream that cannot begin")
        if number not in self._arriving:
            if not self._begin(Request(number, headers)):
                return
        elif not flags & f.END_STREAM:
            raise Broken(Code.PROTOCOL_ERROR, "trailers that do not end the stream")
        if flags & f.END_STREAM:
            self._end(number)

    def _continuations(self, number: int) -> bytes:
        block = b""
        for _ in range(_MAX_CONTINUATIONS):
            head = self.incoming.read(f.HEAD_BYTES)
            if len(head) < f.HEAD_BYTES:
                raise Broken(Code.PROTOCOL_ERROR, "the headers end early")
            size, kind, flags, same = f.read_head(head)
            if kind != f.CONTINUATION or same != number:
                raise Broken(Code.PROTOCOL_ERROR, "headers are not continued")
            if len(block) + size > _MAX_HEADER_BYTES:
                break
            block += self.incoming.read(size)
            if flags & f.END_HEADERS:
                return block
        raise Broken(Code.ENHANCE_YOUR_CALM, "headers too large")

    def _begin(self, request: Request) -> bool:
        with self._lock:  # what `leave` says is not taken any more is not
            number = request.stream
            if number <= self._last or self._leaving:
                return False  # was refused or reset; or the client asks again elsewhere
            self._last = number
            # A call that was reset counts until nobody works at it.
            if len(self._arriving) + len(self._at_work | self.outgoing.open) >= MAX_STREAMS:
                self.outgoing.send(f.reset(number, Code.REFUSED_STREAM))
                return False
            self._arriving[number] = request
            return True

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        if number == 0 or (number > self._last and not self._leaving):
            raise Broken(Code.PROTOCOL_ERROR, "data of a stream that has not begun")
        self._received += len(payload)
        if self._received >= 1 << 30:
            with self._lock:
                self.outgoing.send(f.window_update(0, self._received))
            self._received = 0
        request = self._arriving.get(number)
        if request is None:
            return  # was reset, by us or by them
        body = f.unpadded(flags, payload) if flags & f.PADDED else payload
        request.size += len(body)
        if request.size > MAX_BODY_BYTES:
            request.too_large = True
            request.body.clear()
        elif body:
            request.body.append(body)
        if flags & f.END_STREAM:
            self._end(number)

    def _end(self, number: int) -> None:
        self._arrived = self._arriving.pop(number)
        with self._lock:
            self._at_work.add(number)
            self.outgoing.open.add(number)

    def _hand_out(self, *, alone: bool) -> None:
        request, self._arrived = self._arrived, None
        if request is not None:
            alone = alone and len(self._at_work) == 1 and not self._arriving
            self._answer(self, request, alone)

    def _control(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if number and kind in (f.SETTINGS, f.PING, f.GOAWAY):
            raise Broken(Code.PROTOCOL_ERROR, "a frame of the connection in a stream")
        if kind == f.WINDOW_UPDATE:
            more = f.read_number(payload)
            self.outgoing.widen(number, more, arriving=number in self._arriving)
        elif kind == f.SETTINGS:
            if not flags & f.ACK:
                self.outgoing.settle(f.read_settings(payload))
        elif kind == f.PING:
            if len(payload) != 8:
                raise Broken(Code.FRAME_SIZE_ERROR, "a ping of an odd length")
            if not flags & f.ACK:
                with self._lock:
                    self.outgoing.send(f.frame(f.PING, f.ACK, 0, payload))
        elif kind == f.RST_STREAM:
            if len(payload) != 4 or number == 0 or (number > self._last and not self._leaving):
                raise Broken(Code.PROTOCOL_ERROR, "a reset of no stream")
            self._arriving.pop(number, None)
            with self._lock:
                self.outgoing.forget(number)
        elif kind in (f.PUSH_PROMISE, f.CONTINUATION):
            raise Broken(Code.PROTOCOL_ERROR, "a frame that a client does not send here")
        # PRIORITY and GOAWAY change nothing, and unknown kinds are to be ignored.

    # --- answering: any thread ---

    def is_waited_for(self, request: Request) -> bool:
        """The client has not given it up."""
        return request.stream in self.outgoing.open

    def respond(
        self, request: Request, headers: bytes, body: bytes = b"", trailers: bytes = b""
    ) -> None:
        """Send an answer; without `trailers`, `headers` are all of it. Does nothing when the
        client has gone, or does not want to hear it any more."""
        self.outgoing.respond(request.stream, headers, body, trailers)

    def done(self, request: Request) -> None:
        """Nobody works at it any more."""
        with self._lock:
            self._at_work.discard(request.stream)

    def leave(self) -> None:
        """Take no more requests; those that have arrived are answered."""
        with self._lock:
            self._leaving = True
            self.outgoing.send(f.goaway(self._last, Code.NO_ERROR))

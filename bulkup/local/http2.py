"""One connection of a client: HTTP/2 without encryption, as far as unary calls need it.

gRPC's own server in Python costs a call about 0.2 ms of CPU and three changes of thread, which for
a server on the same machine is most of a small call. Here a thread for each connection reads
frames; it answers small calls itself, and leaves the others to a pool. Header blocks are decoded by
the `hpack` package.

Nobody waits for a client to read: what its windows do not allow yet is kept, and sent by whoever
hears that they have grown.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from typing import Any

from hpack import Decoder, HPACKError

from bulkup.local import frames as f
from bulkup.local.frames import Broken, Code

MAX_STREAMS = 100
"""Calls at once on a connection, as of gRPC's own servers."""
MAX_BODY_BYTES = 64 << 20
"""Well above the 10 MiB that a request may have, so that larger ones are refused in our words."""
_MAX_HEADER_BYTES = 64 << 10
_FRAME_BYTES = 1 << 20
"""As large as we take them: a commit of 500 entities is one frame."""
BUFFER_BYTES = 1 << 17
"""Read at once."""
_SEND_SECONDS = 60
"""How long a client may leave its socket full before its connection ends."""


class Request:
    """A call as it arrived. `too_large`: its body is not kept."""

    __slots__ = ("body", "headers", "size", "stream", "too_large")

    def __init__(self, stream: int, headers: dict[bytes, bytes]) -> None:
        self.stream = stream
        self.headers = headers
        self.body: list[bytes] = []
        self.size = 0
        self.too_large = False


class Connection:
    """Reads requests until the client leaves or `close`, and hands each to `answer`, which calls
    `respond` once, at any time, in any thread."""

    def __init__(self, sock: socket.socket, answer: Callable[[Connection, Request], None]) -> None:
        self._sock = sock
        self._answer = answer
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", _SEND_SECONDS, 0))
        self._lock = threading.RLock()
        """Of all that is below, and of writing to the socket."""
        self._decoder = Decoder(max_header_list_size=_MAX_HEADER_BYTES)
        self._arriving: dict[int, Request] = {}
        self._running: set[int] = set()
        self._last = 0
        self._leaving = False
        self._received = 0
        """Bytes of bodies since the client was last told that its window is open."""
        self._window = f.DEFAULT_WINDOW
        """What may still be sent on the connection."""
        self._stream_window = f.DEFAULT_WINDOW
        """With what a stream begins."""
        self._frame_bytes = f.DEFAULT_FRAME_BYTES
        self._windows: dict[int, int] = {}
        """What may still be sent on a stream, where that is not with what it began; less than
        nothing, when the client takes back what it allowed."""
        self._waiting: dict[int, tuple[memoryview, bytes]] = {}
        """Bodies that the windows did not let through yet, and the trailers after them."""

    # --- reading: one thread ---

    def serve(self, stream: Any) -> None:
        """Read frames from a buffered reader that is behind the preface, to the end."""
        try:
            self._greet()
            while True:
                head = stream.read(f.HEAD_BYTES)
                if len(head) < f.HEAD_BYTES:
                    return
                size, kind, flags, number = f.read_head(head)
                if size > _FRAME_BYTES:
                    raise Broken(Code.FRAME_SIZE_ERROR, "a frame larger than allowed")
                payload = stream.read(size)
                if len(payload) < size:
                    return
                if kind == f.HEADERS:
                    self._headers(stream, flags, number, payload)
                elif kind == f.DATA:
                    self._data(flags, number, payload)
                else:
                    self._control(kind, flags, number, payload)
        except Broken as broken:
            with self._lock:
                self._send(f.goaway(self._last, broken.code, str(broken)))
        finally:
            with self._lock:  # nobody is left to answer
                self._running.clear()
                self._waiting.clear()

    def _greet(self) -> None:
        ours = f.settings(
            {
                f.MAX_CONCURRENT_STREAMS: MAX_STREAMS,
                f.INITIAL_WINDOW_SIZE: f.MAX_WINDOW,
                f.MAX_FRAME_SIZE: _FRAME_BYTES,
                f.MAX_HEADER_LIST_SIZE: _MAX_HEADER_BYTES,
            }
        )
        with self._lock:
            self._send(ours + f.window_update(0, f.MAX_WINDOW - f.DEFAULT_WINDOW))

    def _headers(self, stream: Any, flags: int, number: int, payload: bytes) -> None:
        block = f.unpadded(flags, payload, priority=True)
        while not flags & f.END_HEADERS:
            head = stream.read(f.HEAD_BYTES)
            if len(head) < f.HEAD_BYTES:
                raise Broken(Code.PROTOCOL_ERROR, "the headers end early")
            size, kind, more, same = f.read_head(head)
            if kind != f.CONTINUATION or same != number:
                raise Broken(Code.PROTOCOL_ERROR, "headers are not continued")
            if len(block) + size > _MAX_HEADER_BYTES:
                raise Broken(Code.ENHANCE_YOUR_CALM, "headers too large")
            block += stream.read(size)
            flags |= more & f.END_HEADERS
        try:
            headers = dict(self._decoder.decode(block, raw=True))
        except HPACKError as error:
            raise Broken(Code.COMPRESSION_ERROR, "the headers cannot be decoded") from error
        request = self._arriving.get(number)
        if request is None:
            if number % 2 == 0 or number <= self._last:
                raise Broken(Code.PROTOCOL_ERROR, "headers of a stream that cannot begin")
            if self._leaving:
                return  # behind the last one that we named: the client asks again elsewhere
            self._last = number
            if len(self._arriving) + len(self._running) >= MAX_STREAMS:
                with self._lock:
                    self._send(f.reset(number, Code.REFUSED_STREAM))
                return
            request = self._arriving[number] = Request(number, headers)
        elif not flags & f.END_STREAM:
            raise Broken(Code.PROTOCOL_ERROR, "trailers that do not end the stream")
        if flags & f.END_STREAM:
            self._arrived(number)

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        if number == 0 or (number > self._last and not self._leaving):
            raise Broken(Code.PROTOCOL_ERROR, "data of a stream that has not begun")
        self._received += len(payload)
        if self._received >= 1 << 30:
            with self._lock:
                self._send(f.window_update(0, self._received))
            self._received = 0
        request = self._arriving.get(number)
        if request is None:
            return  # was reset, by us or by them
        body = f.unpadded(flags, payload) if flags & f.PADDED else payload
        request.size += len(body)
        if request.size > MAX_BODY_BYTES:
            request.too_large = True
            request.body.clear()
        else:
            request.body.append(body)
        if flags & f.END_STREAM:
            self._arrived(number)

    def _arrived(self, number: int) -> None:
        request = self._arriving.pop(number)
        with self._lock:
            self._running.add(number)
        self._answer(self, request)

    def _control(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        if number and kind in (f.SETTINGS, f.PING, f.GOAWAY):
            raise Broken(Code.PROTOCOL_ERROR, "a frame of the connection in a stream")
        if kind == f.WINDOW_UPDATE:
            self._widen(number, f.read_number(payload))
        elif kind == f.SETTINGS:
            if not flags & f.ACK:
                self._settle(f.read_settings(payload))
        elif kind == f.PING:
            if len(payload) != 8:
                raise Broken(Code.FRAME_SIZE_ERROR, "a ping of an odd length")
            if not flags & f.ACK:
                with self._lock:
                    self._send(f.frame(f.PING, f.ACK, 0, payload))
        elif kind == f.RST_STREAM:
            if len(payload) != 4 or number == 0 or (number > self._last and not self._leaving):
                raise Broken(Code.PROTOCOL_ERROR, "a reset of no stream")
            self._arriving.pop(number, None)
            self._forget(number)
        elif kind in (f.PUSH_PROMISE, f.CONTINUATION):
            raise Broken(Code.PROTOCOL_ERROR, "a frame that a client does not send here")
        # PRIORITY and GOAWAY change nothing, and unknown kinds are to be ignored.

    def _widen(self, number: int, more: int) -> None:
        with self._lock:
            if number == 0:
                self._window += more
                widest = self._window
            elif number in self._running or number in self._arriving:
                widest = self._windows.get(number, self._stream_window) + more
                self._windows[number] = widest
            else:
                return
            if not more:
                raise Broken(Code.PROTOCOL_ERROR, "a window that grows by nothing")
            if widest > f.MAX_WINDOW:
                raise Broken(Code.FLOW_CONTROL_ERROR, "a window too wide")
            self._send_waiting()

    def _settle(self, values: list[tuple[int, int]]) -> None:
        with self._lock:
            for name, value in values:
                if name == f.INITIAL_WINDOW_SIZE:
                    if value > f.MAX_WINDOW:
                        raise Broken(Code.FLOW_CONTROL_ERROR, "a window too wide")
                    for number in self._windows:
                        self._windows[number] += value - self._stream_window
                        if self._windows[number] > f.MAX_WINDOW:
                            raise Broken(Code.FLOW_CONTROL_ERROR, "a window too wide")
                    self._stream_window = value
                elif name == f.MAX_FRAME_SIZE:
                    if not f.DEFAULT_FRAME_BYTES <= value <= f.MOST_FRAME_BYTES:
                        raise Broken(Code.PROTOCOL_ERROR, "a frame size that cannot be")
                    self._frame_bytes = value
            self._send(f.frame(f.SETTINGS, f.ACK, 0))
            self._send_waiting()

    # --- answering: any thread ---

    def is_waited_for(self, request: Request) -> bool:
        """The client has not given it up."""
        return request.stream in self._running

    def respond(
        self, request: Request, headers: bytes, body: bytes = b"", trailers: bytes = b""
    ) -> None:
        """Send an answer; without `trailers`, `headers` are all of it. Does nothing when the
        client has gone, or does not want to hear it any more."""
        number = request.stream
        with self._lock:
            if number not in self._running:
                return
            if not trailers:
                self._forget(number)
                self._send(f.frame(f.HEADERS, f.END_HEADERS | f.END_STREAM, number, headers))
                return
            head = f.frame(f.HEADERS, f.END_HEADERS, number, headers)
            end = f.frame(f.HEADERS, f.END_HEADERS | f.END_STREAM, number, trailers)
            size = len(body)
            window = self._windows.get(number, self._stream_window)
            if size <= self._frame_bytes and size <= self._window and size <= window:
                self._window -= size
                self._forget(number)
                self._send(b"".join((head, f.data_head(size, 0, number), body, end)))
                return
            self._send(head)
            self._waiting[number] = memoryview(body), end
            self._send_waiting()

    def _send_waiting(self) -> None:
        """What the windows let through now."""
        for number, (body, end) in list(self._waiting.items()):
            window = self._windows.get(number, self._stream_window)
            out: list[bytes | memoryview] = []
            while body:
                size = min(len(body), self._frame_bytes, self._window, window)
                if size <= 0:
                    break
                out += (f.data_head(size, 0, number), body[:size])
                body = body[size:]
                self._window -= size
                window -= size
            if body:
                self._windows[number] = window
                self._waiting[number] = body, end
            else:
                self._forget(number)
                out.append(end)
            if out:
                self._send(b"".join(out))

    def _forget(self, number: int) -> None:
        with self._lock:
            self._running.discard(number)
            self._windows.pop(number, None)
            self._waiting.pop(number, None)

    def _send(self, data: bytes) -> None:
        try:
            self._sock.sendall(data)
        except OSError:
            # The client has gone, or has not read for a minute: the reading thread ends with this.
            self.close()

    # --- ending ---

    def leave(self) -> None:
        """Take no more requests; those that have arrived are answered."""
        with self._lock:
            self._leaving = True
            self._send(f.goaway(self._last, Code.NO_ERROR))

    @property
    def busy(self) -> bool:
        """Some request has no answer yet."""
        with self._lock:
            return bool(self._running)

    def close(self) -> None:
        """End it now; the reading thread comes back from `serve`."""
        try:
            self._sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

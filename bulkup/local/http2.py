"""One connection of a client: HTTP/2 without encryption, as far as unary calls need it.

gRPC's own server in Python costs a call about 0.2 ms of CPU and three changes of thread, which for
a server on the same machine is most of a small call. Here a thread for each connection reads
frames, and may answer small calls itself. Header blocks are decoded by the `hpack` package.

Nobody waits for a client to read. What its windows do not allow, or its socket does not take, is
kept; it is sent by whoever hears that there is room.
"""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable

from hpack import Decoder, HPACKError

from bulkup.local import frames as f
from bulkup.local.frames import Broken, Code

MAX_STREAMS = 100
"""Calls at once on a connection, as of gRPC's own servers."""
MAX_BODY_BYTES = 64 << 20
"""Well above the 10 MiB that a request may have, so that larger ones are refused in our words."""
_MAX_HEADER_BYTES = 64 << 10
_MAX_CONTINUATIONS = 64
_FRAME_BYTES = 1 << 20
"""As large as we take and send them: a commit of 500 entities is one frame."""
_READ_BYTES = 1 << 16
_UNSENT_BYTES = 1 << 20
"""Of answers that the socket did not take yet; more of them wait as if a window was closed."""
_MAX_UNSENT_BYTES = 4 << 20
"""With all else. A client that asks on and on and does not read is let go."""
_SEND_SECONDS = 60
"""The same for a client whose socket takes nothing for so long."""


class Incoming:
    """What a client sends. Raises OSError as its socket does."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._data = b""
        self._at = 0
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def read(self, size: int) -> bytes:
        """So many bytes; fewer at the end."""
        while len(self._data) - self._at < size:
            missing = size - len(self._data) + self._at
            if missing > _READ_BYTES:
                parts = [self._data[self._at :]]
                while missing and (more := self._sock.recv(min(missing, _FRAME_BYTES))):
                    parts.append(more)
                    missing -= len(more)
                self._data, self._at = b"", 0
                return b"".join(parts)
            more = self._sock.recv(_READ_BYTES)
            self._data = self._data[self._at :] + more
            self._at = 0
            if not more:
                size = len(self._data)
        start = self._at
        self._at += size
        return self._data[start : self._at]

    def line(self, most: int) -> bytes:
        """Up to and with the next line feed, at most so many bytes; less at the end."""
        out = b""
        while len(out) < most and not out.endswith(b"\n") and (byte := self.read(1)):
            out += byte
        return out

    def has_more(self) -> bool:
        """There is something to read already."""
        return self._at < len(self._data) or bool(self._poll.poll(0))


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
        self._lock = threading.RLock()
        """Of all that is below, and of writing to the socket. Nobody waits while holding it."""
        self._decoder = Decoder(max_header_list_size=_MAX_HEADER_BYTES)
        self._arriving: dict[int, Request] = {}
        self._arrived: Request | None = None
        """The last one, as long as what came with it is being read."""
        self._at_work: set[int] = set()
        """Handed out, and not done."""
        self._open: set[int] = set()
        """Streams that have arrived, and whose answer has not been sent or given up."""
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
        """Bodies that were not let through yet, and the trailers after them."""
        self._unsent = bytearray()
        """What the socket did not take."""
        self._sender: threading.Thread | None = None
        """Sends that; there is one as long as there is something."""

    # --- reading: one thread ---

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
                if size > _FRAME_BYTES:
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
                self._send(f.goaway(self._last, broken.code, str(broken)))
        finally:
            with self._lock:  # nobody is left to answer
                self._open.clear()
                self._waiting.clear()
                sender = self._sender
            if sender is not None:
                self.close()
                sender.join()

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
            if len(self._arriving) + len(self._at_work | self._open) >= MAX_STREAMS:
                self._send(f.reset(number, Code.REFUSED_STREAM))
                return False
            self._arriving[number] = request
            return True

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
        elif body:
            request.body.append(body)
        if flags & f.END_STREAM:
            self._end(number)

    def _end(self, number: int) -> None:
        self._arrived = self._arriving.pop(number)
        with self._lock:
            self._at_work.add(number)
            self._open.add(number)

    def _hand_out(self, *, alone: bool) -> None:
        request, self._arrived = self._arrived, None
        if request is not None:
            alone = alone and len(self._at_work) == 1 and not self._arriving
            self._answer(self, request, alone)

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
            elif number in self._open or number in self._arriving:
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
                    self._frame_bytes = min(value, _FRAME_BYTES)
            self._send(f.frame(f.SETTINGS, f.ACK, 0))
            self._send_waiting()

    # --- answering: any thread ---

    def is_waited_for(self, request: Request) -> bool:
        """The client has not given it up."""
        return request.stream in self._open

    def respond(
        self, request: Request, headers: bytes, body: bytes = b"", trailers: bytes = b""
    ) -> None:
        """Send an answer; without `trailers`, `headers` are all of it. Does nothing when the
        client has gone, or does not want to hear it any more."""
        number = request.stream
        with self._lock:
            if number not in self._open:
                return
            if not trailers:
                self._forget(number)
                self._send(f.frame(f.HEADERS, f.END_HEADERS | f.END_STREAM, number, headers))
                return
            head = f.frame(f.HEADERS, f.END_HEADERS, number, headers)
            end = f.frame(f.HEADERS, f.END_HEADERS | f.END_STREAM, number, trailers)
            size = len(body)
            window = self._windows.get(number, self._stream_window)
            if size <= min(self._frame_bytes, self._window, window) and not self._unsent:
                self._window -= size
                self._forget(number)
                self._send(b"".join((head, f.data_head(size, 0, number), body, end)))
                return
            self._send(head)
            self._waiting[number] = memoryview(body), end
            self._send_waiting()

    def done(self, request: Request) -> None:
        """Nobody works at it any more."""
        with self._lock:
            self._at_work.discard(request.stream)

    def _send_waiting(self) -> None:
        """What is let through now."""
        for number, (body, end) in list(self._waiting.items()):
            window = self._windows.get(number, self._stream_window)
            room = _UNSENT_BYTES - len(self._unsent)
            out: list[bytes | memoryview] = []
            while body:
                size = min(len(body), self._frame_bytes, self._window, window, room)
                if size <= 0:
                    break
                out += (f.data_head(size, 0, number), body[:size])
                body = body[size:]
                self._window -= size
                window -= size
                room -= size
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
            self._open.discard(number)
            self._windows.pop(number, None)
            self._waiting.pop(number, None)

    def _send(self, data: bytes) -> None:
        if self._unsent:
            self._unsent += data
            if len(self._unsent) > _MAX_UNSENT_BYTES:
                self.close()
            return
        sent = self._sent(data)
        if sent < len(data):
            self._unsent += memoryview(data)[sent:]
            if self._sender is None:
                self._sender = threading.Thread(target=self._send_unsent, name="send", daemon=True)
                self._sender.start()

    def _sent(self, data: bytes | bytearray) -> int:
        """How much the socket takes at once; all, when there is nobody to read it."""
        try:
            return self._sock.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except OSError:
            self.close()  # and the thread that reads hears it
            return len(data)

    def _send_unsent(self) -> None:
        poll = select.poll()
        poll.register(self._sock, select.POLLOUT)
        while True:
            ready = poll.poll(_SEND_SECONDS * 1000)
            with self._lock:
                if not ready:
                    self.close()
                    self._unsent.clear()
                else:
                    del self._unsent[: self._sent(self._unsent)]
                    self._send_waiting()
                if not self._unsent:
                    self._sender = None
                    return

    # --- ending ---

    def leave(self) -> None:
        """Take no more requests; those that have arrived are answered."""
        with self._lock:
            self._leaving = True
            self._send(f.goaway(self._last, Code.NO_ERROR))

    @property
    def busy(self) -> bool:
        """Some request has no answer yet, or not all of it."""
        return bool(self._open or self._unsent)

    def finish(self) -> None:
        """Send no more; the client, once it has read all, ends it from its side."""
        self._shut(socket.SHUT_WR)

    def close(self) -> None:
        """End it now; the reading thread comes back from `serve`."""
        self._shut(socket.SHUT_RDWR)

    def _shut(self, how: int) -> None:
        try:
            self._sock.shutdown(how)
        except OSError:
            pass  # it has ended by itself

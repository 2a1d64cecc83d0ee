"""What a client is sent: answers, as far as its windows and its socket take them.

Nobody waits for a client to read. What its windows do not allow, or its socket does not take, is
kept; it is sent by whoever hears that there is room.
"""

from __future__ import annotations

import select
import socket
import threading
import time

from bulkup.local import frames as f
from bulkup.local.frames import Broken, Code

FRAME_BYTES = 1 << 20
"""As large as we take and send them: a commit of 500 entities is one frame."""
_UNSENT_BYTES = 1 << 20
"""Of answers that the socket did not take yet; more of them wait as if a window was closed."""
_MAX_UNSENT_BYTES = 4 << 20
"""With all else. A client that asks on and on and does not read is let go."""
_SEND_SECONDS = 60
"""The same for a client whose socket takes nothing for so long."""


class Outgoing:
    """One connection's answers. Any thread may call what is here; `send` and `forget` while it
    holds `lock`, which whoever waits for something must not hold."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self.lock = threading.RLock()
        self._is_idle = threading.Condition(self.lock)
        self.open: set[int] = set()
        """Streams that have arrived, and whose answer has not been sent or given up."""
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

    def respond(self, number: int, headers: bytes, body: bytes, trailers: bytes) -> None:
        """Send a stream's answer, if it is open; without `trailers`, `headers` are all of it."""
        with self.lock:
            if number not in self.open:
                return
            if not trailers:
                self.forget(number)
                self.send(f.frame(f.HEADERS, f.END_HEADERS | f.END_STREAM, number, headers))
                return
            head = f.frame(f.HEADERS, f.END_HEADERS, number, headers)
            end = f.frame(f.HEADERS, f.END_HEADERS | f.END_STREAM, number, trailers)
            size = len(body)
            window = self._windows.get(number, self._stream_window)
            if size <= min(self._frame_bytes, self._window, window) and not self._unsent:
                self._window -= size
                self.forget(number)
                self.send(b"".join((head, f.data_head(size, 0, number), body, end)))
                return
            self.send(head)
            self._waiting[number] = memoryview(body), end
            self._send_waiting()

    def forget(self, number: int) -> None:
        """The stream has its answer, or is given up."""
        self.open.discard(number)
        self._windows.pop(number, None)
        self._waiting.pop(number, None)
        self._see_idle()

    def widen(self, number: int, more: int, *, arriving: bool) -> None:
        """The client takes so much more, on a stream or (0) on all. `arriving`: the stream has
        begun. Raises Broken."""
        with self.lock:
            if number == 0:
                self._window += more
                widest = self._window
            elif arriving or number in self.open:
                widest = self._windows.get(number, self._stream_window) + more
                self._windows[number] = widest
            else:
                return
            if not more:
                raise Broken(Code.PROTOCOL_ERROR, "a window that grows by nothing")
            if widest > f.MAX_WINDOW:
                raise Broken(Code.FLOW_CONTROL_ERROR, "a window too wide")
            self._send_waiting()

    def settle(self, values: list[tuple[int, int]]) -> None:
        """The client's settings. Raises Broken."""
        with self.lock:
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
                    self._frame_bytes = min(value, FRAME_BYTES)
            self.send(f.frame(f.SETTINGS, f.ACK, 0))
            self._send_waiting()

    # --- to the socket ---

    def send(self, data: bytes) -> None:
        """Frames that no window is for."""
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
                self.forget(number)
                out.append(end)
            if out:
                self.send(b"".join(out))

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
            with self.lock:
                if not ready:
                    self.close()
                    self._unsent.clear()
                else:
                    del self._unsent[: self._sent(self._unsent)]
                    self._send_waiting()
                if not self._unsent:
                    self._sender = None
                    self._see_idle()
                    return

    # --- ending ---

    def _see_idle(self) -> None:
        if not self.open and not self._unsent:
            self._is_idle.notify_all()

    def wait(self, until: float) -> None:
        """Until every stream has its answer and all is sent, or that time (time.monotonic)."""
        with self._is_idle:
            while self.open or self._unsent:
                left = until - time.monotonic()
                if left <= 0:
                    return
                self._is_idle.wait(left)

    def drop(self) -> None:
        """Nobody is left to answer. Waits for what is being sent."""
        with self.lock:
            self.open.clear()
            self._waiting.clear()
            self._see_idle()
            sender = self._sender
        if sender is not None:
            self.close()
            sender.join()

    def finish(self) -> None:
        """Send no more; the client, once it has read all, ends it from its side."""
        self._shut(socket.SHUT_WR)

    def close(self) -> None:
        """End the connection now; whoever reads from it hears that."""
        self._shut(socket.SHUT_RDWR)

    def _shut(self, how: int) -> None:
        try:
            self._sock.shutdown(how)
        except OSError:
            pass  # it has ended by itself

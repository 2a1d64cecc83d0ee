"""A client that can stop anywhere: it sends HTTP/2 frames as no gRPC client would."""

from __future__ import annotations

import select
import socket
import struct
import time

DATA, HEADERS, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 4, 6, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
INITIAL_WINDOW_SIZE = 4
DEFAULT_WINDOW = 65_535
FRAME_BYTES = 16_384
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WAIT_S = 30


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">L", len(payload))[1:] + struct.pack(">BBL", kind, flags, stream) + payload


def message_head(size: int) -> bytes:
    """What precedes a gRPC message of `size` bytes."""
    return struct.pack(">BL", 0, size)


def _field(name: bytes, value: bytes) -> bytes:
    """A header field that is not added to a table (RFC 7541, 6.2.2)."""
    return b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value


class RawClient:
    """One connection. `window`: how much of each answer it lets the server send."""

    def __init__(self, port: int, window: int = DEFAULT_WINDOW) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), WAIT_S)
        settings = struct.pack(">HL", INITIAL_WINDOW_SIZE, window)
        self.sock.sendall(PREFACE + frame(SETTINGS, 0, 0, settings))
        self.window = DEFAULT_WINDOW
        """How much the server still accepts on the connection, and on each stream."""
        self.windows: dict[int, int] = {}
        self.first_window = DEFAULT_WINDOW
        self._unread = b""

    def begin(self, path: str) -> int:
        """Send the headers of a call."""
        stream = 2 * len(self.windows) + 1
        self.windows[stream] = self.first_window
        fields = (
            (b":method", b"POST"), (b":scheme", b"http"), (b":path", path.encode()),
            (b":authority", b"localhost"), (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
        )  # fmt: skip
        block = b"".join(_field(name, value) for name, value in fields)
        self.sock.sendall(frame(HEADERS, END_HEADERS, stream, block))
        return stream

    def ask(self, path: str, message: bytes) -> int:
        """A whole call with a small message."""
        stream = self.begin(path)
        data = message_head(len(message)) + message
        self.sock.sendall(frame(DATA, END_STREAM, stream, data))
        return stream

    def send(self, stream: int, data: memoryview) -> int:
        """Send as much of `data` as the server accepts now; returns how much that was."""
        sent = 0
        while True:
            size = min(len(data) - sent, FRAME_BYTES, self.window, self.windows[stream])
            if size <= 0:
                return sent
            self.sock.sendall(frame(DATA, 0, stream, bytes(data[sent : sent + size])))
            self.window -= size
            self.windows[stream] -= size
            sent += size

    def hear(self, seconds: float) -> bool:
        """Read what the server sends within `seconds`; False when it sends nothing."""
        if not select.select([self.sock], [], [], seconds)[0]:
            return False
        more = self.sock.recv(1 << 16)
        assert more, "the server ended the connection"
        self._unread += more
        while len(self._unread) >= 9:
            size = int.from_bytes(self._unread[:3], "big")
            if len(self._unread) < 9 + size:
                break
            kind, flags, stream = struct.unpack(">BBL", self._unread[3:9])
            self._take(kind, flags, stream, self._unread[9 : 9 + size])
            self._unread = self._unread[9 + size :]
        return True

    def hear_until_silent(self, seconds: float = 0.5) -> None:
        until = time.monotonic() + WAIT_S
        while self.hear(seconds) and time.monotonic() < until:
            pass

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE:
            more = int.from_bytes(payload, "big")
            if stream:
                self.windows[stream] = self.windows.get(stream, self.first_window) + more
            else:
                self.window += more
        elif kind == PING and not flags & ACK:
            self.sock.sendall(frame(PING, ACK, 0, payload))
        elif kind == SETTINGS and not flags & ACK:
            for name, value in struct.iter_unpack(">HL", payload):
                if name == INITIAL_WINDOW_SIZE:
                    for number in self.windows:
                        self.windows[number] += value - self.first_window
                    self.first_window = value
            self.sock.sendall(frame(SETTINGS, ACK, 0))

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

"""What a client sends: bytes of its connection, read ahead."""

from __future__ import annotations

import select
import socket

_READ_BYTES = 1 << 16
_RECEIVE_BYTES = 1 << 20
"""At a time, of something that is longer than what is read ahead."""


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
                while missing and (more := self._sock.recv(min(missing, _RECEIVE_BYTES))):
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

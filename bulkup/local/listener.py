"""The port: a thread for each connection, and what is told to a browser."""

from __future__ import annotations

import logging
import os
import select
import socket
import threading
import time
from typing import Any

from bulkup.core.errors import TargetError
from bulkup.local.frames import PREFACE
from bulkup.local.http2 import Answer, Connection
from bulkup.local.incoming import Incoming

_log = logging.getLogger(__name__)

HOST = "127.0.0.1"
_BACKLOG = 4096
"""As many as the system allows: a burst of clients must not wait for their second SYN."""
_GREETING_SECONDS = 10
"""For the first bytes, which tell what a client speaks."""
_LINGER_SECONDS = 0.5
_LINGER_READS = 64
_LINGER_BYTES = 1 << 16
_LINE_BYTES = 8192
_LINES = 100
_FIRST_LINE = PREFACE.splitlines(keepends=True)[0]


class Listener:
    """Listens on this machine alone, from the start; `stop` ends it.

    Raises TargetError when the port cannot be had. `port`: the one that was asked for, or found.
    """

    def __init__(self, port: int, answer: Answer) -> None:
        if not 0 <= port < 1 << 16:
            raise TargetError(f"cannot listen on port {port}: name one from 1 to 65535, or 0")
        self._answer = answer
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((HOST, port))
            self._socket.listen(_BACKLOG)
        except OSError as error:
            self._socket.close()
            raise TargetError(
                f"cannot listen on {HOST}:{port}: the port is in use or not allowed; "
                "name another one, or 0 for any that is free"
            ) from error
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        self._connections: dict[Connection, threading.Thread] = {}
        self._lock = threading.Lock()
        self._wake, self._woken = os.pipe()
        self._thread = threading.Thread(target=self._accept, name="accept", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, grace_s: float) -> None:
        """Take no more calls; give those that are running so long to end."""
        os.write(self._woken, b"\0")
        if self._thread.ident is not None:
            self._thread.join()
        self._socket.close()
        os.close(self._wake)
        os.close(self._woken)
        with self._lock:
            connections = dict(self._connections)
        for connection in connections:
            connection.leave()
        until = time.monotonic() + grace_s
        for connection in connections:
            connection.outgoing.wait(until)
        for connection in connections:
            connection.outgoing.finish()
        until = time.monotonic() + _LINGER_SECONDS
        for connection, thread in connections.items():
            thread.join(max(0, until - time.monotonic()))
            connection.outgoing.close()
            thread.join()

    def _accept(self) -> None:
        heard: list[Any] = [self._socket, self._wake]
        while True:
            ready, _, _ = select.select(heard, [], [])
            if self._wake in ready:
                return
            try:
                while True:
                    sock, _ = self._socket.accept()
                    self._begin(sock)
            except BlockingIOError:
                pass  # these were all
            except OSError as error:
                _log.warning("cannot take a connection: %s", error)
                select.select([self._wake], [], [], 1)

    def _begin(self, sock: socket.socket) -> None:
        try:
            sock.settimeout(_GREETING_SECONDS)
            connection = Connection(sock, self._answer)
            thread = threading.Thread(
                target=self._serve, args=(connection, sock), name="connection", daemon=True
            )
            with self._lock:  # it waits for this, should it end at once
                thread.start()
                self._connections[connection] = thread
        except (OSError, RuntimeError) as error:  # it has gone; or no more threads to be had
            _log.warning("cannot serve a connection: %s", error)
            sock.close()

    def _serve(self, connection: Connection, sock: socket.socket) -> None:
        try:
            with sock:
                incoming = connection.incoming
                first = incoming.read(1)
                if not first.isupper():  # neither HTTP/2 nor HTTP/1: TLS, most likely
                    return
                first += incoming.line(_LINE_BYTES)
                if first != _FIRST_LINE:
                    sock.sendall(_to_browser(first, incoming))
                elif incoming.read(len(PREFACE) - len(first)) == PREFACE[len(first) :]:
                    sock.settimeout(None)
                    connection.serve()
                _linger(sock)
        except OSError:
            pass  # the client has gone, or says nothing
        except Exception:
            _log.exception("a connection failed")
        finally:
            with self._lock:
                del self._connections[connection]


def _linger(sock: socket.socket) -> None:
    """A socket that is closed over unread bytes is reset, and the client may not hear why."""
    sock.shutdown(socket.SHUT_WR)
    sock.settimeout(_LINGER_SECONDS)
    for _ in range(_LINGER_READS):
        if not sock.recv(_LINGER_BYTES):
            break


def _to_browser(first: bytes, incoming: Incoming) -> bytes:
    """The answer to a request of HTTP/1, such as a health check."""
    method, _, rest = first.partition(b" ")
    if not rest.rstrip().endswith((b" HTTP/1.0", b" HTTP/1.1")):
        return b""
    for _ in range(_LINES):
        if not incoming.line(_LINE_BYTES).strip():
            break
    status, body = b"200 OK", b"Ok\n"
    if method not in (b"GET", b"HEAD"):
        status, body = b"405 Method Not Allowed", b"The embedded Datastore speaks gRPC.\n"
    elif rest.split()[0] != b"/":
        status, body = b"404 Not Found", b"The embedded Datastore speaks gRPC.\n"
    head = b"HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n" % (
        status,
        len(body),
    )
    return head + b"Connection: close\r\n\r\n" + (b"" if method == b"HEAD" else body)

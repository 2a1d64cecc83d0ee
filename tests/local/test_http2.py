"""Any client of gRPC can talk to the embedded Datastore's port, and no bytes upset it.

The peer is the h2 package: an implementation of HTTP/2 that shares nothing with ours.
"""

from __future__ import annotations

import gzip
import logging
import os
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import grpc
import h2.config
import h2.connection
import h2.events
import pytest
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkup.local import frames, listener
from bulkup.local import messages as m
from bulkup.local.frames import PREFACE
from bulkup.local.http2 import MAX_BODY_BYTES, MAX_STREAMS
from bulkup.local.listener import Listener
from bulkup.local.server import DatastoreServer
from bulkup.local.status import RpcError
from bulkup.local.unary import Calls
from tests.local.rpc import Rpc, query, unindexed

WAIT_S = 30


class Answers:
    """A port that echoes, multiplies, refuses, and one method that waits until it is let go."""

    def __init__(self) -> None:
        self.stopped = False
        self.go = threading.Event()
        self.waiting = threading.Semaphore(0)
        self.seen: list[bytes] = []
        self.pool = ThreadPoolExecutor(8)
        methods = {b"/echo": self.echo, b"/many": self.many, b"/refuse": self.refuse}
        methods |= {b"/wait": self.wait, b"/bug": self.bug}
        calls = Calls(methods, lambda path: path != b"/wait", self.pool)
        self.listener = Listener(0, calls.answer)
        self.listener.start()
        self.port = self.listener.port

    def stop(self) -> None:
        if not self.stopped:
            self.stopped = True
            self.listener.stop(WAIT_S)
            self.pool.shutdown()

    def echo(self, message: bytes) -> bytes:
        self.seen.append(message)
        return message

    def many(self, message: bytes) -> bytes:
        return message * 1000

    def refuse(self, message: bytes) -> bytes:
        raise RpcError(grpc.StatusCode.ABORTED, message.decode())

    def wait(self, message: bytes) -> bytes:
        self.waiting.release()
        assert self.go.wait(WAIT_S)
        return self.echo(message)

    def bug(self, message: bytes) -> bytes:
        raise ZeroDivisionError


@pytest.fixture
def answers() -> Iterator[Answers]:
    answers = Answers()
    yield answers
    answers.go.set()
    answers.stop()


class Peer:
    """A client whose every step is ours."""

    def __init__(self, port: int, window: int | None = None) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), WAIT_S)
        # Without validation it can be made to send what is not allowed.
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.h2 = h2.connection.H2Connection(config)
        if window is not None:
            self.h2.local_settings[SettingCodes.INITIAL_WINDOW_SIZE] = window
            self.h2.local_settings.acknowledge()
        self.h2.initiate_connection()
        self.events: list[Any] = []
        self.opened = 0
        """As far as windows are open again for what arrived."""
        self.flush()

    def flush(self) -> None:
        self.sock.sendall(self.h2.data_to_send())

    def begin(self, path: str, *, headers: dict[str, str] | None = None) -> int:
        stream: int = self.h2.get_next_available_stream_id()
        named = {
            ":method": "POST",
            ":scheme": "http",
            ":path": path,
            ":authority": "localhost",
            "te": "trailers",
            "content-type": "application/grpc",
            **(headers or {}),
        }
        self.h2.send_headers(stream, list(named.items()))
        return stream

    def send(self, stream: int, message: bytes, *, flag: int = 0) -> None:
        body = bytes((flag,)) + struct.pack(">L", len(message)) + message
        while body:
            size = min(
                len(body),
                self.h2.max_outbound_frame_size,
                self.h2.local_flow_control_window(stream),
            )
            self.h2.send_data(stream, body[:size])
            body = body[size:]
        self.h2.end_stream(stream)
        self.flush()

    def ask(self, path: str, message: bytes, **more: Any) -> int:
        stream = self.begin(path, **more)
        self.send(stream, message)
        return stream

    def until(self, wanted: Callable[[], Any]) -> None:
        while not wanted():
            data = self.sock.recv(1 << 16)
            assert data, "the connection ended"
            self.events += self.h2.receive_data(data)
            self.flush()

    def of(self, kind: Any, stream: int | None = None) -> list[Any]:
        return [
            event
            for event in self.events
            if isinstance(event, kind) and (stream is None or event.stream_id == stream)
        ]

    def body(self, stream: int) -> bytes:
        return b"".join(event.data for event in self.of(h2.events.DataReceived, stream))

    def answer(self, stream: int) -> bytes:
        """The message of an answer; the windows open as it arrives."""
        while not self.of(h2.events.StreamEnded, stream):
            self.open_windows()
            before = len(self.events)
            self.until(partial(self.heard_more_than, before))
        body = self.body(stream)
        assert self.status(stream) == 0
        assert (body[0], struct.unpack(">L", body[1:5])[0]) == (0, len(body) - 5)
        return body[5:]

    def open_windows(self) -> None:
        for event in self.events[self.opened :]:
            if isinstance(event, h2.events.DataReceived):
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        self.opened = len(self.events)
        self.flush()

    def heard_more_than(self, count: int) -> bool:
        return len(self.events) > count

    def trailers(self, stream: int) -> dict[str, str]:
        self.until(lambda: self.of(h2.events.StreamEnded, stream))
        last = (self.of(h2.events.TrailersReceived, stream) or self.of_head(stream))[-1]
        return dict(last.headers)

    def of_head(self, stream: int) -> list[Any]:
        return self.of(h2.events.ResponseReceived, stream)

    def status(self, stream: int) -> int:
        return int(self.trailers(stream)["grpc-status"])

    def ended_with(self) -> int:
        """The code by which the server ends the connection."""
        self.until(lambda: self.of(h2.events.ConnectionTerminated))
        assert self.sock.recv(1) == b""
        return int(self.of(h2.events.ConnectionTerminated)[0].error_code)

    def close(self) -> None:
        self.sock.close()


@pytest.fixture
def peer(answers: Answers) -> Iterator[Peer]:
    peer = Peer(answers.port)
    yield peer
    peer.close()


def test_calls_one_after_the_other_and_at_once(peer: Peer) -> None:
    for size in (0, 1, 100, 5000, 70_000):
        assert peer.answer(peer.ask("/echo", b"x" * size)) == b"x" * size
    streams = [peer.ask("/many", b"%03d" % number) for number in range(90)]
    for number, stream in enumerate(streams):
        assert peer.answer(stream) == b"%03d" % number * 1000


def test_a_slow_call_holds_up_no_other(answers: Answers, peer: Peer) -> None:
    slow = peer.ask("/wait", b"slow")
    assert answers.waiting.acquire(timeout=WAIT_S)
    assert peer.answer(peer.ask("/echo", b"quick")) == b"quick"
    assert answers.seen == [b"quick"]
    answers.go.set()
    assert peer.answer(slow) == b"slow"


@pytest.mark.parametrize("window", [0, 1, 1000, 100_000])
def test_no_more_is_sent_than_the_client_s_windows_allow(answers: Answers, window: int) -> None:
    peer = Peer(answers.port, window)
    first, second = peer.ask("/many", b"a" * 200), peer.ask("/many", b"b" * 200)
    # h2 raises FlowControlError where a window is overstepped.
    peer.until(lambda: peer.of_head(first) and peer.of_head(second))
    peer.h2.ping(b"12345678")
    peer.flush()
    peer.until(lambda: peer.of(h2.events.PingAckReceived))
    allowed = min(window, 200_005)
    arrived = len(peer.body(first)), len(peer.body(second))
    assert arrived[0] == min(allowed, 65_535)
    assert arrived[0] + arrived[1] == min(2 * allowed, 65_535)
    if window < 1000:  # h2 opens a stream's window by itself once half of it is used
        for stream in (second, first):
            peer.h2.increment_flow_control_window(200_005, stream)
    peer.h2.increment_flow_control_window(500_000)
    peer.flush()
    assert peer.answer(second) == b"b" * 200_000
    assert peer.answer(first) == b"a" * 200_000
    peer.close()


def test_a_client_may_widen_all_windows_and_take_them_back(answers: Answers) -> None:
    peer = Peer(answers.port, 100)
    stream = peer.ask("/many", b"a" * 50)
    peer.until(lambda: len(peer.body(stream)) == 100)
    for size in (50, 40_000, 10, 60_000):
        peer.h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: size})
        peer.flush()
        peer.until(partial(peer.heard_more_than, len(peer.events)))
    assert peer.answer(stream) == b"a" * 50_000
    peer.close()


def test_a_window_opened_before_the_request_is_whole_counts(answers: Answers) -> None:
    peer = Peer(answers.port, 10)
    stream = peer.begin("/many")
    peer.h2.increment_flow_control_window(1000, stream)
    peer.flush()
    peer.send(stream, b"ab")
    peer.until(lambda: len(peer.body(stream)) == 1010)
    assert not peer.of(h2.events.StreamEnded, stream)
    peer.close()


def test_an_answer_nobody_wants_is_not_sent(answers: Answers, peer: Peer) -> None:
    unwanted = peer.ask("/wait", b"unwanted")
    assert answers.waiting.acquire(timeout=WAIT_S)
    peer.h2.reset_stream(unwanted, ErrorCodes.CANCEL)
    waiting = [peer.ask("/wait", b"%d" % number) for number in range(7)]
    for _ in waiting:
        assert answers.waiting.acquire(timeout=WAIT_S)
    # All of the pool are at work: this one waits for its turn, and loses it.
    late = peer.ask("/wait", b"late")
    peer.h2.reset_stream(late, ErrorCodes.CANCEL)
    peer.h2.ping(b"12345678")
    peer.flush()
    peer.until(lambda: peer.of(h2.events.PingAckReceived))
    answers.go.set()
    for stream in waiting:
        peer.answer(stream)
    assert peer.answer(peer.ask("/wait", b"last")) == b"last"
    assert not peer.body(unwanted)
    assert b"unwanted" in answers.seen
    assert b"late" not in answers.seen


def test_more_calls_at_once_than_promised_are_refused(answers: Answers, peer: Peer) -> None:
    streams = [peer.ask("/wait", b"") for _ in range(MAX_STREAMS)]
    peer.until(lambda: peer.of(h2.events.RemoteSettingsChanged))
    peer.h2.remote_settings[SettingCodes.MAX_CONCURRENT_STREAMS] = MAX_STREAMS + 1
    peer.h2.remote_settings.acknowledge()
    too_many = peer.ask("/wait", b"")
    peer.until(lambda: peer.of(h2.events.StreamReset, too_many))
    assert peer.of(h2.events.StreamReset)[0].error_code == ErrorCodes.REFUSED_STREAM
    answers.go.set()
    for stream in streams:
        assert peer.answer(stream) == b""
    assert peer.answer(peer.ask("/echo", b"again")) == b"again"


def test_what_was_given_up_meanwhile_is_not_done(answers: Answers, peer: Peer) -> None:
    """All come at once, and with them that nobody waits for them: the thread that reads has to
    hear it before any is done."""
    waiting = [peer.ask("/wait", b"") for _ in range(8)]  # all of the pool are at work
    for _ in waiting:
        assert answers.waiting.acquire(timeout=WAIT_S)
    storm = []
    for number in range(50):
        stream = peer.begin("/echo")
        peer.h2.send_data(stream, b"\0\0\0\0\2%02d" % number, end_stream=True)
        peer.h2.reset_stream(stream, ErrorCodes.CANCEL)
        storm.append(stream)
    peer.h2.ping(b"12345678")
    peer.flush()
    peer.until(lambda: peer.of(h2.events.PingAckReceived))
    answers.go.set()
    for stream in waiting:
        assert peer.answer(stream) == b""
    assert peer.answer(peer.ask("/echo", b"next")) == b"next"
    assert answers.seen.count(b"") == len(waiting)
    assert len(answers.seen) == len(waiting) + 1


def test_a_call_that_was_reset_counts_until_nobody_works_at_it(
    answers: Answers, peer: Peer
) -> None:
    working = [peer.ask("/wait", b"") for _ in range(8)]
    for _ in working:
        assert answers.waiting.acquire(timeout=WAIT_S)
    for stream in working + [peer.ask("/wait", b"") for _ in range(MAX_STREAMS - 8)]:
        peer.h2.reset_stream(stream, ErrorCodes.CANCEL)
    refused = peer.ask("/wait", b"")
    peer.until(lambda: peer.of(h2.events.StreamReset, refused))
    answers.go.set()
    while not _is_answered(peer):
        pass
    assert not answers.waiting.acquire(blocking=False)  # the others were never begun


def _is_answered(peer: Peer) -> bool:
    """Or refused, as long as those before are at work."""
    stream = peer.ask("/echo", b"")
    peer.until(
        lambda: peer.of(h2.events.StreamEnded, stream) or peer.of(h2.events.StreamReset, stream)
    )
    return bool(peer.of(h2.events.StreamEnded, stream))


def test_a_client_that_does_not_read_holds_up_nobody(answers: Answers) -> None:
    deaf = [Peer(answers.port, 1 << 30) for _ in range(3)]
    for peer in deaf:
        peer.h2.increment_flow_control_window(1 << 30)
        for _ in range(20):
            peer.ask("/many", bytes(2000))
        # And one that goes on asking.
        for _ in range(200):
            peer.h2.ping(b"12345678")
        peer.flush()
    other = Peer(answers.port)
    for _ in range(20):
        assert other.answer(other.ask("/many", b"x" * 100)) == b"x" * 100_000
    for number, peer in enumerate(deaf):
        if number:
            assert peer.answer(1) == bytes(2_000_000)
            assert peer.answer(39) == bytes(2_000_000)
    other.close()
    # One has not read anything yet; it is waited for, and then not.
    began = time.monotonic()
    answers.listener.stop(0.5)
    answers.stopped = True
    assert time.monotonic() - began < WAIT_S
    for peer in deaf:
        peer.close()


def test_a_client_that_asks_and_never_reads_is_let_go(answers: Answers) -> None:
    peer = Peer(answers.port)
    peer.sock.settimeout(WAIT_S)
    pings = raw(frames.PING, 0, 0, b"12345678") * 1_000_000
    with pytest.raises(ConnectionError):
        peer.sock.sendall(pings)
    peer.close()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "plain",
        " blanks around ",
        " " * 5000 + "x",
        "100 % ünï\ncödé\x00",
        "x" * 3000,
        "ü" * 3000,
    ],
)
def test_a_status_carries_its_message(peer: Peer, text: str) -> None:
    trailers = peer.trailers(peer.ask("/refuse", text.encode()))
    assert int(trailers["grpc-status"]) == grpc.StatusCode.ABORTED.value[0]
    assert len(trailers["grpc-message"]) <= 4000
    message, text = unquote(trailers["grpc-message"]), text.strip()
    assert text.startswith(message)
    assert message == text or len(message) > 400


@pytest.mark.parametrize(
    ("encoding", "data", "code"),
    [
        ("gzip", gzip.compress(b"message"), 0),
        ("deflate", zlib.compress(b"message"), 0),
        ("br", b"message", 12),
        ("gzip", b"not gzip", 13),
        ("gzip", gzip.compress(b"message")[:-9], 8),
        ("gzip", gzip.compress(bytes(MAX_BODY_BYTES + 1)), 8),
    ],
    ids=["gzip", "deflate", "unknown", "damaged", "cut off", "a bomb"],
)
def test_a_compressed_request(peer: Peer, encoding: str, data: bytes, code: int) -> None:
    stream = peer.begin("/echo", headers={"grpc-encoding": encoding})
    peer.send(stream, data, flag=1)
    if code:
        assert peer.status(stream) == code
    else:
        assert peer.answer(stream) == b"message"


def test_what_is_no_call_of_ours_is_said(peer: Peer) -> None:
    assert peer.status(peer.ask("/nowhere", b"")) == 12
    stream = peer.ask("/echo", b"", headers={"content-type": "text/html"})
    assert peer.trailers(stream) == {":status": "415"}
    for body in (b"", b"\0\0\0", b"\0\0\0\0\5four", b"\0\0\0\0\1two"):
        stream = peer.begin("/echo")
        peer.h2.send_data(stream, body, end_stream=True)
        peer.flush()
        assert peer.status(stream) == 13
    assert peer.answer(peer.ask("/echo", b"fine")) == b"fine"


def test_a_body_too_large_is_refused_and_not_kept(answers: Answers, peer: Peer) -> None:
    peer.until(lambda: peer.of(h2.events.RemoteSettingsChanged))
    assert peer.status(peer.ask("/echo", bytes(MAX_BODY_BYTES + 1))) == 8
    assert not answers.seen
    assert peer.answer(peer.ask("/echo", b"fine")) == b"fine"


def test_padding_priorities_trailers_and_continued_headers(answers: Answers, peer: Peer) -> None:
    peer.h2.prioritize(7)
    stream = peer.begin("/echo", headers={"x-long": "x" * 40_000})  # three frames
    peer.h2.send_data(stream, b"\0\0\0\0\6pad", pad_length=200)
    peer.h2.send_data(stream, b"ded")
    peer.h2.send_headers(stream, [("x-trailer", "1")], end_stream=True)
    peer.flush()
    assert peer.answer(stream) == b"padded"


def test_a_bug_ends_the_connection_and_is_logged(
    answers: Answers, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    peer.ask("/bug", b"")
    with pytest.raises((AssertionError, ConnectionError)):
        peer.until(lambda: False)
    assert "ZeroDivisionError" in caplog.text
    other = Peer(answers.port)
    assert other.answer(other.ask("/echo", b"fine")) == b"fine"
    other.close()


def raw(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return frames.frame(kind, flags, stream, payload)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (raw(frames.HEADERS, 4, 2, b"\x82"), ErrorCodes.PROTOCOL_ERROR),
        (raw(frames.HEADERS, 4, 0, b"\x82"), ErrorCodes.PROTOCOL_ERROR),
        (raw(frames.HEADERS, 4, 1, b"\xff\xff\xff\xff"), ErrorCodes.COMPRESSION_ERROR),
        (raw(frames.HEADERS, 4, 1, b"\xbf"), ErrorCodes.COMPRESSION_ERROR),
        (raw(frames.HEADERS, 4 | 8, 1, b"\x09\x82"), ErrorCodes.PROTOCOL_ERROR),
        (raw(frames.HEADERS, 4 | 8, 1), ErrorCodes.FRAME_SIZE_ERROR),
        (raw(frames.HEADERS, 4 | 32, 1, b"\0"), ErrorCodes.PROTOCOL_ERROR),
        (raw(frames.HEADERS, 0, 1, b"\x82") + raw(6, 0, 0, bytes(8)), ErrorCodes.PROTOCOL_ERROR),
        (
            raw(frames.HEADERS, 0, 1, b"\x82") + raw(9, 0, 1, bytes(16_000)) * 5,
            ErrorCodes.ENHANCE_YOUR_CALM,
        ),
        (raw(frames.HEADERS, 4, 1, b"\x82") * 2, ErrorCodes.PROTOCOL_ERROR),
        (raw(frames.DATA, 1, 1, b"x"), ErrorCodes.PROTOCOL_ERROR),
        (raw(frames.DATA, 1, 0, b"x"), ErrorCodes.PROTOCOL_ERROR),
        (raw(frames.CONTINUATION, 4, 1, b"x"), ErrorCodes.PROTOCOL_ERROR),
        (raw(frames.PUSH_PROMISE, 4, 1, b"x"), ErrorCodes.PROTOCOL_ERROR),
        (raw(frames.RST_STREAM, 0, 1, bytes(4)), ErrorCodes.PROTOCOL_ERROR),
        (raw(frames.PING, 0, 0, b"short"), ErrorCodes.FRAME_SIZE_ERROR),
        (raw(frames.PING, 0, 1, bytes(8)), ErrorCodes.PROTOCOL_ERROR),
        (raw(frames.SETTINGS, 0, 0, b"short"), ErrorCodes.FRAME_SIZE_ERROR),
        (frames.settings({frames.INITIAL_WINDOW_SIZE: 1 << 31}), ErrorCodes.FLOW_CONTROL_ERROR),
        (frames.settings({frames.MAX_FRAME_SIZE: 1}), ErrorCodes.PROTOCOL_ERROR),
        (raw(frames.WINDOW_UPDATE, 0, 0, b"\0\0\0\0"), ErrorCodes.PROTOCOL_ERROR),
        (raw(frames.WINDOW_UPDATE, 0, 0, b"\0"), ErrorCodes.FRAME_SIZE_ERROR),
        (raw(frames.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff"), ErrorCodes.FLOW_CONTROL_ERROR),
        (b"\xff\xff\xff\0\0\0\0\0\1", ErrorCodes.FRAME_SIZE_ERROR),
    ],
)
def test_a_client_that_does_not_keep_to_the_protocol_is_told(
    answers: Answers, peer: Peer, data: bytes, code: ErrorCodes
) -> None:
    peer.sock.sendall(data)
    assert peer.ended_with() == code
    other = Peer(answers.port)
    assert other.answer(other.ask("/echo", b"fine")) == b"fine"
    other.close()


def test_frames_of_kinds_that_nobody_knows_are_ignored(peer: Peer) -> None:
    peer.sock.sendall(raw(77, 255, 5, b"what") + raw(frames.GOAWAY, 0, 0, bytes(8)))
    assert peer.answer(peer.ask("/echo", b"fine")) == b"fine"


def _exchange(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), WAIT_S) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        out = b""
        try:
            while more := sock.recv(1 << 16):
                out += more
        except ConnectionResetError:
            pass  # it was ended while we still sent
        return out


_frames = st.lists(
    st.builds(
        raw, st.integers(0, 12), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=60)
    )
).map(b"".join)


@pytest.fixture(scope="module")
def one_port() -> Iterator[tuple[int, list[str]]]:
    """A port, and what is logged by who serves it."""
    answers = Answers()
    answers.go.set()
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    keep, log = Keep(), logging.getLogger("bulkup.local")
    log.addHandler(keep)
    yield answers.port, lines
    log.removeHandler(keep)
    answers.stop()


@settings(max_examples=300, deadline=None)
@given(data=st.one_of(st.binary(max_size=200), _frames, _frames.map(lambda d: PREFACE + d)))
def test_no_bytes_upset_it(one_port: tuple[int, list[str]], data: bytes) -> None:
    port, logged = one_port
    _exchange(port, data)
    peer = Peer(port)
    assert peer.answer(peer.ask("/echo", b"fine")) == b"fine"
    peer.close()
    assert logged == []


def test_calls_that_arrived_are_answered_before_the_port_closes(answers: Answers) -> None:
    peer = Peer(answers.port)
    slow = peer.ask("/wait", b"slow")
    assert answers.waiting.acquire(timeout=WAIT_S)
    stopping = threading.Thread(target=answers.stop)
    stopping.start()
    peer.until(lambda: peer.of(h2.events.ConnectionTerminated))
    assert peer.of(h2.events.ConnectionTerminated)[0].last_stream_id == slow
    # What comes later is not answered, and the client knows by the number above that it was not.
    block = peer.h2.encoder.encode([(":path", "/echo")])
    peer.sock.sendall(raw(frames.HEADERS, 4, slow + 2, block) + raw(frames.DATA, 1, slow + 2, b"x"))
    answers.go.set()
    ended = b""
    while more := peer.sock.recv(1 << 16):
        ended += more
    assert b"slow" in ended
    assert answers.seen == [b"slow"]
    stopping.join(WAIT_S)
    assert not stopping.is_alive()
    peer.close()


@pytest.mark.parametrize(
    "hello", [b"\x16\x03\x01\x02\x00\x01\x00", b"SSH-2.0-OpenSSH\r\n", b"nonsense"]
)
def test_what_speaks_something_else_is_hung_up_on(answers: Answers, hello: bytes) -> None:
    with socket.create_connection(("127.0.0.1", answers.port), WAIT_S) as sock:
        sock.sendall(hello)
        assert sock.recv(1) == b""


def test_who_says_nothing_is_hung_up_on(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "_GREETING_SECONDS", 0.2)
    for hello in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n", PREFACE[:-1]):
        with socket.create_connection(("127.0.0.1", answers.port), WAIT_S) as sock:
            sock.sendall(hello)
            assert sock.recv(1) == b""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatastoreServer]:
    with DatastoreServer(tmp_path_factory.mktemp("local") / "db") as server:
        yield server


def _get(url: str, method: str = "GET") -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method)) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_a_browser_or_a_health_check_gets_an_answer(server: DatastoreServer) -> None:
    url = f"http://{server.host}"
    assert _get(f"{url}/") == (200, b"Ok\n")
    assert _get(f"{url}/", "HEAD") == (200, b"")
    assert _get(f"{url}/elsewhere")[0] == 404
    assert _get(f"{url}/", "DELETE")[0] == 405


@pytest.mark.parametrize("encoding", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_clients_that_compress(server: DatastoreServer, encoding: Any) -> None:
    rpc = Rpc(server.host)
    rpc.put(rpc.entity("Compressed", 1, text="x" * 1000))
    channel = grpc.insecure_channel(server.host, compression=encoding)
    call: Any = channel.unary_unary("/google.datastore.v1.Datastore/RunQuery")
    request = m.RunQueryRequest(project_id="p", query=query("Compressed"))
    request.partition_id.project_id = "p"
    answer = m.RunQueryResponse.FromString(call(request.SerializeToString()))
    assert answer.batch.entity_results == rpc.run(query("Compressed")).entity_results
    assert len(answer.batch.entity_results) == 1
    channel.close()
    rpc.close()


def test_many_threads_on_one_channel(server: DatastoreServer) -> None:
    rpc = Rpc(server.host)

    def work(number: int) -> None:
        for turn in range(20):
            key = number * 100 + turn + 1
            rpc.put(rpc.entity("Busy", key, n=key, text=unindexed("x" * 3000 * (turn % 3))))
            assert len(rpc.all(query("Busy"))) >= turn

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert len(rpc.all(query("Busy"))) == 320
    rpc.close()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts in /proc")
def test_clients_that_come_and_go_leave_nothing_behind(server: DatastoreServer) -> None:
    call = m.LookupRequest(project_id="p", keys=[m.Key(path=[{"kind": "K", "id": 1}])])
    counts = []
    for number in range(60):
        peer = Peer(server.port)
        for name in ("Lookup", "Lookup", "BeginTransaction"):
            message = call if name == "Lookup" else m.BeginTransactionRequest(project_id="p")
            stream = peer.ask(f"/google.datastore.v1.Datastore/{name}", message.SerializeToString())
            peer.answer(stream)
        peer.sock.shutdown(socket.SHUT_WR)
        assert peer.sock.recv(1) == b""
        peer.close()
        if number >= 10:
            counts.append(len(os.listdir("/proc/self/fd")))
    assert max(counts) <= min(counts) + 3  # the last one or two are just being closed


def test_stopping_twice_is_stopping_once(tmp_path: Path) -> None:
    server = DatastoreServer(tmp_path / "db")
    server.stop()
    files = [open(tmp_path / f"{number}", "wb") for number in range(20)]  # noqa: SIM115
    server.stop()
    for file in files:
        file.close()
    assert all((tmp_path / f"{number}").stat().st_size == 0 for number in range(20))

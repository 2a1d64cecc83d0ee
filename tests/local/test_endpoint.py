"""Any gRPC client can talk to the endpoint, and no client can make it use much memory."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import select
import socket
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkup.core.errors import TargetError
from bulkup.local import endpoint
from bulkup.local import messages as m
from bulkup.local.endpoint import (
    HOST,
    MAX_REQUEST_BYTES,
    MAX_STREAMS,
    THREADS,
    Endpoint,
)
from bulkup.local.process import start_local
from bulkup.local.server import DatastoreServer
from bulkup.local.status import RpcError
from tests.local.raw_http2 import PREFACE, RawClient, frame, message_head
from tests.local.rpc import Rpc, query, unindexed

pytestmark = pytest.mark.sampled(2)

WAIT_S = 30
COMMIT = "/google.datastore.v1.Datastore/Commit"


class Service:
    """An endpoint that echoes, multiplies, refuses, fails, and one method that waits for `go`."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.waiting = threading.Semaphore(0)
        self.seen: list[bytes] = []
        methods = {"Echo": self.echo, "Many": self.many, "Refuse": self.refuse}
        methods |= {"Wait": self.wait, "Bug": self.bug}
        self.endpoint = Endpoint(0, "test.Service", methods)
        self.port = self.endpoint.port

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

    def stop(self) -> None:
        self.endpoint.stop(WAIT_S)


class Client:
    def __init__(self, port: int, **options: Any) -> None:
        self.channel = grpc.insecure_channel(
            f"{HOST}:{port}",
            options=[
                ("grpc.max_receive_message_length", -1),
                ("grpc.use_local_subchannel_pool", 1),
            ],
            **options,
        )

    def start(self, method: str, message: bytes, timeout: float = WAIT_S) -> Any:
        call = self.channel.unary_unary(f"/test.Service/{method}")
        return call.future(message, timeout=timeout)

    def ask(self, method: str, message: bytes) -> bytes:
        answer: bytes = self.start(method, message).result()
        return answer

    def refused(self, method: str, message: bytes) -> tuple[grpc.StatusCode, str]:
        with pytest.raises(grpc.RpcError) as caught:
            self.ask(method, message)
        return caught.value.code(), caught.value.details()


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.go.set()
    service.stop()


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    client = Client(service.port)
    with client.channel:
        yield client


@pytest.mark.parametrize(
    "text", ["", "simple", "100 % ünï\ncödé\x00", "x" * 3000, "ü" * 3000, " " * 5000 + "x"]
)
def test_a_status_carries_its_message(client: Client, text: str) -> None:
    code, details = client.refused("Refuse", text.encode())
    assert code == grpc.StatusCode.ABORTED
    assert text.startswith(details)
    assert details == text or len(details) > 400


def test_a_method_that_does_not_exist_is_unimplemented(client: Client) -> None:
    assert client.refused("Nothing", b"")[0] == grpc.StatusCode.UNIMPLEMENTED


def test_a_bug_is_logged_and_harms_no_other_call(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    assert client.refused("Bug", b"")[0] == grpc.StatusCode.UNKNOWN
    assert "ZeroDivisionError" in caplog.text
    assert client.ask("Echo", b"fine") == b"fine"


def test_a_call_without_a_request_is_refused(service: Service) -> None:
    with grpc.insecure_channel(f"{HOST}:{service.port}") as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.stream_unary("/test.Service/Echo")(iter(()), timeout=WAIT_S)
        assert caught.value.code() == grpc.StatusCode.INTERNAL
    assert service.seen == []


def test_a_request_that_is_too_large_reaches_no_method(service: Service, client: Client) -> None:
    code, details = client.refused("Echo", bytes(MAX_REQUEST_BYTES + 1))
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "larger than max" in details
    assert service.seen == []
    assert client.ask("Echo", b"fine") == b"fine"


def test_a_compression_bomb_reaches_no_method(service: Service) -> None:
    client = Client(service.port, compression=grpc.Compression.Gzip)
    with client.channel:
        code, _ = client.refused("Echo", bytes(2 * MAX_REQUEST_BYTES))
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert service.seen == []


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_clients_that_compress_are_understood(service: Service, compression: Any) -> None:
    client = Client(service.port, compression=compression)
    with client.channel:
        assert client.ask("Echo", b"x" * 10_000) == b"x" * 10_000


def test_calls_that_were_cancelled_or_have_expired_are_not_executed(
    service: Service, client: Client
) -> None:
    executing = [client.start("Wait", b"executing") for _ in range(THREADS)]
    for _ in executing:
        assert service.waiting.acquire(timeout=WAIT_S)
    cancelled = [client.start("Echo", b"cancelled") for _ in range(10)]
    expired = [client.start("Echo", b"expired", 0.2) for _ in range(10)]
    for call in cancelled:
        call.cancel()
    for call in expired:
        assert call.exception().code() == grpc.StatusCode.DEADLINE_EXCEEDED
    last = client.start("Echo", b"last")
    service.go.set()
    assert last.result() == b"last"
    assert [call.result() for call in executing] == [b"executing"] * THREADS
    assert b"cancelled" not in service.seen
    assert b"expired" not in service.seen


def test_a_client_with_more_calls_than_streams_waits(service: Service, client: Client) -> None:
    calls = [client.start("Wait", b"") for _ in range(3 * MAX_STREAMS)]
    service.go.set()
    assert [call.result() for call in calls] == [b""] * len(calls)


def test_calls_above_the_limit_of_all_connections_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(endpoint, "MAX_CALLS", 20)
    service = Service()
    clients = [Client(service.port) for _ in range(2)]
    calls = [client.start("Wait", b"") for client in clients for _ in range(20)]
    ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
    for call in calls:
        call.add_done_callback(ended.put)
    for _ in range(20):  # the others are waiting
        assert ended.get(timeout=WAIT_S).code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    service.go.set()
    for _ in range(20):
        assert ended.get(timeout=WAIT_S).result() == b""
    assert clients[0].ask("Echo", b"fine") == b"fine"
    for client in clients:
        client.channel.close()
    service.stop()


def test_calls_in_progress_are_answered_before_the_endpoint_stops(
    service: Service, client: Client
) -> None:
    call = client.start("Wait", b"slow")
    assert service.waiting.acquire(timeout=WAIT_S)
    stopping = threading.Thread(target=service.stop)
    stopping.start()
    late = Client(service.port)
    with late.channel:
        while _is_accepted(late):
            pass
    assert not call.done()
    service.go.set()
    assert call.result() == b"slow"
    stopping.join(WAIT_S)
    assert not stopping.is_alive()


def _is_accepted(client: Client) -> bool:
    return client.start("Echo", b"late").exception() is None


def test_an_idle_endpoint_stops_at_once(service: Service, client: Client) -> None:
    assert client.ask("Echo", b"fine") == b"fine"
    began = time.monotonic()
    service.stop()
    assert time.monotonic() - began < WAIT_S / 3


def test_a_port_is_served_once(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        with pytest.raises(TargetError, match=f"cannot listen on {HOST}:{service.port}"):
            Endpoint(service.port, "test.Service", {})
        # Even if somebody takes the port right after it was tried.
        monkeypatch.setattr(endpoint, "_check_port", lambda port: None)


def test_only_the_loopback_address_is_served(service: Service) -> None:
    with contextlib.closing(socket.create_connection((HOST, service.port), WAIT_S)):
        pass
    # Another address of this machine, which a server on all addresses would answer at.
    with pytest.raises(OSError, match=r"refused|assign"):
        socket.create_connection(("127.0.0.2", service.port), WAIT_S)


def test_half_sent_requests_do_not_block_others_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "STALLED_SECONDS", 0.5)
    service = Service()
    client = Client(service.port)
    with RawClient(service.port) as raw, client.channel:
        for _ in range(2 * THREADS):
            raw.send(raw.begin("/test.Service/Echo"), memoryview(message_head(100) + b"half"))
        assert client.ask("Echo", b"whole") == b"whole"
    assert service.seen == [b"whole"]
    service.stop()


def test_unread_answers_are_bounded_and_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(endpoint, "STALLED_SECONDS", 1)
    monkeypatch.setattr(endpoint, "MAX_UNREAD_BYTES", 10_000_000)
    service = Service()
    client = Client(service.port)
    with RawClient(service.port, window=0) as deaf, client.channel:
        # Small answers that are not read do not matter.
        for _ in range(5):
            deaf.ask("/test.Service/Many", bytes(60))
        assert client.ask("Many", b"x") == b"x" * 1000
        for _ in range(8):
            deaf.ask("/test.Service/Many", bytes(2000))
        while client.start("Many", b"x").exception() is None:
            pass
        code, details = client.refused("Many", b"x")
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "not read" in details
        while client.start("Many", b"x").exception() is not None:
            pass
    service.stop()
    assert service.endpoint._stalled.unread_bytes == 0


def _memory_mib(pid: int) -> int:
    """The peak resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) >> 10


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_hundreds_of_half_sent_requests_take_bounded_memory(tmp_path: Path) -> None:
    size = MAX_REQUEST_BYTES - 100
    whole = memoryview(message_head(size) + bytes(size - 1))
    with start_local(tmp_path / "db") as server, contextlib.ExitStack() as closing:
        before = _memory_mib(server.pid)
        port = int(server.host.split(":")[1])
        clients = [closing.enter_context(RawClient(port)) for _ in range(3)]
        sent = {}
        for client in clients:
            client.hear_until_silent(0.1)
            for _ in range(MAX_STREAMS):
                sent[client, client.begin(COMMIT)] = 0
        going_on = True
        while going_on:
            for (client, stream), at in sent.items():
                sent[client, stream] += client.send(stream, whole[at : at + (1 << 20)])
            going_on = _is_heard(clients)
        largest = max(sent.values())
        assert largest == len(whole)  # the server accepts whole requests except for their last byte
        grown = _memory_mib(server.pid) - before
        bound = THREADS * MAX_REQUEST_BYTES + len(sent) * (64 << 10)
        assert grown < 1.5 * bound / (1 << 20)
        closing.close()
        rpc = Rpc(server.host)
        rpc.put(rpc.entity("K", 1))
        rpc.close()


def _is_heard(clients: list[RawClient]) -> bool:
    """Read what the server has sent to any client; False once it sends nothing more."""
    select.select([client.sock for client in clients], [], [], 0.5)
    return max(client.hear(0) for client in clients)


def _exchange(port: int, data: bytes) -> None:
    with socket.create_connection((HOST, port), WAIT_S) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        try:
            while sock.recv(1 << 16):
                pass
        except ConnectionResetError:
            pass  # the server ended it while we still sent


_frames = st.lists(
    st.builds(
        frame, st.integers(0, 12), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=60)
    )
).map(b"".join)


@pytest.fixture(scope="module")
def one_service() -> Iterator[tuple[Service, Client, list[str]]]:
    """A service, a client, and the messages that are logged meanwhile."""
    service = Service()
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    keep = Keep()
    logging.getLogger().addHandler(keep)
    client = Client(service.port)
    with client.channel:
        yield service, client, lines
    logging.getLogger().removeHandler(keep)
    service.stop()


@settings(max_examples=60, deadline=None)
@given(data=st.one_of(st.binary(max_size=200), _frames, _frames.map(lambda d: PREFACE + d)))
def test_no_bytes_from_a_client_disturb_the_others(
    one_service: tuple[Service, Client, list[str]], data: bytes
) -> None:
    service, client, logged = one_service
    _exchange(service.port, data)
    assert client.ask("Echo", b"fine") == b"fine"
    assert logged == []


# --- with the Datastore behind it ---


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DatastoreServer]:
    with DatastoreServer(tmp_path_factory.mktemp("local") / "db") as server:
        yield server


def test_large_answers_come_as_fast_at_the_end_as_at_the_beginning(server: DatastoreServer) -> None:
    """A server whose flow control gets in the way of a client's bandwidth probe slows down by two
    orders of magnitude in 40 answers."""
    rpc = Rpc(server.host)
    text = unindexed("x" * 39_000)
    rpc.put(*(rpc.entity("Large", number, text=text) for number in range(1, 40)))
    rpc.close()
    request = m.RunQueryRequest(project_id="p", query=query("Large"))
    request.partition_id.project_id = "p"
    raw = request.SerializeToString()
    took = []
    with grpc.insecure_channel(server.host) as channel:  # default options, as the official client
        run_query = channel.unary_unary("/google.datastore.v1.Datastore/RunQuery")
        for _ in range(40):
            began = time.perf_counter()
            assert len(run_query(raw, timeout=WAIT_S)) > 1_500_000
            took.append(time.perf_counter() - began)
    assert statistics.median(took[-10:]) < 10 * statistics.median(took[:10])


def test_many_threads_on_one_channel(server: DatastoreServer) -> None:
    rpc = Rpc(server.host)

    def work(number: int) -> None:
        for turn in range(8):
            key = number * 100 + turn + 1
            rpc.put(rpc.entity("Busy", key, n=key, text=unindexed("x" * 3000 * (turn % 3))))
            assert len(rpc.all(query("Busy"))) >= turn

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(16)))
    assert len(rpc.all(query("Busy"))) == 16 * 8
    rpc.close()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts in /proc")
def test_clients_that_come_and_go_leave_nothing_behind(service: Service) -> None:
    counts = []
    for number in range(60):
        with RawClient(service.port) as raw:
            raw.ask("/test.Service/Echo", b"x")
            raw.hear_until_silent(0.02)
        if number >= 10:
            counts.append(len(os.listdir("/proc/self/fd")))
    assert max(counts) <= min(counts) + 5  # the last ones are just being closed


def test_stopping_twice_is_stopping_once(tmp_path: Path) -> None:
    server = DatastoreServer(tmp_path / "db")
    server.stop()
    files = [open(tmp_path / f"{number}", "wb") for number in range(20)]  # noqa: SIM115
    server.stop()
    for file in files:
        file.close()
    assert all((tmp_path / f"{number}").stat().st_size == 0 for number in range(20))

"""What a user reads when a connection fails; real sockets, and what they make gRPC say."""

from __future__ import annotations

import contextlib
import http.server
import ipaddress
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import datetime, timedelta, timezone

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.auth.credentials import AnonymousCredentials
from google.cloud import datastore

from bulkup.core.errors import TargetError
from bulkup.datastore import channel
from bulkup.datastore.call_error import CallError
from bulkup.datastore.causes import credentials_problem, is_loopback
from bulkup.datastore.retry import RetryPolicy
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.rpc_errors import explain, explained
from bulkup.datastore.target import resolve
from tests.conftest import Server
from tests.emulators import free_port

Code = grpc.StatusCode
PROXIES = (
    "grpc_proxy", "https_proxy", "http_proxy", "no_proxy", "no_grpc_proxy", "NO_PROXY",
    "HTTPS_PROXY", "HTTP_PROXY", "GRPC_PROXY",
)  # fmt: skip


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@contextmanager
def serving(connection: Callable[[socket.socket], None]) -> Iterator[int]:
    """Call `connection` with each one that is made, in a thread of its own."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(one: socket.socket) -> None:
        with one, contextlib.suppress(OSError):
            connection(one)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                one, _ = listener.accept()
                threading.Thread(target=serve, args=(one,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def what_a_call_says(rpc: Rpc) -> str:
    """The sentence that ends the first call. No cause here takes the 15 s of a server that may
    still be starting, and no test waits for more than a few."""

    def call() -> None:
        with explained(rpc):
            rpc.connect()
            rpc.allocate_ids([])

    with closing(rpc), pytest.raises(TargetError) as failed:
        call()
    return failed.value.message


def at_emulator(port: int, monkeypatch: pytest.MonkeyPatch, retry_for_s: float = 2) -> Rpc:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", f"127.0.0.1:{port}")
    return Rpc(datastore.Client(project="p"), retry_policy=RetryPolicy(retry_for_s))


def at_service(endpoint: str = "", retry_for_s: float = 600) -> Rpc:
    """As if it were the real service, over TLS."""
    options = {"api_endpoint": endpoint} if endpoint else None
    client = datastore.Client(
        project="p", credentials=AnonymousCredentials(), client_options=options
    )
    return Rpc(client, retry_policy=RetryPolicy(retry_for_s))


# --- TLS ---


@pytest.fixture(scope="module")
def unknown_authority() -> Iterator[int]:
    """A gRPC server with a certificate that nobody knows."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "unknown")])
    names = [
        x509.DNSName("localhost"),
        x509.DNSName("datastore.googleapis.com"),
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    ]
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName(names), False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_secure_port(
        "127.0.0.1:0", grpc.ssl_server_credentials([(private, certificate.public_bytes(pem))])
    )
    server.start()
    yield port
    server.stop(0).wait()


def relay(one: socket.socket, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as far:
        there = threading.Thread(target=_copy, args=(far, one), daemon=True)
        there.start()
        _copy(one, far)


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_RDWR)


def test_a_certificate_that_is_not_trusted_is_named_at_once(
    unknown_authority: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel, "FIRST_CONTACT_S", 120.0)
    began = time.monotonic()
    said = what_a_call_says(at_service(f"https://localhost:{unknown_authority}"))
    assert "CERTIFICATE_VERIFY_FAILED" in said
    assert "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH" in said
    assert "start the emulator" not in said
    assert time.monotonic() - began < channel.FIRST_CONTACT_S


def test_a_proxy_that_inspects_tls_is_found_out(
    unknown_authority: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def inspect(one: socket.socket) -> None:
        one.recv(65536)
        one.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        relay(one, unknown_authority)

    with serving(inspect) as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        said = what_a_call_says(at_service())
    assert "no Datastore answered at datastore.googleapis.com" in said
    assert "a proxy inspects TLS" in said
    assert "REQUESTS_CA_BUNDLE" in said


def test_a_port_without_tls_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda one: one.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port:
        said = what_a_call_says(at_service(f"https://localhost:{port}"))
    assert "TLS handshake failed: WRONG_VERSION_NUMBER" in said


# --- proxies ---


def test_the_refusal_of_a_proxy_is_shown_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(one: socket.socket) -> None:
        one.recv(65536)
        one.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

    with serving(refuse) as port:
        monkeypatch.setenv("https_proxy", f"http://ann:sesame@127.0.0.1:{port}")
        said = what_a_call_says(at_service(retry_for_s=1))
    assert "the proxy that https_proxy names refuses to connect (HTTP 407)" in said
    assert "user and the password" in said
    assert "sesame" not in said


def test_a_proxy_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    said = what_a_call_says(at_service(retry_for_s=1))
    assert "connection refused by the proxy that http_proxy names" in said


@pytest.mark.parametrize("name", ["grpc_proxy", "https_proxy", "http_proxy"])
def test_no_proxy_is_asked_for_loopback(
    embedded: Server, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Neither by bulkup nor by a client that the updater makes."""
    monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("NO_PROXY", "example.org")
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", embedded.host)
    rpc = Rpc(datastore.Client(project="p"), retry_policy=RetryPolicy(2))
    with closing(rpc):
        rpc.connect()
    target = resolve(project=embedded.project)
    client = datastore.Client(project=embedded.project)
    assert client.get(client.key("Thing", 1), timeout=5) is None
    assert target.client.get(client.key("Thing", 1), timeout=5) is None
    assert os.environ["no_proxy"].split(",")[0] == "example.org"


@pytest.mark.parametrize(
    ("address", "is_here"),
    [
        ("localhost:8081", True), ("127.0.0.1:1", True), ("127.9.9.9:1", True), ("[::1]:1", True),
        ("datastore.googleapis.com", False), ("10.0.0.1:1", False), ("localhost.example:1", False),
    ],
)  # fmt: skip
def test_loopback_is_recognized(address: str, is_here: bool) -> None:
    assert is_loopback(address) is is_here


# --- HTTP ---


class Web(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_a_web_server_is_recognized(monkeypatch: pytest.MonkeyPatch) -> None:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Web) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        said = what_a_call_says(at_emulator(server.server_port, monkeypatch, retry_for_s=1))
        server.shutdown()
    assert "it answers like a web server, not like a Datastore" in said


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">L", len(payload))[1:] + struct.pack(">BBL", kind, flags, stream) + payload


def answering(status: str) -> Callable[[socket.socket], None]:
    """An HTTP/2 server that knows no gRPC: it answers every request with this status."""

    def serve(one: socket.socket) -> None:
        one.sendall(_frame(4, 0, 0))
        read = one.makefile("rb")
        read.read(24)
        while len(head := read.read(9)) == 9:
            read.read(int.from_bytes(head[:3], "big"))
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
            if kind == 4 and not flags:
                one.sendall(_frame(4, 1, 0))
            if kind == 0 and flags:
                fields = (b":status", status.encode()), (b"content-type", b"text/html")
                block = b"".join(
                    bytes((0, len(name))) + name + bytes((len(value),)) + value
                    for name, value in fields
                )
                one.sendall(_frame(1, 4, stream, block) + _frame(0, 1, stream, b"<html>"))

    return serve


@pytest.mark.parametrize("status", ["401", "403", "404", "500"])
def test_an_http_answer_is_not_taken_for_a_datastores(
    monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    with serving(answering(status)) as port:
        said = what_a_call_says(at_emulator(port, monkeypatch, retry_for_s=1))
    assert f"it answers like a web server, not like a Datastore (HTTP {status})" in said


def test_a_gateway_without_a_server_behind_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(answering("502")) as port:
        said = what_a_call_says(at_emulator(port, monkeypatch, retry_for_s=1))
    assert "a proxy or load balancer answered HTTP 502" in said


# --- no connection ---


def test_a_closed_port_and_a_name_that_is_none_are_told_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = what_a_call_says(at_emulator(free_port(), monkeypatch, retry_for_s=1))
    assert "(connection refused); start the emulator, or unset DATASTORE_EMULATOR_HOST" in said
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", "no-such-host.invalid:8081")
    rpc = Rpc(datastore.Client(project="p"), retry_policy=RetryPolicy(1))
    said = what_a_call_says(rpc)
    assert "its name could not be resolved by DNS" in said


@pytest.mark.parametrize(
    ("details", "says"),
    [
        ("failed to connect to all addresses; last error: UNKNOWN: Connection refused",
         "UNAVAILABLE: connection refused"),
        ("Stream removed (ping timeout)", "UNAVAILABLE: it does not answer"),
        ("CERTIFICATE_VERIFY_FAILED", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"),
        ("something new", "stopped answering (UNAVAILABLE); continue with `bulkup resume`"),
    ],
)  # fmt: skip
def test_a_server_that_goes_away_is_named_with_the_reason(details: str, says: str) -> None:
    error = CallError("Commit", Code.UNAVAILABLE, details)
    told = explain(error, address="datastore.googleapis.com", project="p", contacted=True)
    assert says in told.message


def test_a_proxy_variable_that_grpc_does_not_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    error = CallError("Connect", Code.UNAVAILABLE, "Connection refused")
    told = explain(error, address="datastore.googleapis.com", project="p", contacted=False)
    assert "gRPC reads https_proxy and not HTTPS_PROXY" in told.message
    told = explain(error, address="localhost:8081", project="p", contacted=False)
    assert "HTTPS_PROXY" not in told.message


def test_what_a_datastore_says_is_not_taken_for_the_connections() -> None:
    error = CallError("Commit", Code.INVALID_ARGUMENT, "property timeout is too long")
    told = explain(error, address="localhost:1", project="p", contacted=True)
    assert "property timeout is too long" in told.message


# --- credentials ---


@pytest.mark.parametrize(
    ("details", "says"),
    [
        ("TransportError: HTTPSConnectionPool(host='oauth2.googleapis.com', port=443): Max retries "
         "exceeded (Caused by SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED"
         "] certificate verify failed: unable to get local issuer certificate')))",
         "REQUESTS_CA_BUNDLE"),
        ("HTTPSConnectionPool(host='oauth2.googleapis.com', port=443): Max retries exceeded with "
         "url: /token (Caused by NameResolutionError(\"Failed to resolve 'oauth2.googleapis.com'\"",
         "resolved by DNS"),
        ("Max retries exceeded (Caused by ProxyError('Unable to connect to proxy', OSError('Tunnel "
         "connection failed: 407 Proxy Authentication Required')))", "HTTP 407"),
        ("('invalid_grant: Token has been expired or revoked.', {})", "expired or were revoked"),
        ("Reauthentication is needed. Please run `gcloud auth application-default login`",
         "expired or were revoked"),
        ("Could not automatically determine credentials", "no usable Google credentials: run"),
    ],
)  # fmt: skip
def test_why_there_is_no_token_is_said(details: str, says: str) -> None:
    assert says in credentials_problem(details)
    failed = CallError(
        "Lookup", Code.UNAVAILABLE, f"Getting metadata from plugin failed: {details}"
    )
    told = explain(failed, address="datastore.googleapis.com", project="p", contacted=True)
    assert says in told.message

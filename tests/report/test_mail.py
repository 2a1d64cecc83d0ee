"""Mail through real servers: with and without TLS, willing, unwilling, silent and absent."""

from __future__ import annotations

import email.policy
import ipaddress
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email import message_from_bytes
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bulkup.report import MailSettings, mail_settings, send_report, summarize
from bulkup.report.mail import build_message
from tests.report.samples import (
    HOSTILE,
    RESUME,
    dangers,
    hostile_report,
    interrupted,
    report,
    with_failures,
)

SUMMARY = summarize(report())

SECRET = "hunter2 with spaces"


@dataclass
class Mailbox:
    """A handler of a server that accepts mail, except for the recipients it is told to refuse."""

    refuse: tuple[str, ...] = ()
    refuse_data: str = ""
    mails: list[tuple[list[str], EmailMessage, bool]] = field(default_factory=list)
    """Recipients, message, and whether it arrived encrypted."""

    async def handle_RCPT(  # the name is aiosmtpd's
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refuse:
            return "550 no such user\x1b[2J here"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.refuse_data:
            return self.refuse_data
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        self.mails.append((envelope.rcpt_tos, message, session.ssl is not None))
        return "250 taken"


Start = Callable[..., int]
"""Starts a server with this mailbox and these options; returns its port."""


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[Controller] = []

    def start(mailbox: Mailbox, **options: Any) -> int:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port: int = free.getsockname()[1]
        controller = Controller(mailbox, hostname="127.0.0.1", port=port, **options)
        controller.start()
        running.append(controller)
        return port

    yield start
    for controller in running:
        controller.stop()


_SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False, content_commitment=False, key_encipherment=False,
    data_encipherment=False, key_agreement=False, key_cert_sign=True, crl_sign=True,
    encipher_only=False, decipher_only=False,
)  # fmt: skip


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, signer: ec.EllipticCurvePrivateKey
) -> x509.Certificate:
    now = datetime.now(timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        # Python 3.13 verifies strictly: these identifiers must be there.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False
        )
    )
    if name == issuer:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        builder = builder.add_extension(_SIGNS_CERTIFICATES, True)
    else:
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
    return builder.sign(signer, hashes.SHA256())


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """A file with our own certificate authority, and a server context with a certificate of it."""
    folder = tmp_path_factory.mktemp("tls")
    pem = serialization.Encoding.PEM
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = _certificate("test authority", authority_key, "test authority", authority_key)
    server = _certificate("localhost", key, "test authority", authority_key)
    (folder / "root.pem").write_bytes(root.public_bytes(pem))
    (folder / "server.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + server.public_bytes(pem)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return folder / "root.pem", context


@pytest.fixture
def trusted(
    authority: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> ssl.SSLContext:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[0]))
    return authority[1]


@pytest.fixture
def untrusted(
    authority: tuple[Path, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch
) -> ssl.SSLContext:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    return authority[1]


def _authenticate(
    server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: LoginPassword
) -> AuthResult:
    good = data.login == b"me@example.com" and data.password == SECRET.encode()
    return AuthResult(success=good, handled=False)


def to_server(url: str, *to: str, plain: bool = False, password: str = SECRET) -> MailSettings:
    settings = mail_settings(
        to or ["boss@example.com"],
        "bulkup@example.com",
        url,
        plain=plain,
        environ={"BULKUP_SMTP_PASSWORD": password},
    )
    assert settings is not None
    return settings


def test_a_report_is_mailed_with_starttls_and_a_login(
    start: Start, trusted: ssl.SSLContext
) -> None:
    mailbox = Mailbox()
    port = start(
        mailbox,
        tls_context=trusted,
        require_starttls=True,
        authenticator=_authenticate,
        auth_required=True,
    )
    settings = to_server(f"smtp://me%40example.com@localhost:{port}", "a@x.com", "b@x.com")
    sent = send_report(summarize(with_failures(105, 20)), settings)
    assert sent.ok, sent.message
    assert sent.message == "Report mailed to a@x.com, b@x.com."
    ((recipients, message, encrypted),) = mailbox.mails
    assert recipients == ["a@x.com", "b@x.com"]
    assert encrypted
    assert message["Subject"] == (
        "bulkup: AddFullName: Finished, but 105 entities failed: 34,006 entities handled, "
        "33,901 written, 105 failed"
    )
    assert message["Date"].datetime == with_failures(1, 1).ended.replace(microsecond=0)
    assert message["Message-ID"].endswith("@example.com>")
    assert [part.get_content_type() for part in message.iter_parts()] == [
        "text/plain",
        "text/html",
    ]
    text, page = (part.get_content() for part in message.iter_parts())
    assert "Key('City', 19): the updater raised ValueError: no latitude" in text
    assert "<h1" in page


def test_a_report_is_mailed_with_implicit_tls(start: Start, trusted: ssl.SSLContext) -> None:
    mailbox = Mailbox()
    port = start(mailbox, ssl_context=trusted)
    sent = send_report(summarize(interrupted()), to_server(f"smtps://127.0.0.1:{port}"))
    assert sent.ok, sent.message
    ((_, message, _),) = mailbox.mails
    body = message.get_body(("plain",))
    assert body is not None
    assert RESUME in body.get_content()


def test_loopback_without_tls_is_fine(start: Start) -> None:
    mailbox = Mailbox()
    sent = send_report(SUMMARY, to_server(f"smtp://localhost:{start(mailbox)}"))
    assert sent.ok, sent.message
    assert mailbox.mails[0][2] is False


def test_an_untrusted_certificate_is_refused(start: Start, untrusted: ssl.SSLContext) -> None:
    for scheme, options in (
        ("smtp", {"tls_context": untrusted}),
        ("smtps", {"ssl_context": untrusted}),
    ):
        mailbox = Mailbox()
        port = start(mailbox, **options)
        sent = send_report(SUMMARY, to_server(f"{scheme}://localhost:{port}"))
        assert not sent.ok
        assert "certificate cannot be trusted" in sent.message
        assert ("--smtp-plain" in sent.message) == (scheme == "smtp")
        assert mailbox.mails == []


def test_plain_means_no_tls_even_where_it_is_offered(
    start: Start, untrusted: ssl.SSLContext
) -> None:
    mailbox = Mailbox()
    port = start(mailbox, tls_context=untrusted)
    assert send_report(SUMMARY, to_server(f"smtp://localhost:{port}", plain=True)).ok
    assert mailbox.mails[0][2] is False


def _own_address() -> str:
    """An address of this machine that is not loopback (nothing is sent: UDP only picks a route)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        return str(probe.getsockname()[0])


def test_beyond_loopback_a_server_without_tls_gets_nothing() -> None:
    address = _own_address()
    with talking(b"220 hi\r\n", b"250 hi\r\n", host=address) as (port, heard):
        settings = to_server(f"smtp://me@{address}:{port}")
        sent = send_report(SUMMARY, settings, step_timeout_s=10)
    assert not sent.ok
    assert "the server offers no encryption (STARTTLS)" in sent.message
    assert "--smtp-plain" in sent.message
    assert b"AUTH" not in heard
    assert b"MAIL" not in heard


def test_a_wrong_password_is_reported_without_the_password(
    start: Start, trusted: ssl.SSLContext
) -> None:
    mailbox = Mailbox()
    port = start(mailbox, tls_context=trusted, authenticator=_authenticate, auth_required=True)
    settings = to_server(f"smtp://me%40example.com@localhost:{port}", password="wrong-secret")
    sent = send_report(SUMMARY, settings)
    assert not sent.ok
    assert "user or password was refused (535" in sent.message
    assert "BULKUP_SMTP_PASSWORD" in sent.message
    assert "wrong-secret" not in sent.message
    assert mailbox.mails == []


def test_a_server_without_login_is_reported(start: Start) -> None:
    port = start(Mailbox())
    sent = send_report(SUMMARY, to_server(f"smtp://me@localhost:{port}"))
    assert not sent.ok
    assert "the server cannot do this (SMTP AUTH extension not supported by server)" in sent.message


def test_when_all_recipients_are_refused_nothing_was_mailed(start: Start) -> None:
    port = start(Mailbox(refuse=("a@x.com", "b@x.com")))
    sent = send_report(SUMMARY, to_server(f"smtp://localhost:{port}", "a@x.com", "b@x.com"))
    assert not sent.ok
    assert "could not be mailed" in sent.message
    assert "a@x.com was refused (550 no such user\\x1b[2J here); b@x.com was" in sent.message
    assert not dangers(sent.message)


def test_when_one_recipient_is_refused_the_others_get_theirs(start: Start) -> None:
    mailbox = Mailbox(refuse=("b@x.com",))
    port = start(mailbox)
    sent = send_report(SUMMARY, to_server(f"smtp://localhost:{port}", "a@x.com", "b@x.com"))
    assert not sent.ok
    assert sent.message.startswith("The report was mailed to a@x.com, but b@x.com was refused")
    assert mailbox.mails[0][0] == ["a@x.com"]


def test_a_server_that_refuses_the_content_is_quoted(start: Start) -> None:
    port = start(Mailbox(refuse_data="554 looks like spam"))
    sent = send_report(SUMMARY, to_server(f"smtp://localhost:{port}"))
    assert not sent.ok
    assert "the server refused it (554 looks like spam)" in sent.message


def test_a_server_that_is_down_is_a_sentence() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        sent = send_report(SUMMARY, to_server(f"smtp://127.0.0.1:{free.getsockname()[1]}"))
    assert not sent.ok
    assert "connection refused" in sent.message


def test_a_name_that_does_not_exist_is_a_sentence() -> None:
    sent = send_report(SUMMARY, to_server("smtp://mail.invalid"))
    assert not sent.ok
    assert "the server's name cannot be looked up" in sent.message


def talking(
    *answers: bytes, host: str = "127.0.0.1", then: str = "close"
) -> AbstractContextManager[tuple[int, bytearray]]:
    """A server that sends these answers to anything; `then` it hangs, trickles or closes."""
    return _talking(answers, host, then)


@contextmanager
def _talking(answers: tuple[bytes, ...], host: str, then: str) -> Iterator[tuple[int, bytearray]]:
    heard = bytearray()
    over = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.settimeout(0.05)
            for position, answer in enumerate(answers):
                if position:
                    connection.settimeout(10)
                    heard.extend(connection.recv(65536))
                connection.sendall(answer)
            while then != "close" and not over.wait(0.05):
                if then == "trickle":
                    try:
                        connection.sendall(b"2")
                    except OSError:  # the client has given up, as it should
                        return

    with socket.create_server((host, 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], heard
        finally:
            over.set()
            thread.join(20)
            assert not thread.is_alive()


def test_a_silent_server_is_given_up_after_the_step_timeout() -> None:
    with talking(then="hang") as (port, _):
        sent = send_report(SUMMARY, to_server(f"smtp://127.0.0.1:{port}"), step_timeout_s=0.3)
    assert not sent.ok
    assert "no answer within 0.3 s" in sent.message


def test_a_server_that_falls_silent_later_is_given_up_too() -> None:
    with talking(b"220 hi\r\n", b"250 hi\r\n", then="hang") as (port, _):
        sent = send_report(SUMMARY, to_server(f"smtp://127.0.0.1:{port}"), step_timeout_s=0.3)
    assert "no answer within 0.3 s" in sent.message


def test_a_server_that_trickles_is_given_up_after_the_total_timeout() -> None:
    with talking(then="trickle") as (port, _):
        settings = to_server(f"smtp://127.0.0.1:{port}")
        sent = send_report(SUMMARY, settings, step_timeout_s=5, total_timeout_s=0.5)
    assert not sent.ok
    assert "not done after 0.5 s; it may still arrive" in sent.message


def test_ctrl_c_while_mailing_does_not_fail_the_finished_run() -> None:
    with talking(then="hang") as (port, _):
        settings = to_server(f"smtp://127.0.0.1:{port}")
        main = threading.main_thread().ident
        assert main is not None
        timer = threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT))
        timer.start()
        sent = send_report(SUMMARY, settings, step_timeout_s=5, total_timeout_s=10)
        timer.join()
    assert not sent.ok
    assert "interrupted" in sent.message


def test_a_server_that_hangs_up_is_a_sentence() -> None:
    with talking(b"220 hi\r\n") as (port, _):
        sent = send_report(SUMMARY, to_server(f"smtp://127.0.0.1:{port}"))
    assert not sent.ok
    assert "the server closed the connection" in sent.message


def test_tls_against_a_server_without_it_names_the_other_scheme() -> None:
    with talking(b"220 hi\r\n") as (port, _):
        sent = send_report(SUMMARY, to_server(f"smtps://127.0.0.1:{port}"))
    assert not sent.ok
    assert "smtp:// and smtps:// may be mixed up" in sent.message


def test_an_accepted_mail_counts_even_when_quit_fails() -> None:
    answers = (
        b"220 hi\r\n",
        b"250 hi\r\n",
        b"250 from\r\n",
        b"250 to\r\n",
        b"354 go\r\n",
    )
    with talking(*answers, b"250 taken\r\n") as (port, _):
        sent = send_report(SUMMARY, to_server(f"smtp://127.0.0.1:{port}"))
    assert sent.ok, sent.message


def test_hostile_strings_stay_out_of_the_headers(start: Start) -> None:
    mailbox = Mailbox()
    settings = to_server(f"smtp://localhost:{start(mailbox)}")
    assert send_report(summarize(hostile_report()), settings).ok
    ((recipients, message, _),) = mailbox.mails
    assert recipients == ["boss@example.com"]
    assert message["Bcc"] is None
    ours = {"Subject", "From", "To", "Date", "Message-ID", "Auto-Submitted"}
    mime = {"MIME-Version", "Content-Type"}
    assert {name for name in message if not name.startswith("X-")} == ours | mime
    assert not dangers(message["Subject"])
    assert (
        "\\r\\nBcc: evil@example.com"
        in build_message(summarize(hostile_report(updater="x\r\nBcc: evil@example.com")), settings)[
            "Subject"
        ]
    )
    for part in message.iter_parts():
        assert not dangers(part.get_content().replace("\r\n", "\n"))
    assert HOSTILE not in message.as_string()


def test_the_page_is_attached(start: Start) -> None:
    mailbox = Mailbox()
    settings = to_server(f"smtp://localhost:{start(mailbox)}")
    page = "<!DOCTYPE html><p>Größe: \N{SNOWMAN}</p>".encode()
    assert send_report(summarize(interrupted()), settings, page).ok
    ((_, message, _),) = mailbox.mails
    (attached,) = message.iter_attachments()
    assert attached.get_filename() == "report.html"
    assert attached.get_content_type() == "text/html"
    assert attached.get_payload(decode=True) == page
    body = message.get_body(("plain",))
    assert body is not None
    assert RESUME in body.get_content()


def test_a_very_long_updater_name_makes_a_mail_that_can_be_sent(start: Start) -> None:
    mailbox = Mailbox()
    settings = to_server(f"smtp://localhost:{start(mailbox)}")
    assert send_report(
        summarize(report(updater="é" * 100_000, description="x" * 5000)), settings
    ).ok
    raw = mailbox.mails[0][1].as_bytes(policy=email.policy.SMTP)
    assert max(map(len, raw.splitlines())) <= 998

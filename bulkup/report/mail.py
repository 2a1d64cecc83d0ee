"""The report by mail.

A problem while sending becomes a message, never an exception: a finished run stays finished.
Certificate checks stay on, waiting is bounded, and the password appears in no message.
"""

from __future__ import annotations

import ipaddress
import smtplib
import socket
import ssl
import threading
from collections.abc import Iterable
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid

from bulkup.report.html import summary_html
from bulkup.report.mail_errors import explain, refusals
from bulkup.report.mail_options import MailSettings
from bulkup.report.printer import Delivery
from bulkup.report.summary_model import Summary
from bulkup.report.summary_text import summary_text
from bulkup.report.text import clean, duration

STEP_TIMEOUT_S = 20.0
"""To connect, and for each answer."""
TOTAL_TIMEOUT_S = 60.0
"""For everything, including name lookup: a server that trickles bytes never exceeds the timeout of
a step."""


def build_message(
    summary: Summary, settings: MailSettings, page: bytes | None = None
) -> EmailMessage:
    """The report as a mail in plain text and HTML. `page`: an HTML file to attach."""
    message = EmailMessage()
    message["Subject"] = summary.subject
    message["From"] = settings.sender
    message["To"] = ", ".join(settings.to)
    message["Date"] = format_datetime(summary.ended)
    # With the sender's domain: the default would ask the network for this machine's name.
    message["Message-ID"] = make_msgid(domain=settings.sender.rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(_encodable(summary_text(summary)))
    message.add_alternative(_encodable(summary_html(summary)), subtype="html")
    if page is not None:
        message.add_attachment(page, maintype="text", subtype="html", filename="report.html")
    return message


def send_report(
    summary: Summary,
    settings: MailSettings,
    page: bytes | None = None,
    *,
    step_timeout_s: float = STEP_TIMEOUT_S,
    total_timeout_s: float = TOTAL_TIMEOUT_S,
) -> Delivery:
    """Mail the report; returns within `total_timeout_s`, with a message for the user.

    Never raises because of the network, the server or a Ctrl-C.
    """
    outcome: list[Delivery] = []

    def send() -> None:
        try:
            outcome.append(_send(build_message(summary, settings, page), settings, step_timeout_s))
        except Exception as error:  # a bug, and reported as one; the run is finished anyway
            outcome.append(_unsent(settings, f"bulkup has a bug, {type(error).__name__}: {error}"))

    # In a thread: a name lookup has no timeout, and a socket's timeout restarts with each byte.
    worker = threading.Thread(target=send, name="bulkup-mail", daemon=True)
    try:
        worker.start()
        worker.join(total_timeout_s)
    except KeyboardInterrupt:
        return outcome[0] if outcome else _unsent(settings, "interrupted; it may still arrive")
    if not outcome:
        return _unsent(settings, f"not done after {duration(total_timeout_s)}; it may still arrive")
    return outcome[0]


def _send(message: EmailMessage, settings: MailSettings, timeout_s: float) -> Delivery:
    try:
        context = ssl.create_default_context()
        client = _connect(settings, context, timeout_s)
        try:
            _secure(client, settings, context)
            if settings.user:
                client.login(settings.user, settings.password)
            refused = client.send_message(
                message, from_addr=settings.sender, to_addrs=list(settings.to)
            )
            _leave(client)
        finally:
            client.close()
    except (OSError, smtplib.SMTPException) as error:
        return _unsent(settings, explain(error, settings, timeout_s))
    if refused:
        accepted = [address for address in settings.to if address not in refused]
        return Delivery(
            "mail",
            False,
            clean(f"The report was mailed to {_names(accepted)}, but {refusals(refused)}."),
        )
    return Delivery("mail", True, clean(f"Report mailed to {_names(settings.to)}."))


def _connect(settings: MailSettings, context: ssl.SSLContext, timeout_s: float) -> smtplib.SMTP:
    # smtplib's default asks DNS for this machine's full name, which can take a minute.
    name = socket.gethostname()
    hello = name if "." in name and name.isascii() else "[127.0.0.1]"
    if settings.tls:
        return smtplib.SMTP_SSL(
            settings.host,
            settings.port,
            local_hostname=hello,
            timeout=timeout_s,
            context=context,
        )
    return smtplib.SMTP(settings.host, settings.port, local_hostname=hello, timeout=timeout_s)


def _secure(client: smtplib.SMTP, settings: MailSettings, context: ssl.SSLContext) -> None:
    """Encrypt the connection with STARTTLS, unless it is encrypted already or need not be.

    The connection, not the host name, decides whether the server is on loopback.
    """
    if settings.tls or settings.plain:
        return
    client.ehlo_or_helo_if_needed()
    assert client.sock is not None
    peer = client.sock.getpeername()[0].partition("%")[0]
    if client.has_extn("starttls") or not ipaddress.ip_address(peer).is_loopback:
        client.starttls(context=context)
        client.ehlo_or_helo_if_needed()


def _leave(client: smtplib.SMTP) -> None:
    try:
        client.quit()
    except (OSError, smtplib.SMTPException):
        pass  # The server has accepted the mail already; an error of QUIT changes nothing.


def _unsent(settings: MailSettings, why: str) -> Delivery:
    server = f"{settings.host}:{settings.port}"
    return Delivery(
        "mail",
        False,
        clean(f"The report could not be mailed to {_names(settings.to)} through {server}: {why}."),
    )


def _names(addresses: Iterable[str]) -> str:
    return ", ".join(addresses)


def _encodable(text: str) -> str:
    """Clean strings hold no surrogates; this is for the day when one slips through."""
    return text.encode("utf-8", errors="backslashreplace").decode("utf-8")

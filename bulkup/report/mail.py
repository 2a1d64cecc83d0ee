"""The report by e-mail.

What goes wrong while sending becomes a sentence, never an exception: a finished run stays
finished. Certificate checks stay on, waiting is bounded, the password appears in no message.
"""

from __future__ import annotations

import ipaddress
import smtplib
import socket
import ssl
import threading
from collections.abc import Iterable, Mapping
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid

from bulkup.core.events import Report
from bulkup.report.html import summary_html
from bulkup.report.mail_options import PASSWORD_VARIABLE, MailSettings
from bulkup.report.printer import Delivery
from bulkup.report.summary_model import tell
from bulkup.report.summary_text import summary_text
from bulkup.report.text import clean, duration

STEP_TIMEOUT_S = 20.0
"""For connecting, and for each answer."""
TOTAL_TIMEOUT_S = 60.0
"""For everything, name lookup included: a server that trickles bytes keeps within the other."""

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
LOCAL_HINT = ", or use --smtp-plain, as the server is on this machine"


def build_message(report: Report, settings: MailSettings) -> EmailMessage:
    """The report as a mail of plain text and HTML."""
    story = tell(report)
    message = EmailMessage()
    message["Subject"] = story.subject
    message["From"] = settings.sender
    message["To"] = ", ".join(settings.to)
    message["Date"] = format_datetime(report.ended)
    # Of the sender's domain: the default would ask the network for this machine's name.
    message["Message-ID"] = make_msgid(domain=settings.sender.rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(_encodable(summary_text(story)))
    message.add_alternative(_encodable(summary_html(story)), subtype="html")
    return message


def send_report(
    report: Report,
    settings: MailSettings,
    *,
    step_timeout_s: float = STEP_TIMEOUT_S,
    total_timeout_s: float = TOTAL_TIMEOUT_S,
) -> Delivery:
    """Mail the report; returns within `total_timeout_s`, with a sentence for the user.

    Never raises for what the network, the server or an impatient Ctrl-C does.
    """
    outcome: list[Delivery] = []

    def send() -> None:
        try:
            outcome.append(_send(build_message(report, settings), settings, step_timeout_s))
        except Exception as error:  # a bug, and told as one: but the run is finished all the same
            outcome.append(_unsent(settings, f"bulkup has a bug, {type(error).__name__}: {error}"))

    # A thread, because a name lookup knows no timeout and a socket's starts again with each byte.
    worker = threading.Thread(target=send, name="bulkup-mail", daemon=True)
    try:
        worker.start()
        worker.join(total_timeout_s)
    except KeyboardInterrupt:
        return outcome[0] if outcome else _unsent(settings, "interrupted; it may still arrive")
    if not outcome:
        return _unsent(settings, f"no end after {duration(total_timeout_s)}; it may still arrive")
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
        return _unsent(settings, _why(error, settings, timeout_s))
    if refused:
        taken = [address for address in settings.to if address not in refused]
        return Delivery(
            "mail",
            False,
            clean(f"The report was mailed to {_names(taken)}, but {_refusals(refused)}."),
        )
    return Delivery("mail", True, clean(f"Report mailed to {_names(settings.to)}."))


def _connect(settings: MailSettings, context: ssl.SSLContext, timeout_s: float) -> smtplib.SMTP:
    # smtplib's own default asks DNS for this machine's full name, which can take a minute.
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
    """STARTTLS, unless TLS is there already or may be done without.

    Whether the server is on loopback is asked of the connection, not of the name.
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
        pass  # The server has already taken the mail; how it says goodbye changes nothing.


def _unsent(settings: MailSettings, why: str) -> Delivery:
    server = f"{settings.host}:{settings.port}"
    return Delivery(
        "mail",
        False,
        clean(f"The report could not be mailed to {_names(settings.to)} through {server}: {why}."),
    )


def _why(error: Exception, settings: MailSettings, timeout_s: float) -> str:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return _refusals(error.recipients)
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"user or password was refused ({_answer(error)}); check {PASSWORD_VARIABLE}"
    if isinstance(error, smtplib.SMTPSenderRefused):
        return f"the sender was refused ({_answer(error)})"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"the server refused it ({_answer(error)})"
    if isinstance(error, smtplib.SMTPNotSupportedError):
        if "STARTTLS" in str(error):
            return (
                "the server offers no encryption (STARTTLS); use smtps://, or --smtp-plain to "
                "send it readable by everyone on the way"
            )
        return f"the server cannot do this ({str(error).rstrip('.')})"
    # smtplib turns a timeout while waiting for an answer into a disconnection.
    if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):
        return f"no answer within {duration(timeout_s)}"
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return "the server hung up"
    if isinstance(error, ssl.SSLCertVerificationError):
        local = settings.host in LOCAL_HOSTS and not settings.tls
        return (
            f"the server's certificate cannot be trusted ({error.verify_message}); SSL_CERT_FILE "
            f"may name the authority that signed it{LOCAL_HINT if local else ''}"
        )
    if isinstance(error, ssl.SSLError):
        return (
            f"no encryption could be agreed on ({error.reason or error}); is it smtp:// where "
            "smtps:// is needed, or the other way round?"
        )
    if isinstance(error, socket.gaierror):
        return f"the server's name cannot be looked up ({error.strerror})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def _answer(error: smtplib.SMTPResponseException) -> str:
    return f"{error.smtp_code} {_decode(error.smtp_error)}"


def _refusals(refused: Mapping[str, tuple[int, bytes]]) -> str:
    return "; ".join(
        f"{address} was refused ({code} {_decode(text)})"
        for address, (code, text) in refused.items()
    )


def _decode(text: bytes | str) -> str:
    if isinstance(text, bytes):
        text = text.decode("utf-8", errors="backslashreplace")
    return " ".join(text.split()).rstrip(".")


def _names(addresses: Iterable[str]) -> str:
    return ", ".join(addresses)


def _encodable(text: str) -> str:
    """Clean texts hold no surrogates; this is for the day when one slips through."""
    return text.encode("utf-8", errors="backslashreplace").decode("utf-8")

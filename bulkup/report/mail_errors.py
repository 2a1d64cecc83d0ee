"""Why a mail could not be sent, in words."""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Mapping

from bulkup.report.mail_options import PASSWORD_VARIABLE, MailSettings
from bulkup.report.text import duration

LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
LOCAL_HINT = ", or use --smtp-plain, as the server is on this machine"


def explain(error: Exception, settings: MailSettings, timeout_s: float) -> str:
    """The reason for `error`, as the rest of a sentence."""
    # smtplib turns a timeout while it waits for an answer into a disconnection.
    if isinstance(error, TimeoutError) or isinstance(error.__context__, TimeoutError):
        return f"no answer within {duration(timeout_s)}"
    if isinstance(error, smtplib.SMTPException):
        return _refusal(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        local = settings.host in LOCAL_HOSTS and not settings.tls
        return (
            f"the server's certificate cannot be trusted ({error.verify_message}); set "
            "SSL_CERT_FILE to the certificate of the authority that signed it"
            f"{LOCAL_HINT if local else ''}"
        )
    if isinstance(error, ssl.SSLError):
        return (
            f"no encryption could be agreed on ({error.reason or error}); smtp:// and smtps:// "
            "may be mixed up"
        )
    if isinstance(error, socket.gaierror):
        return f"the server's name cannot be looked up ({error.strerror})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def _refusal(error: smtplib.SMTPException) -> str:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return refusals(error.recipients)
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
    if isinstance(error, smtplib.SMTPServerDisconnected):
        return "the server closed the connection"
    return str(error) or type(error).__name__


def refusals(refused: Mapping[str, tuple[int, bytes]]) -> str:
    return "; ".join(
        f"{address} was refused ({code} {_decode(text)})"
        for address, (code, text) in refused.items()
    )


def _answer(error: smtplib.SMTPResponseException) -> str:
    return f"{error.smtp_code} {_decode(error.smtp_error)}"


def _decode(text: bytes | str) -> str:
    if isinstance(text, bytes):
        text = text.decode("utf-8", errors="backslashreplace")
    return " ".join(text.split()).rstrip(".")

"""The options for mail, checked before a run starts and not hours later at its end."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple
from urllib.parse import unquote

from bulkup.core.errors import UsageError
from bulkup.report.text import clean

PASSWORD_VARIABLE = "BULKUP_SMTP_PASSWORD"  # noqa: S105 - the name of the variable
PORTS = {"smtp": 587, "smtps": 465}
"""RFC 6409 (submission) and RFC 8314 (submission over TLS)."""
FORM = "write it as smtp://user@host:587 (STARTTLS) or smtps://user@host:465 (TLS)"

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_ADDRESS = re.compile(rf"{_ATOM}(?:\.{_ATOM})*@{_LABEL}(?:\.{_LABEL})*")
"""RFC 5322's dot-atom at a host name: no quotes, comments or names that could inject anything."""
_HOST = r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?"
_LOCATION = re.compile(rf"(?P<host>{_HOST}|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{{1,5}}))?")


@dataclass(frozen=True)
class MailSettings:
    to: tuple[str, ...]
    sender: str
    host: str
    port: int
    tls: bool
    """TLS from the first byte. Otherwise STARTTLS, except on loopback and with `plain`."""
    plain: bool
    """The user asked for no encryption."""
    user: str | None
    password: str = field(repr=False)


def mail_settings(
    to: Sequence[str],
    sender: str | None,
    smtp: str | None,
    *,
    plain: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> MailSettings | None:
    """The settings from `--email-to`, `--email-from`, `--smtp` and `--smtp-plain`; None: no mail.

    Each item of `to` holds one address, or several separated by commas. Without any, the other
    options are ignored, because they may come from the environment.
    Raises UsageError for anything that cannot work; its message never repeats the URL.
    """
    recipients = tuple(
        _address(part, "--email-to") for item in to for part in item.split(",") if part.strip()
    )
    if not recipients:
        return None
    if not sender:
        raise UsageError("--email-to needs a sender: add --email-from ADDRESS")
    if not smtp:
        raise UsageError(f"--email-to needs a mail server: add --smtp URL; {FORM}")
    server = _server(smtp)
    if plain and server.scheme == "smtps":
        raise UsageError("--smtp-plain contradicts smtps://; leave out one of the two")
    password = ""
    if server.user:
        password = environ.get(PASSWORD_VARIABLE, "")
        if not password:
            raise UsageError(
                f"--smtp names a user, so a password is needed: set {PASSWORD_VARIABLE} in the "
                "environment"
            )
        if not password.isascii() or not password.isprintable():
            raise UsageError(
                f"{PASSWORD_VARIABLE} holds characters outside printable ASCII; a mail server "
                "cannot accept it"
            )
    return MailSettings(
        to=tuple(dict.fromkeys(recipients)),
        sender=_address(sender, "--email-from"),
        host=server.host,
        port=server.port,
        tls=server.scheme == "smtps",
        plain=plain,
        user=server.user,
        password=password,
    )


def _address(text: str, option: str) -> str:
    """A bare `name@host`."""
    text = text.strip()
    if not _ADDRESS.fullmatch(text):
        raise UsageError(
            f'{option}: "{clean(text, 100)}" is not a mail address; write it as name@example.com'
        )
    return text


class _Server(NamedTuple):
    scheme: str
    user: str | None
    host: str
    port: int


def _server(url: str) -> _Server:
    """Errors do not repeat the URL: one that cannot be parsed may hold a password with a slash."""
    scheme, separator, rest = url.strip().partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in PORTS:
        raise UsageError(f"--smtp: not the URL of a mail server; {FORM}")
    userinfo, at, location = rest.rpartition("@")
    if ":" in userinfo:
        raise UsageError(
            "--smtp: everyone who lists processes can see a password in a URL; leave it out "
            f"and set {PASSWORD_VARIABLE} in the environment"
        )
    user = unquote(userinfo)
    if (at and not user) or not user.isascii() or not user.isprintable():
        raise UsageError(f"--smtp: the user before the @ is not valid; {FORM}")
    found = _LOCATION.fullmatch(location.rstrip("/"))
    port = int(found["port"] or PORTS[scheme]) if found else 0
    if not found or not 0 < port < 65536:
        raise UsageError(f"--smtp: host or port is not valid; {FORM}")
    return _Server(scheme, user or None, found["host"].strip("[]"), port)

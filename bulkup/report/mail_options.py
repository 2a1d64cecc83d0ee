"""Which mail server, which addresses: checked before a run starts, not hours later at its end."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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
"""RFC 5322's dot-atom at a host name: no quotes, comments or names to smuggle anything in."""
_HOST = r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?"
_LOCATION = re.compile(rf"(?P<host>{_HOST}|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{{1,5}}))?")


@dataclass(frozen=True)
class MailSettings:
    to: tuple[str, ...]
    sender: str
    host: str
    port: int
    tls: bool
    """TLS from the first byte; otherwise STARTTLS, which only loopback and `plain` go without."""
    plain: bool
    """The user said that no encryption is wanted."""
    user: str
    password: str = field(repr=False)


def mail_settings(
    to: Sequence[str],
    sender: str | None,
    smtp: str | None,
    *,
    plain: bool = False,
    environ: Mapping[str, str] = os.environ,
) -> MailSettings | None:
    """What `--email-to`, `--email-from`, `--smtp` and `--smtp-plain` say; None: no mail is wanted.

    `to` holds addresses, one or several (with commas) an item. Without any, the other options
    mean nothing, for they may come from the environment.
    Raises UsageError for anything that could not work; its text never repeats the URL.
    """
    recipients = tuple(
        _address(part, "--email-to") for item in to for part in item.split(",") if part.strip()
    )
    if not recipients:
        return None
    if not sender:
        raise UsageError("--email-to needs a sender too: add --email-from ADDRESS")
    if not smtp:
        raise UsageError(f"--email-to needs a mail server too: add --smtp URL; {FORM}")
    scheme, user, host, port = _url(smtp)
    if plain and scheme == "smtps":
        raise UsageError("--smtp-plain contradicts smtps://; leave one of the two")
    password = ""
    if user:
        password = environ.get(PASSWORD_VARIABLE, "")
        if not password:
            raise UsageError(
                f"--smtp names a user, so a password is needed: set {PASSWORD_VARIABLE} in the "
                "environment"
            )
        if not password.isascii() or not password.isprintable():
            raise UsageError(
                f"{PASSWORD_VARIABLE} holds characters outside printable ASCII, with which no "
                "login is possible"
            )
    return MailSettings(
        to=tuple(dict.fromkeys(recipients)),
        sender=_address(sender, "--email-from"),
        host=host,
        port=port,
        tls=scheme == "smtps",
        plain=plain,
        user=user,
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


def _url(url: str) -> tuple[str, str, str, int]:
    """Scheme, user, host and port. What is wrong is said without repeating any of it: a URL that
    does not parse may be one whose password holds a slash."""
    scheme, separator, rest = url.strip().partition("://")
    scheme = scheme.lower()
    if not separator or scheme not in PORTS:
        raise UsageError(f"--smtp: not a mail server's URL; {FORM}")
    userinfo, at, location = rest.rpartition("@")
    if ":" in userinfo:
        raise UsageError(
            "--smtp: a password in a URL is seen by everyone who lists processes; leave it out "
            f"and set {PASSWORD_VARIABLE} in the environment"
        )
    user = unquote(userinfo)
    if (at and not user) or not user.isascii() or not user.isprintable():
        raise UsageError(f"--smtp: the user before the @ is not usable; {FORM}")
    found = _LOCATION.fullmatch(location.rstrip("/"))
    port = int(found["port"] or PORTS[scheme]) if found else 0
    if not found or not 0 < port < 65536:
        raise UsageError(f"--smtp: host or port is not usable; {FORM}")
    return scheme, user, found["host"].strip("[]"), port

"""The address that a report is posted to, checked before a run starts.

Whoever knows the address of a chat's webhook can post there, so it is a secret: nothing prints more
of it than its host.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from bulkup.core.errors import UsageError

MAX_CHARS = 4096
FORM = "write it as https://host/path"


@dataclass(frozen=True)
class Webhook:
    """As a string, it shows only its host."""

    url: str = field(repr=False)
    """Without user and password."""
    host: str
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"{self.url.partition(':')[0]}://{self.host}/…"


def webhook(url: str) -> Webhook:
    """Parse an address. Raises UsageError, whose message never repeats the address."""
    url = url.strip()
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise UsageError(f"the address of the webhook is not valid; {FORM}") from error
    if parts.scheme not in ("http", "https"):
        raise UsageError(f"the address of the webhook is not one of http or https; {FORM}")
    is_plain = url.isascii() and url.isprintable() and not any(c in url for c in ' \\"<>^`{|}')
    if not host or not is_plain or len(url) > MAX_CHARS:
        raise UsageError(f"the address of the webhook is not valid; {FORM}")
    location = parts.netloc.rpartition("@")[2]
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    bare = parts._replace(netloc=location, fragment="").geturl()
    return Webhook(bare, location, user, password)

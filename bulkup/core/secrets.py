"""Removes secrets from text that bulkup did not write, such as errors and tracebacks."""

from __future__ import annotations

import re

REMOVED = "[removed]"

_NAMES = (
    r"private_key(?:_id)?|client_secret|(?:access|refresh|id|auth)_?token|api_?key|"
    r"passw(?:or)?d|secret(?:_?key)?|authorization"
)

_BASE64 = "A-Za-z0-9+/="
_LINE_END = r"(?:[\r\n]++|(?:\\++[rn])++)[ \t]*+"
"""The end of a line in a key in PEM form, also if it is escaped, as in JSON."""

_PATTERNS = (
    # A key in PEM form, even if its end is cut off.
    (
        re.compile(r"-----BEGIN [^-]{1,40}-----.*?(?:-----END [^-]{1,40}-----|\Z)", re.DOTALL),
        REMOVED,
    ),
    # A key whose beginning is cut off, as in the last lines of a log. The largest key has about a
    # hundred lines.
    (
        re.compile(
            rf"(?<![{_BASE64}\r\n\\])[{_BASE64}]*+(?:{_LINE_END}[{_BASE64}]*+){{1,110}}+"
            r"-----END\b[^-]{0,40}(?:-----|-{0,4}\Z)"
        ),
        REMOVED,
    ),
    # A key that is cut off within its first line, and at its end.
    (
        re.compile(
            rf"(?<=KEY-----){_LINE_END}[{_BASE64}]{{24,}}+(?:{_LINE_END}[{_BASE64}]++){{0,110}}+"
        ),
        REMOVED,
    ),
    # "client_secret": "...", also inside a string within a string.
    (
        re.compile(
            rf"""((?:{_NAMES})\\*["']?\s*[:=]\s*)(\\*["'])(?:(?!\2).)*(\2|\Z)""",
            re.IGNORECASE | re.DOTALL,
        ),
        rf"\1\2{REMOVED}\3",
    ),
    # access_token=..., as in a URL or a form.
    (re.compile(rf"((?:{_NAMES}|token)=)[^\s\"'&;,)]+", re.IGNORECASE), rf"\1{REMOVED}"),
    # https://user:password@host
    (
        re.compile(r"(\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@\"']{0,200}:)[^\s/@\"']+@", re.I),
        rf"\1{REMOVED}@",
    ),
    # The same, cut off within the password; but not https://host:8080
    (
        re.compile(
            r"(\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@\"'\[]{0,200}:)(?!\d{1,5}[^\w@]*$)[^\s/@\"']+$",
            re.I | re.M,
        ),
        rf"\1{REMOVED}",
    ),
    (re.compile(r"\b((?:Bearer|Basic)\s+)[A-Za-z0-9._~+/=-]{12,}", re.IGNORECASE), rf"\1{REMOVED}"),
    # Google's access tokens and API keys, and JSON web tokens.
    (
        re.compile(
            r"\bya29\.[A-Za-z0-9._-]+|\bAIza(?:[A-Za-z0-9_-]{30,}|[A-Za-z0-9_-]++(?=[.…]*$))"
            r"|\bGOCSPX-[A-Za-z0-9_-]+",
            re.M,
        ),
        REMOVED,
    ),
    # A JSON web token, even if its first or last part is cut off.
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]{8,}){1,2}\.?"), REMOVED),
)


_HINTS = (
    "key", "secret", "token", "passw", "authorization", "-----begin", "-----end", "://", "bearer",
    "basic", "ya29.", "aiza", "gocspx-", "eyj",
)  # fmt: skip
"""Casefolded. Every pattern needs one of these, and searching for them is a hundred times faster,
which matters if every entity logs a line."""


def without_secrets(text: str) -> str:
    """Remove private keys, tokens, passwords and the values of fields with such names.

    It recognises the forms that Google's libraries, HTTP clients and URLs show, even if the text
    begins or ends within one. It cannot recognise a secret without any form (a bare password in a
    sentence).
    """
    folded = text.casefold()
    if not any(hint in folded for hint in _HINTS):
        return text
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text

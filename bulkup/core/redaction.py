"""Removes private data from the strings of a run, so that the run can be shown to strangers.

Values become hashes. The same value has the same hash in everything that is redacted with the same
secret, and without the secret nobody can guess values until one matches.

Messages of bulkup and of servers keep their words, except quoted strings, numbers, names with
digits, and non-ASCII words. From messages of the user's code, only the type of an exception is
kept. Kinds, names of functions and files, and names of parameters are kept.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from hashlib import sha256

from bulkup.core.secrets import REMOVED, without_secrets
from bulkup.core.typed_key import typed_key

_STRING = r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\""
_PARTS = re.compile(
    rf"(?P<key>\bKey\((?:[^()'\"]|{_STRING})*\))"
    r"|(?P<error>\b[A-Za-z_][\w.]*(?:Error|Exception|Exit|Interrupt|Warning): [^\0]*)"
    r"|(?P<raised>(?<=\braised )[A-Za-z_][\w.]*: [^\0]*)"
    r"|(?P<said>(?<=\(--max-hold\): )[^\0]*)"
    r"|(?P<check>\b(?:check_before|check_after|healthy) of [^\s:]+ failed: [^\0]*)"
    r"|(?P<quoted>(?<!\w)(?:'[^']*(?:'(?!\w)|$)|\"[^\"]*(?:\"|$)|`[^`]*(?:`|$)))"
    r"|(?P<word>[^\s'\"`(),;=\[\]{}<>]+)"
)
_FRAME = re.compile(r'File "([^"\n]*)", line ([0-9]+), in ([^\n]*)')
_TYPE = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,80}")
_SECRET_NAME = re.compile(r"passw|secret|token|api_?key|private_?key|credential", re.IGNORECASE)
MAX_WORD_CHARS = 40
"""A longer word is treated as a value."""


class Redactor:
    """`secret` belongs to the run, and is never shown. `keeps_values`: remove only secrets."""

    def __init__(self, secret: bytes, *, keeps_values: bool = False) -> None:
        self._secret = secret
        self.keeps_values = keeps_values

    def hash(self, text: str) -> str:
        data = text.encode("utf-8", "surrogatepass")
        return hmac.new(self._secret, data, sha256).hexdigest()[:10]

    def name(self, text: str, what: str) -> str:
        """Redact the name of a person, a project or a tenant: `project-3f2a1b0c9d`."""
        if self.keeps_values or not text:
            return without_secrets(text)
        return f"{what}-{self.hash(text)}"

    def run_id(self, run_id: str) -> str:
        """Redact the name of a namespace, which follows an `@` in a run id."""
        group, at, namespace = run_id.partition("@")
        if self.keeps_values or not at:
            return run_id
        namespace, plus, number = namespace.partition("+")
        return f"{group}@{self.hash(namespace)}{plus}{number}"

    def key(self, text: str) -> str:
        """Redact a key, but keep its kinds: `Key('City', '~3f2a1b0c9d')`."""
        if self.keeps_values:
            return without_secrets(text)
        found = typed_key(text)
        if found is None:
            return f"Key('~{self.hash(text)}')"
        parts = [repr(kind) + (f", '~{self.hash(repr(ident))}'" if ident is not None else "")
                 for kind, ident in found["path"]]  # fmt: skip
        if found["namespace"]:
            parts.append(f"namespace='~{self.hash(found['namespace'])}'")
        return f"Key({', '.join(parts)})"

    def parameters(self, params: Mapping[str, str]) -> dict[str, str]:
        """Redact parameters. A value whose name says that it is secret is always removed."""
        return {
            name: REMOVED if _SECRET_NAME.search(name) else self.users_text(value)
            for name, value in params.items()
        }

    def users_text(self, text: str) -> str:
        """Redact what the user or the user's code has written. Only its hash and length remain."""
        if self.keeps_values or not text:
            return without_secrets(text)
        return f"[{self.hash(text)}, {len(text)} characters]"

    def users_error(self, text: str) -> str:
        """Redact an error, but keep its type: `ValueError: [3f2a1b0c9d, 11 characters]`."""
        name, colon, message = text.partition(": ")
        if self.keeps_values or not colon or not _TYPE.fullmatch(name):
            return self.users_text(text) if colon or not _TYPE.fullmatch(text) else text
        return f"{name}: {self.users_text(message)}"

    def message(self, text: str) -> str:
        """Redact a message of bulkup or of a server."""
        if self.keeps_values:
            return without_secrets(text)
        return _PARTS.sub(self._part, without_secrets(text))

    def _part(self, match: re.Match[str]) -> str:
        text = match[0]
        if match["key"]:
            return self.key(text)
        if match["error"] or match["raised"]:
            return self.users_error(text)
        if match["said"]:
            return self.users_text(text)
        if match["check"]:
            head, failed, reason = text.partition(" failed: ")
            return head + failed + self.users_text(reason)
        if match["quoted"]:
            return "…"
        private = not text.isascii() or len(text) > MAX_WORD_CHARS or re.search(r"[\d@]", text)
        return "#" if private and text not in ("…", "–", "—") else text

    def traceback(self, text: str) -> str:
        """The frames of a traceback, without source lines and messages."""
        if self.keeps_values:
            return without_secrets(text)
        lines = [
            f'  File "{self.path(file)}", line {line}, in {function}'
            for file, line, function in _FRAME.findall(text)
        ]
        return "\n".join(lines)

    def path(self, path: str) -> str:
        """The name of the file; for a library, its path within the installed packages."""
        if self.keeps_values:
            return path
        for folder in ("/site-packages/", "/dist-packages/"):
            if folder in path:
                return path.rpartition(folder)[2]
        return path.rpartition("/")[2]

"""Removes what is private from the strings of a run, so that it can be shown to strangers.

Values become a hash. The same value has the same hash in all that is redacted with the same
secret, and without the secret nobody can try values until one matches.

What bulkup and servers say keeps its words, except what it quotes, numbers, names with digits, and
words outside ASCII. Of what the user's code says, only the type of an exception stays. Kinds,
names of functions and files, and names of parameters stay.
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
"""A longer word is a value."""


class Redactor:
    """`secret`: of the run; it is not in what is shown. `keeps_values`: remove secrets only."""

    def __init__(self, secret: bytes, *, keeps_values: bool = False) -> None:
        self._secret = secret
        self.keeps_values = keeps_values

    def hash(self, text: str) -> str:
        data = text.encode("utf-8", "surrogatepass")
        return hmac.new(self._secret, data, sha256).hexdigest()[:10]

    def name(self, text: str, what: str) -> str:
        """A name of a person, a project, a tenant: `project-3f2a1b0c9d`."""
        if self.keeps_values or not text:
            return without_secrets(text)
        return f"{what}-{self.hash(text)}"

    def run_id(self, run_id: str) -> str:
        """Behind an `@`, the name of a namespace."""
        group, at, namespace = run_id.partition("@")
        if self.keeps_values or not at:
            return run_id
        namespace, plus, number = namespace.partition("+")
        return f"{group}@{self.hash(namespace)}{plus}{number}"

    def key(self, text: str) -> str:
        """`Key('City', '~3f2a1b0c9d')`: the kinds stay."""
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
        """The values of those whose names say that they are secret never stay."""
        return {
            name: REMOVED if _SECRET_NAME.search(name) else self.users_text(value)
            for name, value in params.items()
        }

    def users_text(self, text: str) -> str:
        """What the user's code or the user has written: nothing of it stays but its length."""
        if self.keeps_values or not text:
            return without_secrets(text)
        return f"[{self.hash(text)}, {len(text)} characters]"

    def users_error(self, text: str) -> str:
        """`ValueError: [3f2a1b0c9d, 11 characters]`."""
        name, colon, message = text.partition(": ")
        if self.keeps_values or not colon or not _TYPE.fullmatch(name):
            return self.users_text(text) if colon or not _TYPE.fullmatch(text) else text
        return f"{name}: {self.users_text(message)}"

    def message(self, text: str) -> str:
        """What bulkup or a server has said."""
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
        """The frames, without the lines of the source and without the messages."""
        if self.keeps_values:
            return without_secrets(text)
        lines = [
            f'  File "{self.path(file)}", line {line}, in {function}'
            for file, line, function in _FRAME.findall(text)
        ]
        return "\n".join(lines)

    def path(self, path: str) -> str:
        """The name of the file; of a library, with its place in that."""
        if self.keeps_values:
            return path
        for folder in ("/site-packages/", "/dist-packages/"):
            if folder in path:
                return path.rpartition(folder)[2]
        return path.rpartition("/")[2]

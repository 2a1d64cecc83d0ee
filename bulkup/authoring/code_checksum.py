"""The checksum of an updater's code, which ignores comments, blank lines and layout."""

from __future__ import annotations

import hashlib
import io
import tokenize
from collections.abc import Iterator
from importlib.util import decode_source

_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.ENCODING, tokenize.ENDMARKER}
_LAYOUT = {tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}


def code_checksum(source: bytes) -> str:
    """SHA-256 of the code in hex, the same on every Python version that bulkup supports.

    Raises SyntaxError, UnicodeDecodeError when the source is not valid Python.
    """
    text = decode_source(source)
    digest = hashlib.sha256()
    try:
        for word in _words(text):
            digest.update(word.encode("utf-8", "surrogatepass") + b"\0")
    except tokenize.TokenError as error:
        raise SyntaxError(str(error)) from error
    return digest.hexdigest()


def _words(text: str) -> Iterator[str]:
    """One word per token. An f-string is one token, as it was before Python 3.12."""
    lines = list(io.StringIO(text))  # splitlines also splits where Python does not
    nested, start = 0, (0, 0)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        name = tokenize.tok_name[token.type]
        if name.endswith("STRING_START"):
            if not nested:
                start = token.start
            nested += 1
        elif name.endswith("STRING_END"):
            nested -= 1
            if not nested:
                yield _between(lines, start, token.end)
        elif nested or token.type in _NO_CODE:
            continue
        else:
            yield name if token.type in _LAYOUT else token.string


def _between(lines: list[str], start: tuple[int, int], end: tuple[int, int]) -> str:
    (first, left), (last, right) = start, end
    if first == last:
        return lines[first - 1][left:right]
    middle = lines[first : last - 1]
    return "".join([lines[first - 1][left:], *middle, lines[last - 1][:right]])

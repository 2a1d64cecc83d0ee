"""A key as text, `Key('City', 5, namespace='x')`, and as data for programs."""

from __future__ import annotations

import re
from ast import literal_eval
from typing import Any

_ESCAPE = r"\\(?:[\\'\"nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})"
"""The escapes of `repr`. Any other would make Python print a warning."""
_PART = rf"'(?:[^'\\]|{_ESCAPE})*'|\"(?:[^\"\\]|{_ESCAPE})*\"|-?[0-9]{{1,19}}"
_PARTS = re.compile(_PART)
_KEY = re.compile(rf"Key\(((?:{_PART})(?:, (?:{_PART}))*)(?:, namespace=({_PART}))?\)", re.DOTALL)


def typed_key(text: str) -> dict[str, Any] | None:
    """`{"path": [["City", 5]], "namespace": "x"}` of a key's text; None for any other text.

    An id is an integer, a name a string; a key without either has null there. The text may come
    from a damaged or forged file: nothing in it is executed.
    """
    found = _KEY.fullmatch(text)
    if found is None:
        return None
    try:
        parts = [_value(part) for part in _PARTS.findall(found[1])]
        namespace = _value(found[2]) if found[2] else ""
    except (SyntaxError, ValueError):  # an escape of no character, an id that begins with zeros
        return None
    if len(parts) % 2:
        parts.append(None)
    kinds, idents = parts[::2], parts[1::2]
    if not all(isinstance(text, str) for text in (*kinds, namespace)):
        return None
    return {
        "path": [list(pair) for pair in zip(kinds, idents, strict=True)],
        "namespace": namespace,
    }


def _value(part: str) -> Any:
    # Most are ids and names without escapes, and need no parser.
    if part.isdigit() and part[0] != "0":
        return int(part)
    return part[1:-1] if part[0] in "'\"" and "\\" not in part else literal_eval(part)

"""Which property a misspelled name may have meant."""

from __future__ import annotations

import re
from ast import literal_eval
from collections.abc import Iterable
from functools import lru_cache

from bulkup.core.similar import similar_names

_KEY_ERROR = re.compile(r"KeyError: ('.*'|\".*\")", re.DOTALL)


def error_with_hint(error: str, names: Iterable[str]) -> str:
    """An error such as `KeyError: 'fist'`, with the property that was meant, if one is similar."""
    found = _KEY_ERROR.fullmatch(error)
    try:
        name = literal_eval(found[1]) if found else ""
    except (SyntaxError, ValueError):
        name = ""
    return error + _hint(name, tuple(sorted(names))) if isinstance(name, str) and name else error


@lru_cache(maxsize=1000)  # a run may have a million failures of one kind
def _hint(name: str, names: tuple[str, ...]) -> str:
    return hint(name, names)


def hint(name: str, names: Iterable[str]) -> str:
    """` (did you mean 'first'?)`, or an empty string."""
    close = similar_names(name, names)
    return f" (did you mean {close[0]!r}?)" if close else ""

"""Explains in one sentence what is wrong with a text, and where."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from bulkup.core.errors import UsageError
from bulkup.datastore.gql.hints import hint_of

if TYPE_CHECKING:
    from lark import Lark

SHOWN_CHARS = 20

_VALUE = "a value (5, 2.5, 'text', TRUE, NULL, KEY(...), DATETIME('...'), BLOB('...'))"
_OPERATOR = "an operator (=, !=, <, <=, >, >=, IN, NOT IN, CONTAINS, HAS ANCESTOR, IS NULL)"
_TERMINALS = {
    "STRING": "a string in quotes", "INTEGER": "a number", "COMMA": "a comma", "LPAR": "(",
    "RPAR": ")", "$END": "the end",
}  # fmt: skip
_LAST = (")", "the end")


class WrongError(Exception):
    """An error that the grammar cannot detect. `position` is an index into the text."""

    def __init__(self, position: int, message: str) -> None:
        super().__init__(message)
        self.position = position


def not_valid(text: str, what: str, position: int, message: str) -> UsageError:
    """`what`: `condition` or `ancestor`. `position`: an index into the text."""
    rest = text[position : position + SHOWN_CHARS]
    near = f"character {position + 1} ({rest!a})" if rest.strip() else "its end"
    return UsageError(f"the {what} is not valid at {near}: {message}")


def unexpected(lark: Lark, text: str, what: str, position: int) -> UsageError:
    """The error for a position at which the text does not match the grammar."""
    rest = text[position:]
    if rest[:1] in ("'", '"', "`") and rest and not _is_closed(rest):
        return not_valid(text, what, position, f"the closing {rest[0]} is missing")
    names = _possible(lark, text[:position], what)
    words = list(_in_words(names))
    expected = f"expected {', '.join(words[:-1])}{' or ' if words[:-1] else ''}{words[-1]}"
    meant = hint_of(text, position) if what == "condition" else ""
    return not_valid(text, what, position, expected + (meant or _hint(names, rest)))


def _is_closed(rest: str) -> bool:
    quote = rest[0]
    return re.match(rf"{quote}(?:[^{quote}\\]|\\.)*{quote}", rest, re.DOTALL) is not None


def _possible(lark: Lark, before: str, what: str) -> set[str]:
    """The terminals that may follow the text `before`."""
    from lark import UnexpectedInput

    parser = lark.parse_interactive(before, start=what)
    try:
        parser.exhaust_lexer()
    except UnexpectedInput:  # it is valid only with the part that is cut off here
        return set()
    return set(parser.accepts())  # type: ignore[no-untyped-call]


def _in_words(names: set[str]) -> Iterator[str]:
    if "FLOAT" in names:
        yield _VALUE if "NAME" not in names else "a property"
    elif "NAME" in names:
        yield "a kind" if "STRING" in names else "a property"
    elif "EQUAL" in names:
        yield _OPERATOR
    else:
        words = (_TERMINALS.get(name) or name.lstrip("_") for name in names)
        yield from sorted(words, key=lambda word: (word in _LAST, word)) or ["something else"]


def _hint(names: set[str], rest: str) -> str:
    if rest.startswith("@"):
        return "; there are no bindings, so write the value"
    word = re.match(r"[^\W0-9]\w*", rest)
    if "FLOAT" in names and "NAME" not in names:
        if rest[:5].upper() == "ARRAY":
            return "; an array goes with IN and NOT IN"
        if word and not rest[word.end() :].startswith("("):
            return f"; quote strings: '{word[0]}'"
        if rest.startswith("="):
            return "; write = once"
    return ""

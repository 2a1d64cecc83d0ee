"""Parses text into conditions. Nothing in the text is evaluated. An error is one sentence that says
what is wrong, and where."""

from __future__ import annotations

import functools
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from bulkup.core.errors import UsageError
from bulkup.core.typed_key import typed_key
from bulkup.datastore.gql.conditions import (
    Condition,
    KeyLiteral,
    depth,
)
from bulkup.datastore.gql.explaining import WrongError, not_valid, unexpected

if TYPE_CHECKING:
    from lark import Lark

MAX_DEPTH = 20
"""How deeply ANDs and ORs may be nested. Protobuf refuses messages of more than 100 levels, and
each AND or OR takes two."""


def parse_condition(text: str) -> Condition:
    """Parse a condition such as `age > 30 AND country = 'CH'`. Raises UsageError."""
    condition: Condition = _parsed(text, "condition")
    if depth(condition) > MAX_DEPTH:
        raise UsageError(
            f"the condition has more than {MAX_DEPTH} ANDs and ORs inside each other; write a "
            "simpler one"
        )
    return condition


def parse_key(text: str) -> KeyLiteral:
    """Parse a key such as `KEY(Customer, 5)`, or one as bulkup prints it:
    `Key('Customer', 5, namespace='x')`. Raises UsageError."""
    typed = typed_key(text.strip())
    if typed is not None and all(ident is not None for _, ident in typed["path"]):
        path = tuple((kind, ident) for kind, ident in typed["path"])
        return _checked_key(text, path, typed["namespace"] or None)
    key: KeyLiteral = _parsed(text, "ancestor")
    return key


def _checked_key(text: str, path: Any, namespace: str | None) -> KeyLiteral:
    from bulkup.datastore.gql.building import checked_key

    try:
        return checked_key(0, path, None, namespace)
    except WrongError as error:
        raise not_valid(text, "ancestor", error.position, str(error)) from None


def _parsed(text: str, start: str) -> Any:
    from lark import UnexpectedInput

    if not text.strip():
        raise UsageError(f"the {start} is empty; {_EXAMPLES[start]}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        message = "there is a character that UTF-8 cannot encode"
        raise not_valid(text, start, error.start, message) from None
    try:
        return _lark().parse(text, start=start)
    except UnexpectedInput as error:
        at, is_end = error.pos_in_stream, getattr(error, "token", None) == ""
        raise unexpected(_lark(), text, start, len(text) if at is None or is_end else at) from None
    except WrongError as error:
        raise not_valid(text, start, error.position, str(error)) from None


_EXAMPLES = {
    "condition": "write one like age > 30 AND country = 'CH'",
    "ancestor": "write a key like KEY(Customer, 5)",
}


@functools.cache
def _lark() -> Lark:
    from lark import Lark

    from bulkup.datastore.gql.building import Builder

    grammar = files(__package__).joinpath("grammar.lark").read_text("utf-8")
    return Lark(grammar, parser="lalr", start=["condition", "ancestor"], transformer=Builder())

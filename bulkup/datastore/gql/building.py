"""Builds conditions and keys from what the grammar has found in a text."""

from __future__ import annotations

import base64
import binascii
import math
import re
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

from lark import Token, Transformer, v_args

from bulkup.datastore.gql.conditions import (
    KEY_PROPERTY,
    Comparison,
    Condition,
    KeyLiteral,
    Value,
    joined,
)
from bulkup.datastore.gql.explaining import WrongError

_ESCAPES = {"0": "\0", "b": "\b", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a"}
_ESCAPES |= {"%": "\\%", "_": "\\_"}  # as on Google's servers: the backslash stays
_ESCAPES |= {char: char for char in "\\'\"`"}
_QUOTED = re.compile(r"`(?:[^`\\]|\\.|``)+`", re.DOTALL)


@v_args(inline=True)
class Builder(Transformer[Any, Any]):
    """Called for each of the grammar's rules while a text is parsed, so that no text is nested too
    deeply for it."""

    def condition(self, found: Condition) -> Condition:
        return found

    def ancestor(self, found: KeyLiteral) -> KeyLiteral:
        return found

    def disjunction(self, *parts: Condition) -> Condition:
        return joined("OR", parts)

    def conjunction(self, *parts: Condition) -> Condition:
        return joined("AND", parts)

    def operator(self, token: Token) -> Token:
        return token

    def forward(self, name: Token, operator: Token, value: Any) -> Condition:
        return _comparison(name, str(operator), value)

    def backward(self, value: Any, operator: Token, name: Token) -> Condition:
        mirrored = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
        return _comparison(name, mirrored.get(str(operator), str(operator)), value)

    def is_in(self, name: Token, values: Any) -> Condition:
        return _comparison(name, "IN", values)

    def is_not_in(self, name: Token, values: Any) -> Condition:
        return _comparison(name, "NOT IN", values)

    def contains(self, name: Token, value: Any) -> Condition:
        return _comparison(name, "=", value)

    def contained(self, value: Any, name: Token) -> Condition:
        return _comparison(name, "=", value)

    def has_ancestor(self, name: Token, key: Any) -> Condition:
        return _comparison(name, "HAS ANCESTOR", key)

    def has_descendant(self, key: Any, name: Token) -> Condition:
        return _comparison(name, "HAS ANCESTOR", key)

    def is_null(self, name: Token) -> Condition:
        return _comparison(name, "=", None)

    def name(self, token: Token) -> Token:
        return token

    def list(self, *values: Any) -> tuple[Any, ...]:
        one = values[0]
        return one if len(values) == 1 and isinstance(one, tuple) else values

    def array(self, *values: Any) -> tuple[Any, ...]:
        return values

    def string(self, token: Token) -> Any:
        return _unquoted(token)

    def integer(self, token: Token) -> int:
        return _integer(token)

    def float(self, token: Token) -> Any:
        number = float(token)
        if math.isinf(number):
            raise WrongError(_at(token), "the number is too large for 64 bits")
        return number

    def true(self) -> bool:
        return True

    def false(self) -> bool:
        return False

    def null(self) -> None:
        return None

    def datetime(self, token: Token) -> Any:
        return _datetime(token)

    def blob(self, token: Token) -> bytes:
        return _blob(token)

    def key(self, project: Any, database: Any, namespace: Any, path: Any) -> KeyLiteral:
        position, elements = path
        return replace(checked_key(position, elements, project, namespace), database=database)

    def project(self, token: Token) -> str:
        return _unquoted(token)

    def database(self, token: Token) -> str:
        return _unquoted(token)

    def namespace(self, token: Token) -> str:
        return _unquoted(token)

    def path(self, *elements: Any) -> Any:
        return elements[0][0], tuple(element for _, element in elements)

    def element(self, kind: Any, ident: Token) -> Any:
        text = kind if not hasattr(kind, "type") else _unquoted(kind)
        is_id = ident.type == "INTEGER"
        return _at(ident), (text, _integer(ident) if is_id else _unquoted(ident))

    def kind(self, name: Any) -> Any:
        return name


def _at(token: Token) -> int:
    return token.start_pos or 0


def _comparison(name: Token, operator: str, value: Value) -> Comparison:
    text, at = _unquoted(name), _at(name)
    values = value if isinstance(value, tuple) else (value,)
    if operator in ("IN", "NOT IN") and not values:
        raise WrongError(at, f"{operator} needs at least one value")
    is_of_key = text == KEY_PROPERTY
    if operator == "HAS ANCESTOR" and not is_of_key:
        raise WrongError(at, f"only {KEY_PROPERTY} has an ancestor")
    if is_of_key and not all(isinstance(one, KeyLiteral) for one in values):
        raise WrongError(at, f"{KEY_PROPERTY} is compared with keys: KEY(Customer, 5)")
    return Comparison(text, operator, value)


def _unquoted(token: Token) -> str:
    """The value of a string, or of a name whose parts may be in backquotes: a.`b c`."""
    if token.type == "STRING":
        return _unescaped(token, _at(token))
    return _QUOTED.sub(lambda found: _unescaped(found[0], _at(token) + found.start()), token)


def _unescaped(quoted: str, at: int) -> str:
    quote = quoted[0]

    def meant(found: re.Match[str]) -> str:
        if not found[1]:
            return quote
        if found[1] not in _ESCAPES:
            message = "there is no such escape; write a backslash as \\\\"
            raise WrongError(at + 1 + found.start(), message)
        return _ESCAPES[found[1]]

    return re.sub(rf"\\(.)|{quote}{quote}", meant, quoted[1:-1], flags=re.DOTALL)


def _integer(token: Token) -> int:
    if len(token) < 30 and -(1 << 63) <= int(token) < 1 << 63:
        return int(token)
    raise WrongError(_at(token), "the number has more than 64 bits")


_DATETIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6}0*)?"
    r"([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def _datetime(token: Token) -> datetime:
    text = _unquoted(token)
    if _DATETIME.fullmatch(text):
        try:
            return datetime.fromisoformat(text.upper()).astimezone(timezone.utc)
        except (ValueError, OverflowError):
            pass
    raise WrongError(_at(token), "a time is written like 2026-11-28T09:00:00.5Z")


def _blob(token: Token) -> bytes:
    text = _unquoted(token).rstrip("=")
    try:
        if not set(text) & {"+", "/"}:  # not in the web-safe alphabet
            padded = text + "=" * (-len(text) % 4)
            return base64.b64decode(padded, altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        pass
    raise WrongError(_at(token), "a BLOB is written in web-safe base64")


def checked_key(position: int, path: Any, project: str | None, namespace: str | None) -> KeyLiteral:
    for kind, ident in path:
        if not kind:
            raise WrongError(position, "a kind of the key is empty")
        if ident in (0, ""):
            raise WrongError(position, "an id of a key is not 0, and a name is not empty")
    return KeyLiteral(tuple(path), project, namespace)

"""Converts conditions, and whole queries, to text that is valid GQL."""

from __future__ import annotations

import base64
import re
from datetime import datetime, timezone
from typing import Any

from bulkup.datastore.gql.conditions import Comparison, Condition, Junction, KeyLiteral, Value

_PLAIN = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_KEYWORDS = frozenset(
    """
    aggregate all ancestor and any as asc avg between binary by contains count count_up_to cursor
    desc descendant distinct div false from group has having in is join like limit mod not null
    offset on or order over parent regexp rlike select sum true where xor
    """.split()  # noqa: SIM905  # what Google's servers refuse as a name without backquotes
)
_ESCAPES = {"\\": "\\\\", "\0": "\\0", "\b": "\\b", "\n": "\\n", "\r": "\\r", "\t": "\\t"}


def condition_text(condition: Condition) -> str:
    """The condition as text, which `parse_condition` turns back into the same condition."""
    if isinstance(condition, Comparison):
        return f"{name_text(condition.name)} {condition.operator} {value_text(condition.value)}"
    parts = [
        f"({condition_text(part)})" if isinstance(part, Junction) else condition_text(part)
        for part in condition.parts
    ]
    return f" {condition.operator} ".join(parts)


def name_text(name: str) -> str:
    if _PLAIN.fullmatch(name) and name.lower() not in _KEYWORDS:
        return name
    return _quoted(name, "`")


def value_text(value: Value) -> str:
    if isinstance(value, tuple):
        return f"ARRAY({', '.join(map(value_text, value))})"
    if isinstance(value, KeyLiteral):
        return key_text(value)
    if value is None or isinstance(value, bool):
        return {None: "NULL", True: "TRUE", False: "FALSE"}[value]
    if isinstance(value, str):
        return _quoted(value, "'")
    if isinstance(value, bytes):
        return f"BLOB('{base64.urlsafe_b64encode(value).decode().rstrip('=')}')"
    if isinstance(value, datetime):
        moment = value.astimezone(timezone.utc).replace(tzinfo=None).isoformat()
        return f"DATETIME('{moment}Z')"
    if isinstance(value, float):
        return _float_text(value)
    return str(value) if isinstance(value, int) else value.text


def key_text(key: KeyLiteral) -> str:
    given = {"PROJECT": key.project, "DATABASE": key.database, "NAMESPACE": key.namespace}
    parts = [f"{of}({value_text(name)})" for of, name in given.items() if name is not None]
    for kind, ident in key.path:
        parts += [name_text(kind), value_text(ident)]
    return f"KEY({', '.join(parts)})"


def _float_text(value: float) -> str:
    text = repr(value)
    if "e" not in text or "." in text:
        return text
    digits, _, exponent = text.partition("e")
    return f"{digits}.0e{exponent}"


def _quoted(text: str, quote: str) -> str:
    inside = "".join(_ESCAPES.get(c, c) for c in text)
    return f"{quote}{inside.replace(quote, chr(92) + quote)}{quote}"


def query_text(pb: Any, condition: Condition | None) -> str:
    """A Query message, whose filter is `condition`, as `SELECT * FROM Person WHERE age > 30`."""
    keys_only = [one.property.name for one in pb.projection] == ["__key__"]
    words = ["SELECT", "__key__" if keys_only else "*"]
    for kind in pb.kind:
        words += ["FROM", name_text(kind.name)]
    if condition is not None:
        words += ["WHERE", condition_text(condition)]
    if pb.order:
        orders = [
            name_text(order.property.name) + (" DESC" if order.direction == 2 else "")
            for order in pb.order
        ]
        words += ["ORDER BY", ", ".join(orders)]
    return " ".join(words)

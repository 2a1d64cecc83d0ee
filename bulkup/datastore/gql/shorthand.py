"""The conditions of `bulkup diff` and `bulkup rewind`, which compare two stores.

Both sides are read in key order, so a condition can only say which values a property equals. For a
single property there is a short form, `status=open`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from bulkup.core.errors import UsageError
from bulkup.core.visible import visible
from bulkup.datastore.gql.conditions import COMPARISONS, Comparison, KeyLiteral, Value, conjuncts
from bulkup.datastore.gql.parsing import parse_condition
from bulkup.datastore.queries import Filter


def equalities(text: str) -> Iterator[Filter]:
    """The filters that must all hold. Raises UsageError."""
    try:
        condition = parse_condition(text)
    except UsageError:
        name, equals, value = text.partition("=")
        if not (name and equals) or value.startswith("="):
            raise
        condition = Comparison(name, "=", _value(name, value))
    for one in conjuncts(condition):
        if not isinstance(one, Comparison) or one.operator not in ("=", "IN") or _has_key(one):
            raise UsageError(
                f"--where {visible(text)}: both sides are read in the order of keys, so write only "
                "PROPERTY = VALUE and PROPERTY IN (...), joined with AND, without keys"
            )
        compared: Any = list(one.value) if isinstance(one.value, tuple) else one.value
        yield Filter(one.name, COMPARISONS[one.operator], compared)


def _has_key(one: Comparison) -> bool:
    values = one.value if isinstance(one.value, tuple) else (one.value,)
    return any(isinstance(value, KeyLiteral) for value in values)


def _value(name: str, text: str) -> Value:
    """Read a value as JSON, or else as a string."""
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):
        return text
    if isinstance(value, (dict, list)):
        raise UsageError(f"--where {name}: {text} is not a single value; compare with one value")
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise UsageError(f"--where {name}: {text} has more than 64 bits")
    plain: Value = value
    return plain

"""A condition as data: what a query's filter says, independent of a target."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

KEY_PROPERTY = "__key__"

COMPARISONS = {
    "=": "EQUAL",
    "!=": "NOT_EQUAL",
    "<": "LESS_THAN",
    "<=": "LESS_THAN_OR_EQUAL",
    ">": "GREATER_THAN",
    ">=": "GREATER_THAN_OR_EQUAL",
    "IN": "IN",
    "NOT IN": "NOT_IN",
    "HAS ANCESTOR": "HAS_ANCESTOR",
}
"""The operators, and their names in the API."""

ONE_VALUE = frozenset({"=", "IN", "HAS ANCESTOR"})
"""The entities that these operators match come in key order."""


@dataclass(frozen=True)
class KeyLiteral:
    """A key. A part that is None is taken from the run's target."""

    path: tuple[tuple[str, int | str], ...]
    project: str | None = None
    namespace: str | None = None
    database: str | None = None


@dataclass(frozen=True)
class Unwritable:
    """A value that GQL has no literal for, such as a geographical point; for display only."""

    text: str


Literal: TypeAlias = "bool | int | float | str | bytes | datetime | KeyLiteral | Unwritable | None"
Value: TypeAlias = "Literal | tuple[Literal, ...]"


@dataclass(frozen=True)
class Comparison:
    name: str
    operator: str
    """One of COMPARISONS."""
    value: Value
    """A tuple is an array."""


@dataclass(frozen=True)
class Junction:
    """At least two conditions; none of them is a junction with the same operator."""

    operator: str
    """`AND` or `OR`."""
    parts: tuple[Condition, ...]


Condition: TypeAlias = "Comparison | Junction"


def joined(operator: str, parts: tuple[Condition, ...]) -> Condition:
    """Combine one or several conditions into one."""
    flat: list[Condition] = []
    for part in parts:
        same = isinstance(part, Junction) and part.operator == operator
        flat += part.parts if same and isinstance(part, Junction) else [part]
    return flat[0] if len(flat) == 1 else Junction(operator, tuple(flat))


def conjuncts(condition: Condition) -> tuple[Condition, ...]:
    """The conditions that must all hold."""
    if isinstance(condition, Junction) and condition.operator == "AND":
        return condition.parts
    return (condition,)


def comparisons(condition: Condition) -> Iterator[Comparison]:
    if isinstance(condition, Junction):
        for part in condition.parts:
            yield from comparisons(part)
    else:
        yield condition


def depth(condition: Condition) -> int:
    """How deeply junctions are nested."""
    deepest, waiting = 0, [(condition, 0)]
    while waiting:  # no recursion, because the condition may be too deep for it
        one, outside = waiting.pop()
        if isinstance(one, Junction):
            deepest = max(deepest, outside + 1)
            waiting += [(part, outside + 1) for part in one.parts]
    return deepest

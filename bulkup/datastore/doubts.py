"""Values that Datastore stores but that may not be what the user meant.

A datetime without a time zone counts as UTC, but most of them are local times. A number that
changes between integer and float becomes a different value to every filter: 2 is not 2.0.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import Enum
from typing import Any, TypeAlias

from bulkup.datastore.messages import Pb

_values: Any = dict.values


class Doubt(Enum):
    NAIVE = "naive"
    TO_FLOAT = "to float"
    TO_INT = "to int"


Doubts: TypeAlias = list[tuple[str, Doubt]]
"""Pairs of a property's name and the doubt, in the order in which they are found."""


def note_doubts(doubts: Doubts, name: str, original: Pb | None, value: Any) -> None:
    """Note a doubt about a value to write, if there is one. `original`: the Value message that it
    replaces; None if the property is new. Must be cheap, because it is called for many values."""
    look = _LOOK.get(type(value))
    if look is not None:
        doubt = look(original, value)
        if doubt is not None:
            doubts.append((name, doubt))


def _of_datetime(_: Pb | None, value: Any) -> Doubt | None:
    return Doubt.NAIVE if value.tzinfo is None else None


def _of_float(original: Pb | None, _: Any) -> Doubt | None:
    was_int = original is not None and original.WhichOneof("value_type") == "integer_value"
    return Doubt.TO_FLOAT if was_int else None


def _of_int(original: Pb | None, _: Any) -> Doubt | None:
    was_float = original is not None and original.WhichOneof("value_type") == "double_value"
    return Doubt.TO_INT if was_float else None


def _of_list(_: Pb | None, value: Any) -> Doubt | None:
    return Doubt.NAIVE if any(map(_is_naive, value)) else None


def _of_dict(_: Pb | None, value: Any) -> Doubt | None:
    # Not `value.values()`, which would decode what nobody has read.
    return Doubt.NAIVE if any(map(_is_naive, _values(value))) else None


def _is_naive(value: Any) -> bool:
    return type(value) is datetime and value.tzinfo is None


_LOOK: dict[type, Callable[[Pb | None, Any], Doubt | None]] = {
    datetime: _of_datetime,
    float: _of_float,
    int: _of_int,
    list: _of_list,
    dict: _of_dict,
}

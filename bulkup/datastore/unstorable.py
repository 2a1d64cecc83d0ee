"""What to write instead of a value that Datastore cannot store."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import os
from collections.abc import Awaitable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

_INSTEAD: dict[type, str] = {
    datetime.date: "a datetime, such as datetime.combine(value, time(), timezone.utc)",
    datetime.time: "a str, such as value.isoformat(), or a datetime",
    datetime.timedelta: "a number, such as value.total_seconds()",
    tuple: "a list",
    set: "a list, such as sorted(value)",
    frozenset: "a list, such as sorted(value)",
    range: "a list",
    bytearray: "bytes",
    memoryview: "bytes",
    Decimal: "a float or a str, such as str(value)",
    Fraction: "a float or a str, such as str(value)",
    complex: "a list of two floats",
    UUID: "a str, such as str(value)",
    os.PathLike: "a str, such as str(value)",
    enum.Enum: "its value, such as value.value",
    type: "a str",
    Iterator: "a list, such as list(value)",
}
_REMOVE = "the whole new value (bulkup.REMOVE removes properties of the entity itself)"


def why_unstorable(value: Any) -> str:
    """A message such as `Datastore cannot store a set; use a list, such as sorted(value)`."""
    instead = _instead(value)
    return f"Datastore cannot store a {_type_name(value)}{instead and f'; use {instead}'}"


def _type_name(value: Any) -> str:
    """The name of a value's type. A type of numpy or pandas has its package: `numpy.int64`."""
    type_ = type(value)
    package = type_.__module__.partition(".")[0]
    return f"{package}.{type_.__name__}" if package in ("numpy", "pandas") else type_.__name__


def _instead(value: Any) -> str:
    """What to store instead; empty if there is no advice."""
    if isinstance(value, Awaitable):
        return "what it returns: await it, in an async def"
    for type_, instead in _INSTEAD.items():
        if isinstance(value, type_):
            return instead
    if type(value).__module__.partition(".")[0] == "numpy":
        is_array = bool(getattr(value, "shape", ()))
        return f"a value of Python, such as value.{'tolist' if is_array else 'item'}()"
    if (type(value).__module__, type(value).__name__) == ("bulkup.authoring.writes", "Remove"):
        return _REMOVE
    if dataclasses.is_dataclass(value):
        return "a dict, such as dataclasses.asdict(value)"
    return ""

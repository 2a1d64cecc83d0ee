"""Parameter values and types as strings.

A value's string is what a user types after `-p NAME=`, and what a run stores to resume with the
same values: `value_type(...).parse(to_text(value)) == value`.
"""

from __future__ import annotations

import enum
import json
import re
import typing
from datetime import date, datetime, timezone
from typing import Any

NONE_TEXT = "@none"
"""Stands for None in a parameter that may be any string, even `none` or the empty string.

The string `@none` itself is written `@@none`, and so on. `@` means nothing to a shell.
"""
NONE_LIKE = re.compile(r"@+none", re.ASCII)


def to_text(value: Any) -> str:
    """The string that `parse` turns back into `value`.

    Raises ValueError for a value that has no such string (a lone surrogate, an integer with more
    digits than Python prints) and TypeError for an unsupported type.
    """
    text = _to_text(value)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{ascii(value)[:80]} is not a valid string") from None
    return text


def type_text(annotation: Any) -> str:
    """An annotation as its author would write it."""
    if isinstance(annotation, type) and typing.get_origin(annotation) is None:
        return annotation.__qualname__
    return re.sub(r"\b(?:typing|datetime|builtins)\.", "", str(annotation))


def _to_text(value: Any) -> str:
    if value is None:
        return NONE_TEXT
    # Enum before str and int, which it may be as well; bool before int; datetime before date.
    if isinstance(value, enum.Enum):
        return _escaped(value.name)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return float.__repr__(value)
    if isinstance(value, str):
        return _escaped(value)
    if isinstance(value, datetime):
        return in_utc(value).isoformat()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, (list, tuple)):
        items = [to_text(item) for item in value]
        if items and all(_goes_unquoted(item) for item in items):
            return ",".join(items)
        return json.dumps(items)
    raise TypeError(f"a {type(value).__name__} cannot be stored as a parameter")


def _escaped(text: str) -> str:
    return f"@{text}" if NONE_LIKE.fullmatch(text) else text


def _goes_unquoted(item: str) -> bool:
    return (
        bool(item)
        and item == item.strip()
        and "," not in item
        and not item.startswith("[")
        and item.lower() != "none"
    )


def in_utc(value: datetime) -> datetime:
    if value.utcoffset() is None:
        return value.replace(tzinfo=timezone.utc)
    try:
        return value.astimezone(timezone.utc)
    except OverflowError:
        raise ValueError from None

"""Turns cattrs's errors into a sentence about the property that is not of its field's type."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, get_args, get_origin

from bulkup.authoring.text_form import type_text
from bulkup.core.user_traceback import error_line
from bulkup.core.visible import visible

_SHOWN_CHARS = 40


class _Step(NamedTuple):
    name: Any
    """The name of a property, a key of a dict, or the index of an element."""
    type: Any


def mismatch(
    error: BaseException, values: Any, model: str, at: tuple[str, Any] | None = None
) -> str:
    """A sentence such as `property 'age' is a str, but Person wants int`. `at`: the property that
    was converted, and its type; None if all properties were."""
    leaves = list(_leaves(error, () if at is None else (_Step(*at),)))
    steps, leaf = leaves[0]
    others = f" (and {len(leaves) - 1} more properties)" if len(leaves) > 2 else ""
    others = " (and another property)" if len(leaves) == 2 else others
    if not steps:
        return f"no {model} can be made of it: {error_line(leaf)}"
    where = f"property {path_text(step.name for step in steps)!r}"
    try:
        value = _value_at(values, steps)
    except (KeyError, IndexError, TypeError):
        return f"{where} is missing, and {model} has no default for it{others}"
    wants = steps[-1].type
    is_what = "None" if value is None else _with_article(type(value).__name__)
    if _is_choice(wants) and isinstance(value, (str, int)):
        text = visible(value) if isinstance(value, str) else str(value)
        is_what = text if len(text) <= _SHOWN_CHARS else f"{text[: _SHOWN_CHARS - 1]}…"
    return f"{where} is {is_what}, but {model} wants {_short(wants)}{others}"


def is_only_missing(error: BaseException) -> bool:
    """Whether properties are missing, and nothing else is wrong."""
    return all(isinstance(leaf, KeyError) for _, leaf in _leaves(error, ()))


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


def _is_choice(wants: Any) -> bool:
    """Whether the type lists its values, as an Enum or a Literal does."""
    if get_origin(wants) is Literal or (isinstance(wants, type) and issubclass(wants, enum.Enum)):
        return True
    return any(map(_is_choice, get_args(wants)))


def _short(annotation: Any) -> str:
    return re.sub(r"(?:[\w<>]+\.)+(?=\w)", "", type_text(annotation))


def path_text(names: Iterator[Any]) -> str:
    """`home.city`, `others[1].city`"""
    text = ""
    for name in names:
        if isinstance(name, int):
            text += f"[{name}]"
        else:
            text += f".{name}" if text else f"{name}"
    return text


def _leaves(
    error: BaseException, steps: tuple[_Step, ...]
) -> Iterator[tuple[tuple[_Step, ...], BaseException]]:
    if not isinstance(error, BaseExceptionGroup):
        yield steps, error
        return
    for inner in error.exceptions:
        # cattrs adds the place as a note: a string with attributes.
        notes = [n for n in getattr(inner, "__notes__", ()) if hasattr(n, "type")]
        more = tuple(
            _Step(note.name if hasattr(note, "name") else note.index, note.type)  # not str.index
            for note in reversed(notes)
        )
        yield from _leaves(inner, steps + more)


def _value_at(values: Any, steps: tuple[_Step, ...]) -> Any:
    for step in steps:
        values = values[step.name]
    return values

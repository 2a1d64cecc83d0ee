"""Parameter values from strings, by type. Nothing here knows about updaters."""

from __future__ import annotations

import enum
import json
import re
import types
import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from bulkup.authoring.text_form import NONE_LIKE, NONE_TEXT, in_utc, to_text, type_text

SUPPORTED = (
    "str, int, float, bool, date, datetime, an Enum, Literal[...], list[...] of these, "
    "and Optional[...] or `... | None` of them"
)

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DATETIME = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[T ](?P<time>[0-9]{2}:[0-9]{2})(?P<second>:[0-9]{2})?(?:\.(?P<fraction>[0-9]{1,6}))?"
    r"(?P<zone>Z|[+-][0-9]{2}:[0-9]{2})?)?",
    re.IGNORECASE,
)
_BOOLS = {
    **dict.fromkeys(("true", "yes", "1", "on"), True),
    **dict.fromkeys(("false", "no", "0", "off"), False),
}


class UnsupportedTypeError(TypeError):
    """An annotation that no string can be converted to. The message is the annotation."""


@dataclass(frozen=True)
class ValueType:
    """How values of one annotation are read.

    `parse` takes a string, `fit` an object that Python code passed. Both return the value, and
    raise ValueError if it is not valid.
    """

    name: str
    """`int`, `date`, `red | green`, `list of int`."""
    form: str
    """What a valid string looks like: `a whole number such as 42`."""
    parse: Callable[[str], Any]
    fit: Callable[[Any], Any]
    wordy: bool = False
    """True if `none` may be one of the values, in an Enum or a Literal."""


def value_type(annotation: Any) -> ValueType:
    """How to read values of `annotation`, a type. Raises UnsupportedTypeError."""
    annotation = _plain(annotation)
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        inner = [arg for arg in typing.get_args(annotation) if arg is not types.NoneType]
        if len(inner) == len(typing.get_args(annotation)) or len(inner) != 1:
            raise UnsupportedTypeError(type_text(annotation))
        return _optional(value_type(inner[0]))
    if origin is typing.Literal:
        return _literal(typing.get_args(annotation))
    if annotation is list or origin is list:
        return _list((typing.get_args(annotation) or (str,))[0])
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return _enum(annotation)
    simple = _SIMPLE.get(annotation) if isinstance(annotation, type) else None
    if simple is None:
        raise UnsupportedTypeError(type_text(annotation))
    return simple


def type_of_default(default: Any) -> Any:
    """The annotation to assume for an unannotated parameter with this default."""
    if default is None:
        return str | None
    if isinstance(default, (list, tuple)):
        item_types = {type(item) for item in default}
        return list[item_types.pop()] if len(item_types) == 1 else list[str]  # type: ignore[misc]
    return type(default)


def _plain(annotation: Any) -> Any:
    """Unwrap Annotated, NewType and type aliases."""
    while True:
        if typing.get_origin(annotation) is typing.Annotated:
            annotation = annotation.__origin__
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        else:
            return annotation


def _optional(inner: ValueType) -> ValueType:
    if inner is _STR:
        form = f"any string, or {NONE_TEXT} for None"
    else:
        form = f"{inner.form}, or none"

    def parse(text: str) -> Any:
        if text == NONE_TEXT:
            return None
        if inner is not _STR and text.strip().lower() == "none":
            if inner.wordy:
                try:
                    return inner.parse(text)
                except ValueError:
                    return None
            return None
        return inner.parse(text)

    return ValueType(
        f"{inner.name} | None",
        form,
        parse,
        lambda value: None if value is None else inner.fit(value),
        wordy=inner.wordy,
    )


def _literal(values: Sequence[Any]) -> ValueType:
    choices = [value for value in values if value is not None]
    by_text = {to_text(value): value for value in choices if not isinstance(value, bytes)}
    if not choices or len(by_text) < len(choices):
        # bytes, nothing but None, or both 1 and "1", which a string cannot tell apart.
        raise UnsupportedTypeError(type_text(typing.Literal[tuple(values)]))
    name = " | ".join(by_text)

    def parse(text: str) -> Any:
        if text not in by_text:
            raise ValueError
        return by_text[text]

    def fit(value: Any) -> Any:
        # 1 == True == 1.0, but only one of them is listed.
        for choice in choices:
            if choice == value and type(choice) is type(value):
                return choice
        raise ValueError

    literal = ValueType(name, f"one of {', '.join(by_text)}", parse, fit, wordy=True)
    return _optional(literal) if None in values else literal


def _enum(members: type[enum.Enum]) -> ValueType:
    names = list(members.__members__)
    if not names:
        raise UnsupportedTypeError(f"{members.__qualname__}, an Enum without members")

    def parse(text: str) -> enum.Enum:
        text = text[1:] if NONE_LIKE.fullmatch(text) else text
        if text in members.__members__:
            return members[text]
        for member in members:
            if str(member.value) == text:
                return member
        found = {members[name] for name in names if name.lower() == text.lower()}
        if len(found) != 1:
            raise ValueError
        return found.pop()

    def fit(value: Any) -> enum.Enum:
        # A combination of Flags is an instance too, but has no name to store it by.
        if isinstance(value, members) and value.name in members.__members__:
            return value
        raise ValueError

    return ValueType(" | ".join(names), f"one of {', '.join(names)}", parse, fit, wordy=True)


def _list(annotation: Any) -> ValueType:
    item = value_type(annotation)
    if item.name.startswith("list of") or item.name.endswith("| None"):
        raise UnsupportedTypeError(f"list[{type_text(annotation)}]")

    def parse(text: str) -> list[Any]:
        if not text.strip():
            raise ValueError
        if not text.lstrip().startswith("["):
            return [item.parse(part.strip()) for part in text.split(",")]
        try:
            parts = json.loads(text)
        except RecursionError:
            raise ValueError from None
        if not all(isinstance(part, (str, int, float)) for part in parts):
            raise ValueError
        return [item.parse(part if isinstance(part, str) else to_text(part)) for part in parts]

    def fit(value: Any) -> list[Any]:
        if not isinstance(value, (list, tuple)):
            raise ValueError
        return [item.fit(part) for part in value]

    return ValueType(
        f"list of {item.name}",
        f"a comma-separated list ({item.form}), or a JSON list of strings ([]: none of them)",
        parse,
        fit,
    )


def _parse_str(text: str) -> str:
    if text == NONE_TEXT:
        raise ValueError
    return text[1:] if NONE_LIKE.fullmatch(text) else text


def _parse_bool(text: str) -> bool:
    try:
        return _BOOLS[text.strip().lower()]
    except KeyError:
        raise ValueError from None


def _parse_date(text: str) -> date:
    text = text.strip()
    if not _DATE.fullmatch(text):
        raise ValueError
    return date.fromisoformat(text)


def _parse_datetime(text: str) -> datetime:
    # Checked here, because fromisoformat accepts more forms with each Python version.
    match = _DATETIME.fullmatch(text.strip())
    if not match:
        raise ValueError
    zone = (match["zone"] or "Z").upper().replace("Z", "+00:00")
    fraction = (match["fraction"] or "").ljust(6, "0")
    return in_utc(
        datetime.fromisoformat(
            f"{match['date']}T{match['time'] or '00:00'}{match['second'] or ':00'}.{fraction}{zone}"
        )
    )


def _fits(*wanted: type, but: type | None = None) -> Callable[[Any], Any]:
    def fit(value: Any) -> Any:
        if not isinstance(value, wanted) or (but is not None and isinstance(value, but)):
            raise ValueError
        return value

    return fit


def _fit_float(value: Any) -> float:
    try:
        return float(_fits(int, float, but=bool)(value))
    except OverflowError:
        raise ValueError from None


_STR = ValueType("str", "any string", _parse_str, _fits(str))
_SIMPLE: dict[type, ValueType] = {
    str: _STR,
    int: ValueType("int", "a whole number such as 42", int, _fits(int, but=bool)),
    float: ValueType("float", "a number such as 0.5", float, _fit_float),
    bool: ValueType("bool", "true or false", _parse_bool, _fits(bool)),
    date: ValueType("date", "a date such as 2024-01-31", _parse_date, _fits(date, but=datetime)),
    datetime: ValueType(
        "datetime",
        "a date and time such as 2024-01-31T12:00:00+02:00 (in UTC when no offset is given)",
        _parse_datetime,
        lambda value: in_utc(_fits(datetime)(value)),
    ),
}

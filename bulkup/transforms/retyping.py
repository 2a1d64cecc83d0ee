"""Changes to a property's type. Strict: a value without an exact equivalent fails."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone, tzinfo
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from google.cloud.datastore import Entity

from bulkup.core.errors import UsageError
from bulkup.transforms.transform import Transform, checked_name, shown

TypeName = Literal["str", "int", "float", "bool", "datetime"]

_INT = re.compile(r"0|-?[1-9][0-9]{0,19}", re.ASCII)
"""Without leading zeros: a string with some is a code of some kind, which would lose them."""
_FLOAT = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
_DATETIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"([T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:[0-9]{2})?)?",
    re.ASCII,
)
_MAX_EXACT = 2**53
"""Every whole number up to this one is exactly a float."""


@dataclass(frozen=True)
class _Reading:
    """How strings are read as times."""

    zone: tzinfo
    zone_name: str
    format: str | None


def _to_str(value: Any, reading: _Reading) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        if getattr(value, "nanosecond", 0) % 1000:
            raise ValueError("has nanoseconds")
        return (value if value.tzinfo else value.replace(tzinfo=timezone.utc)).isoformat()
    if isinstance(value, (int, float)):
        return repr(value)
    raise ValueError("is not a number, a boolean or a time")


def _to_int(value: Any, reading: _Reading) -> int:
    if isinstance(value, bool):
        return int(value)
    is_text = isinstance(value, str) and _INT.fullmatch(value)
    if not is_text and not (isinstance(value, float) and value.is_integer()):
        raise ValueError("is not a whole number")
    number = int(value)
    if not -(2**63) <= number < 2**63:
        raise ValueError("has more than 64 bits")
    return number


def _to_float(value: Any, reading: _Reading) -> float:
    if isinstance(value, str) and _INT.fullmatch(value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > _MAX_EXACT:
            raise ValueError("has more digits than a float")
        return float(value)
    if isinstance(value, str) and _FLOAT.fullmatch(value):
        number = float(value)
        if math.isinf(number):
            raise ValueError("is larger than any float")
        return number
    raise ValueError("is not a number")


_BOOLS: Mapping[object, bool] = {"true": True, "false": False, "1": True, "0": False}


def _to_bool(value: Any, reading: _Reading) -> bool:
    if isinstance(value, str) and value.lower() in _BOOLS:
        return _BOOLS[value.lower()]
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise ValueError("is neither true nor false (nor 1 or 0)")


def _to_datetime(value: Any, reading: _Reading) -> datetime:
    if not isinstance(value, str):
        raise ValueError("is not a string")
    if reading.format is not None:
        try:
            time = datetime.strptime(value, reading.format)
        except ValueError:
            raise ValueError(f"is not a time of the format {reading.format}") from None
    else:
        if not _DATETIME.fullmatch(value):
            raise ValueError("is not a time such as 2024-01-31 or 2024-01-31T12:00:00+02:00")
        try:
            time = datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError(f"is not a time ({error})") from None
    if time.tzinfo is None:
        time = _in_zone(time, reading)
    try:
        return time.astimezone(timezone.utc)
    except OverflowError:
        raise ValueError("is outside the years 1 to 9999") from None


def _in_zone(time: datetime, reading: _Reading) -> datetime:
    """A naive time in the zone. Raises ValueError unless it is exactly one moment there."""
    early, late = (time.replace(tzinfo=reading.zone, fold=fold) for fold in (0, 1))
    if early.utcoffset() == late.utcoffset():
        return early
    try:
        back = early.astimezone(timezone.utc).astimezone(reading.zone).replace(tzinfo=None)
    except OverflowError:
        raise ValueError("is outside the years 1 to 9999") from None
    how_often = "twice" if back == time else "never"
    raise ValueError(
        f"happens {how_often} in {reading.zone_name}, where the clocks change; write its offset"
    )


_CONVERSIONS: Mapping[str, tuple[type, Callable[[Any, _Reading], Any]]] = {
    "str": (str, _to_str),
    "int": (int, _to_int),
    "float": (float, _to_float),
    "bool": (bool, _to_bool),
    "datetime": (datetime, _to_datetime),
}


@dataclass(frozen=True)
class _Retype(Transform):
    name: str
    to: str
    reading: _Reading

    def __call__(self, entity: Entity) -> Entity:
        if not self.is_done(entity):
            entity[self.name] = self._converted(entity[self.name])
        return entity

    def is_done(self, entity: Entity) -> bool:
        return self.name not in entity or self._is_right(entity[self.name])

    def _is_right(self, value: Any) -> bool:
        if isinstance(value, list):
            return all(map(self._is_right, value))
        wanted = _CONVERSIONS[self.to][0]
        if isinstance(value, bool):  # which is an int, too
            return wanted is bool
        return value is None or isinstance(value, wanted)

    def _converted(self, value: Any) -> Any:
        if self._is_right(value):
            return value
        if isinstance(value, list):
            return [self._converted(element) for element in value]
        try:
            return _CONVERSIONS[self.to][1](value, self.reading)
        except ValueError as error:
            raise ValueError(
                f"property {self.name!r} is {shown(value)}, which {error}; it cannot become "
                f"{_an(self.to)}"
            ) from None


def retype(
    name: str, to: TypeName, *, timezone: str = "UTC", format: str | None = None
) -> Transform:
    """Convert a property to str, int, float, bool or datetime. It keeps its index flag.

    A value of that type, null, and an absent property are done. Each element of an array is
    converted. What has no exact equivalent raises ValueError with the property and the value: a
    string with anything but the number in it, a fraction as int, an int with too many digits for a
    float. Strings become times in ISO 8601, or in the `format` of `datetime.strptime`; one without
    an offset is a time in `timezone`, and fails if the clocks there skip or repeat it.
    """
    checked_name("property", name)
    if to not in _CONVERSIONS:
        raise UsageError(
            f"to={shown(to)} is not a type; use one of {', '.join(get_args(TypeName))}"
        )
    if to != "datetime" and (format is not None or timezone != "UTC"):
        raise UsageError(f"timezone and format are for to=datetime, not for to={to}")
    return _Retype(name, to, _Reading(_zone(timezone), timezone, _checked_format(format)))


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return timezone.utc
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(
            f"timezone={shown(name)} is not known here; use a name such as Europe/Zurich, or "
            "`pip install tzdata` if this machine has no time zones"
        ) from None


def _checked_format(format: str | None) -> str | None:
    if format is not None:
        example = datetime(2024, 1, 31, 12, 0, tzinfo=timezone.utc)
        try:
            datetime.strptime(example.strftime(format), format)
        except (ValueError, re.error) as error:
            raise UsageError(
                f"format={shown(format)} is not one of datetime.strptime ({error})"
            ) from None
    return format


def _an(type_name: str) -> str:
    return f"an {type_name}" if type_name == "int" else f"a {type_name}"

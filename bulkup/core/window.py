"""`--window 22:00-06:00 Europe/Zurich`: the part of the day in which a run works.

The times are local clock times in that zone. When clocks are set forward, an hour is skipped; a
window that begins or ends in it does so when the clocks are set. When clocks are set back, an hour
is repeated; a window begins and ends at the first of the two.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from functools import lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from bulkup.core.errors import UsageError

_FORM = re.compile(r"([0-9]{1,2}):([0-9]{2})\s*-\s*([0-9]{1,2}):([0-9]{2})(?:\s+(\S.*))?")
_OFFSET = re.compile(r"UTC([+-])([0-9]{2}):([0-9]{2})")
LOCALTIME = Path("/etc/localtime")


@dataclass(frozen=True)
class Window:
    start: time
    end: time
    zone: str
    """The name of a time zone, such as `Europe/Zurich`; or `UTC+02:00`."""

    @classmethod
    def parse(cls, text: str) -> Window:
        """Parse `22:00-06:00`, in this machine's zone or with a zone's name. Raises UsageError."""
        match = _FORM.fullmatch(text.strip())
        if match is None:
            raise UsageError(
                f"{text!r} is not a window; write it like 22:00-06:00 or "
                "'22:00-06:00 Europe/Zurich'"
            )
        hour, minute, last_hour, last_minute, zone = match.groups()
        try:
            start = time(int(hour), int(minute))
            end = time(int(last_hour) % 24 if last_hour == "24" else int(last_hour),
                       int(last_minute))  # fmt: skip
        except ValueError:
            raise UsageError(
                f"{text!r} is not a window: hours go to 23 and minutes to 59"
            ) from None
        if start == end:
            raise UsageError(
                f"{text!r} is not a window, because it ends when it begins; leave it out"
            )
        zone = zone or local_zone()
        _zone(zone)
        return cls(start, end, zone)

    def __str__(self) -> str:
        return f"{self.start:%H:%M}-{self.end:%H:%M} {self.zone}"

    def is_open(self, unix: float) -> bool:
        return any(opens <= unix < closes for opens, closes in self._around(unix))

    def opens(self, unix: float) -> datetime:
        """When the window opens next, in its zone, after a time at which it is closed."""
        at = min(opens for opens, _ in self._around(unix) if opens > unix)
        return datetime.fromtimestamp(at, _zone(self.zone))

    def _around(self, unix: float) -> Iterator[tuple[float, float]]:
        """When the window opens and closes, on the days around a time."""
        zone = _zone(self.zone)
        today = datetime.fromtimestamp(unix, zone).date()
        over_midnight = self.end < self.start
        for days in (-2, -1, 0, 1, 2):
            day = today + timedelta(days=days)
            last = day + timedelta(days=1) if over_midnight else day
            opens, closes = _instant(day, self.start, zone), _instant(last, self.end, zone)
            if opens < closes:  # otherwise the clocks skip all of it that day
                yield opens, closes


def local_zone() -> str:
    """The name of this machine's time zone, or its current offset if the zone has no name."""
    named = os.environ.get("TZ", "").lstrip(":")
    if not named:
        try:
            named = str(LOCALTIME.resolve()).partition("zoneinfo/")[2]
        except (OSError, RuntimeError):
            named = ""
    if named:
        try:
            _zone(named)
            return named
        except UsageError:
            pass
    offset = datetime.now().astimezone().utcoffset() or timedelta()
    minutes = round(offset.total_seconds() / 60)
    sign = "-" if minutes < 0 else "+"
    return f"UTC{sign}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}" if minutes else "UTC"


@lru_cache(maxsize=16)
def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return timezone.utc
    if (match := _OFFSET.fullmatch(name)) is not None:
        sign, hours, minutes = match.groups()
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        if offset < timedelta(hours=24):
            return timezone(-offset if sign == "-" else offset)
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(
            f"{name!r} is not a time zone that this machine knows; use a name such as "
            "Europe/Zurich or UTC (where the system has no time zones: pip install tzdata)"
        ) from None


def _instant(day: date, at: time, zone: tzinfo) -> float:
    """The first moment on that day at which the clocks of a zone show this time, or a later one."""
    shown = datetime.combine(day, at)
    first = shown.replace(tzinfo=zone, fold=0).timestamp()
    if datetime.fromtimestamp(first, zone).replace(tzinfo=None) == shown:
        return first
    # The clocks skip this time, so the result is the moment at which they are set.
    low, high = shown.replace(tzinfo=zone, fold=1).timestamp() - 1, first
    while high - low > 0.5:
        middle = (low + high) / 2
        if datetime.fromtimestamp(middle, zone).replace(tzinfo=None) >= shown:
            high = middle
        else:
            low = middle
    return float(round(high))

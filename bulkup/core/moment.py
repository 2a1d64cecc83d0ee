"""A moment to read at, as it is typed: `2026-11-28T09:00Z`, `20m` (20 minutes ago), or `now`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from bulkup.core.errors import UsageError

MICROS = 1_000_000

_LIVE_HISTORY_S = 3600
"""Older moments can be read only at whole minutes."""
_MARGIN_S = 600
"""Allows for the time that it takes to read a large kind."""


@dataclass(frozen=True)
class Moment:
    """A moment to read at. If neither `at` nor `ago_s` is set, it is now."""

    at: datetime | None = None
    ago_s: float | None = None

    @property
    def is_now(self) -> bool:
        return self.at is None and self.ago_s is None

    def micros(self, now: float) -> int | None:
        """Microseconds of Unix time; None for now. `now` is the time by the server's clock.

        `20m` gives a whole second. An hour ago or longer gives a whole minute, because only whole
        minutes can be read then.
        """
        if self.at is not None:
            since = self.at - datetime(1970, 1, 1, tzinfo=timezone.utc)
            return (since.days * 86400 + since.seconds) * MICROS + since.microseconds
        if self.ago_s is None:
            return None
        step_s = 1 if self.ago_s < _LIVE_HISTORY_S else 60
        return int((now - self.ago_s) // step_s) * step_s * MICROS

    def readable_for_long(self, now: datetime, *, up: bool = False) -> Moment:
        """Round `at` down to a whole minute (`up`: up to one), if soon only whole minutes can be
        read there."""
        if self.at is None or (now - self.at).total_seconds() < _LIVE_HISTORY_S - _MARGIN_S:
            return self
        minute = self.at.replace(second=0, microsecond=0)
        return Moment(minute + timedelta(minutes=1) if up and minute < self.at else minute)


NOW = Moment()


def parse_time(text: str) -> Moment:
    """Parse an ISO 8601 time with a zone. Raises UsageError."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{text!r} is not a time; write it like 2026-11-28T09:00Z, like 20m (20 minutes ago), "
            "or now"
        ) from None
    if at.tzinfo is None:
        raise UsageError(
            f"{text!r} has no time zone; write {text}{'' if 'T' in text else 'T00:00'}Z for UTC, "
            "or an offset such as +01:00"
        )
    try:
        return Moment(at.astimezone(timezone.utc))
    except OverflowError:
        raise UsageError(f"{text!r} is out of range; write a time of the past seven days") from None


def shown(micros: int | None) -> str:
    """`2026-11-28 09:00:00 UTC`, with a fraction if it has one; `now`."""
    if micros is None:
        return "now"
    at = datetime.fromtimestamp(micros // MICROS, timezone.utc)
    fraction = f".{micros % MICROS:06d}".rstrip("0") if micros % MICROS else ""
    return f"{at:%Y-%m-%d %H:%M:%S}{fraction} UTC"


def read_time(micros: int | None) -> str | None:
    """The time with all its digits, so that it can be used as input again; None for now."""
    if micros is None:
        return None
    at = datetime.fromtimestamp(micros // MICROS, timezone.utc)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{micros % MICROS:06d}Z"

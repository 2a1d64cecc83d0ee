"""A moment to read at, as it is typed: `2026-11-28T09:00Z`, `20m` (20 minutes ago), or `now`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from bulkup.core.errors import UsageError

MICROS = 1_000_000

_LIVE_HISTORY_S = 3600
"""What is older can be read at whole minutes only."""
_MARGIN_S = 600
"""Reading a large kind takes its time."""


@dataclass(frozen=True)
class Moment:
    """Neither `at` nor `ago_s`: now."""

    at: datetime | None = None
    ago_s: float | None = None

    @property
    def is_now(self) -> bool:
        return self.at is None and self.ago_s is None

    def micros(self, now: float) -> int | None:
        """Microseconds of Unix time, of `now` by the server's clock; None: now.

        `20m` is a whole second, and what is longer ago than an hour a whole minute, since nothing
        else can be read there.
        """
        if self.at is not None:
            since = self.at - datetime(1970, 1, 1, tzinfo=timezone.utc)
            return (since.days * 86400 + since.seconds) * MICROS + since.microseconds
        if self.ago_s is None:
            return None
        step_s = 1 if self.ago_s < _LIVE_HISTORY_S else 60
        return int((now - self.ago_s) // step_s) * step_s * MICROS

    def readable_for_long(self, now: datetime, *, up: bool = False) -> Moment:
        """A whole minute, at or before `at` (`up`: or after), if it is about to be read as such
        only."""
        if self.at is None or (now - self.at).total_seconds() < _LIVE_HISTORY_S - _MARGIN_S:
            return self
        minute = self.at.replace(second=0, microsecond=0)
        return Moment(minute + timedelta(minutes=1) if up and minute < self.at else minute)


NOW = Moment()


def parse_time(text: str) -> Moment:
    """An ISO 8601 time with a zone. Raises UsageError."""
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
    """With all its digits, so that it can be given again; None: now."""
    if micros is None:
        return None
    at = datetime.fromtimestamp(micros // MICROS, timezone.utc)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{micros % MICROS:06d}Z"

"""Windows by the clock on the wall: over midnight, and when clocks are set."""

from __future__ import annotations

import os
import re
import time as clock
from datetime import datetime, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkup.core import window
from bulkup.core.errors import UsageError
from bulkup.core.window import Window, local_zone

ZURICH = ZoneInfo("Europe/Zurich")


def at(text: str, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZURICH, fold=fold).timestamp()


def opens(text: str, when: float) -> str:
    return Window.parse(text).opens(when).isoformat()


def test_a_window_over_midnight() -> None:
    night = Window.parse("22:00-06:00 Europe/Zurich")
    assert str(night) == "22:00-06:00 Europe/Zurich"
    assert Window.parse(str(night)) == night
    assert not night.is_open(at("2026-07-01T21:59:59"))
    assert night.is_open(at("2026-07-01T22:00:00"))
    assert night.is_open(at("2026-07-02T05:59:59"))
    assert not night.is_open(at("2026-07-02T06:00:00"))
    assert night.opens(at("2026-07-02T06:00:00")).isoformat() == "2026-07-02T22:00:00+02:00"
    assert Window.parse("20:00-24:00 UTC") == Window.parse("20:00-00:00 UTC")


def test_the_same_hours_are_another_time_in_winter() -> None:
    noon = Window.parse("12:00-13:00 Europe/Zurich")
    assert noon.is_open(datetime(2026, 1, 15, 11, 30, tzinfo=timezone.utc).timestamp())
    assert noon.is_open(datetime(2026, 7, 15, 10, 30, tzinfo=timezone.utc).timestamp())
    assert not noon.is_open(datetime(2026, 7, 15, 11, 30, tzinfo=timezone.utc).timestamp())


def test_a_time_that_the_clocks_skip_is_when_they_are_set() -> None:
    """On 29 March 2026, 02:00 is 03:00."""
    ends = Window.parse("22:00-02:30 Europe/Zurich")
    assert ends.is_open(at("2026-03-29T01:59:59"))
    assert not ends.is_open(at("2026-03-29T03:00:00"))
    assert opens("02:30-05:00 Europe/Zurich", at("2026-03-29T01:00:00")) == (
        "2026-03-29T03:00:00+02:00"
    )


def test_of_an_hour_that_comes_twice_the_first_counts() -> None:
    """On 25 October 2026, 03:00 is 02:00."""
    ends = Window.parse("22:00-02:30 Europe/Zurich")
    assert ends.is_open(at("2026-10-25T02:29:59", fold=0))
    assert not ends.is_open(at("2026-10-25T02:30:00", fold=0))
    assert not ends.is_open(at("2026-10-25T02:15:00", fold=1))
    begins = Window.parse("02:30-05:00 Europe/Zurich")
    assert begins.is_open(at("2026-10-25T02:15:00", fold=1))


@given(
    st.integers(0, 1439), st.integers(0, 1439),
    st.sampled_from(["UTC", "Europe/Zurich", "America/New_York", "Australia/Lord_Howe",
                     "Asia/Kathmandu", "UTC-03:30"]),
    st.datetimes(datetime(2025, 1, 1), datetime(2027, 12, 31)),
)  # fmt: skip
def test_a_closed_window_opens_at_the_first_moment(
    start: int, end: int, zone: str, when: datetime
) -> None:
    if start == end:
        return
    text = f"{start // 60}:{start % 60:02}-{end // 60}:{end % 60:02} {zone}"
    found, unix = Window.parse(text), when.replace(tzinfo=timezone.utc).timestamp()
    if found.is_open(unix):
        return
    opening = found.opens(unix).timestamp()
    assert unix < opening <= unix + timedelta(hours=50).total_seconds()
    assert not found.is_open(opening - 1)
    assert found.is_open(opening)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("22-6", "write it like"),
        ("", "write it like"),
        ("25:00-06:00 UTC", "hours go to 23"),
        ("22:60-06:00 UTC", "hours go to 23"),
        ("22:00-22:00 UTC", "ends when it begins"),
        ("22:00-06:00 Mars/Olympus", "is not a time zone"),
        ("22:00-06:00 ../../etc/passwd", "is not a time zone"),
        ("22:00-06:00 UTC+99:00", "is not a time zone"),
    ],
)
def test_what_is_not_a_window_is_refused(text: str, why: str) -> None:
    with pytest.raises(UsageError, match=re.escape(why)):
        Window.parse(text)


def test_the_zone_of_the_machine_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    assert str(Window.parse("22:00-06:00")) == "22:00-06:00 America/New_York"
    monkeypatch.delenv("TZ")
    link = tmp_path / "localtime"
    os.symlink("/usr/share/zoneinfo/Europe/Zurich", link)
    monkeypatch.setattr(window, "LOCALTIME", link)
    assert local_zone() == "Europe/Zurich"
    monkeypatch.setenv("TZ", "<+0530>-5:30")
    clock.tzset()
    try:
        assert local_zone() == "UTC+05:30"
    finally:
        monkeypatch.undo()
        clock.tzset()

"""Moments to read at."""

from __future__ import annotations

import click
import pytest

from bulkup.cli.values import Time
from bulkup.core.errors import UsageError
from bulkup.core.moment import MICROS, NOW, parse_time, shown

NINE = 1_795_856_400
"""2026-11-28 09:00 UTC."""


def micros(text: str, now: float = NINE + 7384.25) -> int | None:
    return Time().convert(text, None, None).micros(now)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-28T09:00Z", NINE * MICROS),
        ("2026-11-28 10:00+01:00", NINE * MICROS),
        ("2026-11-28T09:00:00.000001Z", NINE * MICROS + 1),
        ("now", None),
        ("NOW ", None),
        ("20s", (NINE + 7364) * MICROS),
        ("59m", (NINE + 7384 - 59 * 60) * MICROS),
        ("2h", (NINE + 180) * MICROS),  # a whole minute: nothing else can be read there
    ],
)
def test_a_time_is_read_to_the_microsecond(text: str, expected: int | None) -> None:
    assert micros(text) == expected


@pytest.mark.parametrize("text", ["2026-11-28T09:00", "2026-11-28", "2026-11-28 09:00:00"])
def test_a_time_without_a_zone_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(UsageError, match="has no time zone; write 2026-11-28T"):
        parse_time(text.replace(" ", "T"))


@pytest.mark.parametrize("text", ["", "yesterday", "90", "2026-13-01T00:00Z", "-5m", "09:00Z"])
def test_what_is_not_a_time_is_refused(text: str) -> None:
    with pytest.raises(click.UsageError, match=r"is not a time|has no time zone"):
        micros(text)


def test_what_will_soon_be_read_by_the_minute_only_is_a_whole_minute() -> None:
    at = parse_time("2026-11-28T09:00:30.5Z")
    soon, late = (parse_time(text).at for text in ("2026-11-28T09:45Z", "2026-11-28T09:55Z"))
    assert soon is not None
    assert late is not None
    assert at.readable_for_long(soon, up=True) == at
    assert at.readable_for_long(late) == parse_time("2026-11-28T09:00Z")
    assert at.readable_for_long(late, up=True) == parse_time("2026-11-28T09:01Z")
    whole = parse_time("2026-11-28T09:00Z")
    assert whole.readable_for_long(late, up=True) == whole


def test_a_time_is_shown_with_as_many_digits_as_it_has() -> None:
    assert shown(NINE * MICROS) == "2026-11-28 09:00:00 UTC"
    assert shown(NINE * MICROS + 250_000) == "2026-11-28 09:00:00.25 UTC"
    assert shown(NOW.micros(0)) == "now"

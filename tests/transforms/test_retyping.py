"""Conversions: exact, or refused with the property and the value."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from google.cloud.datastore import Entity, Key
from hypothesis import given
from hypothesis import strategies as st

from bulkup.core.errors import UsageError
from bulkup.transforms import retype

UTC = timezone.utc


def converted(value: Any, to: Any, **options: Any) -> Any:
    entity = Entity(Key("Thing", 1, project="p"))
    entity["a"] = value
    change = retype("a", to, **options)
    changed = change(entity)["a"]
    assert change.is_done(entity)
    assert type(change(entity)["a"]) is type(changed)
    return changed


@pytest.mark.parametrize(
    ("value", "to", "result"),
    [
        ("42", "int", 42), ("-7", "int", -7), ("0", "int", 0), (3.0, "int", 3), (True, "int", 1),
        ("9223372036854775807", "int", 2**63 - 1), (5, "int", 5), (None, "int", None),
        (["1", 2, None], "int", [1, 2, None]), ([], "int", []),
        (1, "float", 1.0), ("0.5", "float", 0.5), ("1e3", "float", 1000.0), ("12", "float", 12.0),
        (2**53, "float", float(2**53)),
        (5, "str", "5"), (0.1, "str", "0.1"), (True, "str", "true"), ("x", "str", "x"),
        (datetime(2024, 1, 31, 12, tzinfo=UTC), "str", "2024-01-31T12:00:00+00:00"),
        ("true", "bool", True), ("False", "bool", False), (0, "bool", False), ("1", "bool", True),
        ("2024-01-31", "datetime", datetime(2024, 1, 31, tzinfo=UTC)),
        ("2024-01-31 12:30", "datetime", datetime(2024, 1, 31, 12, 30, tzinfo=UTC)),
        ("2024-01-31T12:30:05.25+02:00", "datetime",
         datetime(2024, 1, 31, 10, 30, 5, 250_000, tzinfo=UTC)),
    ],
)  # fmt: skip
def test_what_has_an_exact_equivalent_is_converted(value: Any, to: Any, result: Any) -> None:
    changed = converted(value, to)
    assert (type(changed), changed) == (type(result), result)


@pytest.mark.parametrize(
    ("value", "to", "says"),
    [
        ("x41", "int", "'x41', which is not a whole number; it cannot become an int"),
        (" 42", "int", "is not a whole number"), ("4_2", "int", "is not a whole number"),
        ("٤٢", "int", "is not a whole number"), ("", "int", "is not a whole number"),
        ("08001", "int", "is not a whole number"), (1.5, "int", "is not a whole number"),
        ("9223372036854775808", "int", "more than 64 bits"), (b"1", "int", "not a whole number"),
        (float("nan"), "int", "is not a whole number"), (1e300, "int", "more than 64 bits"),
        (["1", "x"], "int", "'x', which is not a whole number"),
        (2**53 + 1, "float", "more digits than a float"), ("nan", "float", "is not a number"),
        (str(2**53 + 1), "float", "more digits than a float"), (True, "float", "is not a number"),
        ("1e400", "float", "larger than any float"), ("1,5", "float", "is not a number"),
        (b"x", "str", "is not a number, a boolean or a time"),
        ("maybe", "bool", "neither true nor false"), (2, "bool", "neither true nor false"),
        (5, "datetime", "is not a string"), ("31.1.2024", "datetime", "is not a time such as"),
        ("2024-02-30", "datetime", "is not a time"), ("2024-01-31T25:00", "datetime", "not a time"),
        ("0001-01-01T00:00+10:00", "datetime", "outside the years 1 to 9999"),
        ({"b": 1}, "int", "is not a whole number"),
    ],
)  # fmt: skip
def test_anything_else_is_refused_with_property_and_value(value: Any, to: Any, says: str) -> None:
    with pytest.raises(ValueError, match="property 'a' is ") as raised:
        converted(value, to)
    assert says in str(raised.value)


def test_a_time_without_an_offset_is_one_of_the_zone() -> None:
    zurich = {"timezone": "Europe/Zurich"}
    assert converted("2024-07-01T12:00", "datetime", **zurich) == datetime(
        2024, 7, 1, 10, tzinfo=UTC
    )
    assert converted("2024-01-01T12:00Z", "datetime", **zurich).hour == 12
    for when, how_often in (("2024-10-27T02:30", "twice"), ("2024-03-31T02:30", "never")):
        with pytest.raises(ValueError, match=f"happens {how_often} in Europe/Zurich"):
            converted(when, "datetime", **zurich)


def test_times_may_have_a_format() -> None:
    options = {"format": "%d.%m.%Y %H:%M", "timezone": "Europe/Zurich"}
    assert converted("31.01.2024 13:00", "datetime", **options).hour == 12
    with pytest.raises(ValueError, match="is not a time of the format"):
        converted("2024-01-31", "datetime", **options)


def test_what_an_error_shows_is_short_and_harmless() -> None:
    with pytest.raises(ValueError, match="it cannot become") as raised:
        converted("\x1b[31m" + "x" * 5000, "int")
    assert "\x1b" not in str(raised.value)
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"to": "decimal"},
            "to='decimal' is not a type; use one of str, int, float, bool, datetime",
        ),
        ({"to": "datetime", "timezone": "Mars/Base"}, "timezone='Mars/Base' is not known"),
        ({"to": "datetime", "timezone": "../../etc"}, "is not known"),
        ({"to": "datetime", "format": "%Q"}, "is not one of datetime.strptime"),
        ({"to": "int", "format": "%Y"}, "are for to=datetime, not for to=int"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        retype("a", **options)


@given(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive_as_strings(whole: int, fraction: float) -> None:
    assert converted(converted(whole, "str"), "int") == whole
    back = converted(converted(fraction, "str"), "float")
    assert (back, str(back)) == (fraction, str(fraction))


@given(
    st.datetimes(
        timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))]),
        min_value=datetime(2, 1, 1),
        max_value=datetime(9998, 1, 1),
    )
)
def test_times_survive_as_strings(time: datetime) -> None:
    assert converted(converted(time, "str"), "datetime") == time

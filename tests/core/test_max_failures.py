"""How many entities may fail, as a number or as a share of those handled."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkup.core.errors import UsageError
from bulkup.core.max_failures import MaxFailures


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, MaxFailures(0)),
        (-1, MaxFailures(-1)),
        ("10", MaxFailures(10)),
        ("-1", MaxFailures(-1)),
        ("1%", MaxFailures(share=0.01)),
        (" 0.5 %", MaxFailures(share=0.005)),
        ("0%", MaxFailures(share=0.0)),
        ("100%", MaxFailures(share=1.0)),
    ],
)
def test_a_number_and_a_share_are_read(value: Any, expected: MaxFailures) -> None:
    assert MaxFailures.of(value) == expected


@pytest.mark.parametrize(
    "value", [-2, True, 1.5, None, "", "%", "x", "-1%", "101%", "nan%", "1e3", "0.01", "1%%", "١"]
)
def test_anything_else_is_refused(value: Any) -> None:
    with pytest.raises(UsageError, match="use a whole number"):
        MaxFailures.of(value)


@pytest.mark.parametrize(
    ("text", "handled", "total", "allowed"),
    [
        ("1%", 0, None, 10),  # the first failures of a run do not stop it
        ("1%", 500, None, 10),
        ("1%", 500, 50_000, 10),
        ("1%", 5_000, None, 50),
        ("1%", 5_000, 50_000, 50),
        ("1%", 10, 300, 3),  # there are no thousand entities
        ("1%", 10, 99, 0),
        ("1%", 10, 0, 0),
        ("0%", 10**6, None, 0),
        ("100%", 10, 10, 10),
        ("7", 10, 10, 7),
        ("-1", 10, 10, -1),
    ],
)
def test_how_many_may_fail_by_now(text: str, handled: int, total: int | None, allowed: int) -> None:
    assert MaxFailures.of(text).allowed(handled, total) == allowed


@given(st.one_of(st.integers(-1, 10**9), st.integers(0, 10_000).map(lambda n: f"{n / 100:g}%")))
def test_what_is_stored_is_read_again(value: Any) -> None:
    read = MaxFailures.of(value)
    assert MaxFailures.of(read.stored) == MaxFailures.of(str(read)) == read


@given(st.integers(0, 10_000), st.integers(1, 10**7), st.integers(0, 10**7))
def test_no_more_than_the_share_of_all_may_fail(hundredths: int, total: int, handled: int) -> None:
    handled = min(handled, total)
    limit = MaxFailures.of(f"{hundredths / 100:g}%")
    assert limit.allowed(handled, total) * 10_000 <= hundredths * total

"""Slips of the finger, told from words that resemble each other."""

from __future__ import annotations

import pytest

from bulkup.core.similar import is_slip


@pytest.mark.parametrize(
    ("name", "other"),
    [("frist_name", "first_name"), ("adress", "address"), ("first__name", "first_name")],
)
def test_swapped_and_doubled_letters_are_slips(name: str, other: str) -> None:
    letters = "__" not in name
    assert is_slip(name, other) is letters
    assert is_slip(other, name) is letters


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("altitude", "latitude"), ("county", "country"), ("price", "prices"), ("from", "form"),
        ("state", "stats"), ("line1", "line2"), ("line12", "line21"), ("line1", "line11"),
        ("name", "name"), ("first_name", "firstname"), ("start_end", "end_start"), ("", "a"),
    ],
)  # fmt: skip
def test_words_are_not_slips(name: str, other: str) -> None:
    assert not is_slip(name, other)
    assert not is_slip(other, name)

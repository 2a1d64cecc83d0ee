"""Intervals of numbers that are known from a sample."""

from __future__ import annotations

from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkup.core.intervals import NUMBERS, population_estimate, sum_estimate
from bulkup.core.plan import CONFIDENCE, Estimate


@pytest.mark.parametrize(("total", "drawn"), [(1, 0), (7, 3), (30, 10), (60, 1), (200, 50)])
def test_all_numbers_of_a_plan_lie_in_their_intervals_in_95_of_100_samples(
    total: int, drawn: int
) -> None:
    """Exactly, since the probability of each sample is known: one number is outside so rarely that
    ten are in 5 of 100, even if never two at once. Whatever the number is."""
    estimates = [population_estimate(seen, drawn, total) for seen in range(drawn + 1)]
    for having in range(total + 1):
        held = sum(
            comb(having, seen) * comb(total - having, drawn - seen)
            for seen, estimate in enumerate(estimates)
            if estimate.low <= having <= estimate.high
        )
        assert held / comb(total, drawn) >= 1 - (1 - CONFIDENCE) / NUMBERS, having


@given(st.data())
def test_an_interval_holds_its_number_and_what_was_seen(data: st.DataObject) -> None:
    total = data.draw(st.integers(1, 10**9))
    drawn = data.draw(st.integers(0, min(total, 3000)))
    seen = data.draw(st.integers(0, drawn))
    estimate = population_estimate(seen, drawn, total)
    assert seen <= estimate.low <= estimate.count <= estimate.high <= total - (drawn - seen)
    mirrored = population_estimate(drawn - seen, drawn, total)
    assert (mirrored.low, mirrored.high) == (total - estimate.high, total - estimate.low)


def test_all_drawn_is_not_a_guess() -> None:
    assert population_estimate(3, 10, 10) == Estimate(3, 3, 3)
    assert sum_estimate({1: 2, 5: 1}, 10, 10) == Estimate(7, 7, 7)


def test_what_was_never_seen_may_still_be_there() -> None:
    none = population_estimate(0, 1000, 200_000)
    assert (none.count, none.low) == (0, 0)
    assert 1100 < none.high < 1300  # 6 of 1000: the rule of three, for ten numbers at once


def test_a_larger_sample_says_more() -> None:
    widths = [
        (estimate := population_estimate(drawn // 10, drawn, 10**6)).high - estimate.low
        for drawn in (10, 100, 1000, 10_000, 100_000)
    ]
    assert widths == sorted(widths, reverse=True)


def test_a_number_that_is_the_same_for_all_that_have_it_is_a_multiple() -> None:
    one = population_estimate(40, 100, 1000)
    assert sum_estimate({3: 40}, 100, 1000) == Estimate(3 * one.count, 3 * one.low, 3 * one.high)
    assert sum_estimate({}, 100, 1000).count == 0


def test_numbers_that_differ_have_an_interval_around_their_mean() -> None:
    estimate = sum_estimate({1: 30, 2: 30, 3: 30}, 90, 9000)
    assert estimate.count == 18_000
    assert 15_500 < estimate.low < 18_000 < estimate.high < 20_500

"""Intervals for numbers that are known only from a sample.

Entities are drawn one by one, without replacement, so how many of them have an outcome follows the
hypergeometric distribution. Inverting its tails (the method of Clopper and Pearson, for a finite
population) gives an interval that contains the true number as often as it claims, however rare the
outcome and however small the sample; a normal approximation does not. It shrinks to one number when
all entities are drawn.

A plan shows about ten numbers, and a single wrong one is too many. So the 5 % are shared among them
(Bonferroni): all of them lie in their intervals at once in at least 95 of 100 samples. With a
separate 95 % interval for each, one of ten numbers would be outside in up to 40 of 100 samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from bulkup.core.plan import CONFIDENCE, Estimate

NUMBERS = 10
"""How many numbers a plan predicts about its entities, besides how many there are."""

_TAIL = (1 - CONFIDENCE) / NUMBERS / 2
_NEGLIGIBLE = 1e-12
"""A share of the sum of a tail. Smaller terms are ignored, because terms decrease faster than
geometrically."""


def population_estimate(seen: int, drawn: int, total: int) -> Estimate:
    """How many of `total` entities have what `seen` of `drawn` have."""
    if drawn >= total:
        return Estimate.exact(seen)
    if not drawn:
        return Estimate(0, 0, total)
    rest = drawn - seen
    low, high = seen, total - rest
    if seen:
        low = _first(seen, high, lambda size: _at_least(seen, drawn, size, total) >= _TAIL)
    if rest:
        # The entities without it follow the same distribution: their lower bound gives our upper.
        others = _first(
            rest, total - seen, lambda size: _at_least(rest, drawn, size, total) >= _TAIL
        )
        high = total - others
    return Estimate(min(high, max(low, round(seen * total / drawn))), low, high)


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The smallest number for which `holds` is true, as it must be for all greater numbers."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _at_least(seen: int, drawn: int, having: int, total: int) -> float:
    """P(at least `seen` of `drawn` entities have it), when `having` of `total` have it."""
    if seen * total <= drawn * having:
        return 1.0  # no more than expected, so far from the tail
    most = min(drawn, having)
    if seen > most:
        return 0.0
    term = math.exp(
        _log_choose(having, seen)
        + _log_choose(total - having, drawn - seen)
        - _log_choose(total, drawn)
    )
    tail = term
    for k in range(seen, most):
        term *= (having - k) * (drawn - k) / ((k + 1) * (total - having - drawn + k + 1))
        tail += term
        if term < tail * _NEGLIGIBLE:
            break
    return tail


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def sum_estimate(values: Mapping[int, int], drawn: int, total: int) -> Estimate:
    """The sum of a number over `total` entities. `values` says how often each value was seen; zeros
    may be left out.

    If the number is 0 or one other value for each entity, the estimate is a multiple of
    `population_estimate`. Otherwise it uses Student's t, corrected for a finite population.
    """
    others = [value for value in values if value]
    if len(others) <= 1:
        value = others[0] if others else 1
        each = population_estimate(values.get(value, 0), drawn, total)
        return Estimate(each.count * value, each.low * value, each.high * value)
    sum_ = sum(value * times for value, times in values.items())
    if drawn >= total:
        return Estimate.exact(sum_)
    squares = sum(value * value * times for value, times in values.items())
    mean = sum_ / drawn
    variance = max(0.0, squares / drawn - mean * mean) * drawn / max(1, drawn - 1)
    half = total * _t(drawn - 1) * math.sqrt(variance / drawn * (1 - drawn / total))
    middle = mean * total
    return Estimate(
        max(sum_, round(middle)), max(sum_, math.floor(middle - half)), math.ceil(middle + half)
    )


_T = (
    (1, 127.4), (2, 14.09), (3, 7.46), (4, 5.60), (5, 4.78), (7, 4.03), (10, 3.59), (15, 3.29),
    (20, 3.16), (30, 3.03), (60, 2.92), (120, 2.87),
)  # fmt: skip
"""Quantiles 1 - _TAIL of Student's t by degrees of freedom; in between, the larger one is used."""


def _t(freedom: int) -> float:
    return next((t for at, t in reversed(_T) if at <= freedom), _T[0][1])

"""The number of commits in flight, against simulated servers: only their latency matters."""

from __future__ import annotations

import heapq
from collections.abc import Callable

import pytest

from bulkup.engine.throttle.concurrency import MAX_IN_FLIGHT, Concurrency

Latency = Callable[[int], float]
"""Latency of a commit in seconds, given how many are in flight."""


def simulate(concurrency: Concurrency, latency: Latency, *, page_s: float, pages: int) -> float:
    """Seconds until all pages are committed. Each page arrives `page_s` after the one before was
    taken."""
    now, arrives = 0.0, page_s
    in_flight: list[tuple[float, float]] = []
    while pages:
        now = max(now, arrives)
        while in_flight and in_flight[0][0] <= now:
            concurrency.answered(heapq.heappop(in_flight)[1])
        if len(in_flight) >= concurrency.value:
            concurrency.waited_for()
            now = in_flight[0][0]
            continue
        took = latency(len(in_flight) + 1)
        heapq.heappush(in_flight, (now + took, took))
        arrives = max(now, arrives) + page_s
        pages -= 1
    return max(end for end, _ in in_flight)


@pytest.mark.parametrize(("page_s", "commit_s"), [(0.1, 0.4), (0.1, 0.9), (0.05, 0.05), (0.1, 1.2)])
def test_slow_commits_are_hidden_as_by_the_best_fixed_depth(page_s: float, commit_s: float) -> None:
    best = min(
        simulate(Concurrency(fixed), lambda _: commit_s, page_s=page_s, pages=300)
        for fixed in range(1, MAX_IN_FLIGHT + 1)
    )
    ours = simulate(Concurrency(), lambda _: commit_s, page_s=page_s, pages=300)
    assert ours <= best / 0.9


def test_a_server_that_does_one_after_the_other_is_not_flooded() -> None:
    concurrency = Concurrency()
    simulate(concurrency, lambda in_flight: 0.2 * in_flight, page_s=0.01, pages=500)
    assert concurrency.value <= 8


def test_it_grows_again_where_a_server_has_become_able_to() -> None:
    concurrency = Concurrency()
    simulate(concurrency, lambda in_flight: 0.2 * in_flight, page_s=0.01, pages=300)
    assert concurrency.value <= 8
    simulate(concurrency, lambda _: 0.9, page_s=0.05, pages=800)
    assert concurrency.value >= 16


def test_a_fixed_depth_stays() -> None:
    concurrency = Concurrency(3)
    simulate(concurrency, lambda _: 5.0, page_s=0.1, pages=100)
    assert concurrency.value == 3


def test_it_never_passes_the_markers_window() -> None:
    concurrency = Concurrency()
    simulate(concurrency, lambda _: 100.0, page_s=0.001, pages=5000)
    assert concurrency.value == MAX_IN_FLIGHT

"""Charts of any timeline: they stay inside their drawing, and show what was there."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import pytest

from bulkup.core.vitals import Phase, Sample, Waits
from bulkup.report.charts import HEIGHT, MOST_POINTS, WIDTH, Chart, charts_of, nice_top, parts_of
from tests.report.samples import HOSTILE, dangers
from tests.report.timelines import sample, timeline, with_breaks

POINT = re.compile(r"[ML](-?[\d.]+) (-?[\d.]+)")


def points(chart: Chart, line: int = 0) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in POINT.findall(chart.lines[line].path)]


def assert_inside(chart: Chart) -> None:
    for line in range(len(chart.lines)):
        for x, y in points(chart, line):
            assert 0 <= x <= WIDTH
            assert 0 <= y <= HEIGHT
    for band in chart.bands:
        assert band.x >= 0
        assert band.x + band.width <= WIDTH + 2.1  # a moment is drawn two wide


def test_no_timeline_has_no_charts() -> None:
    assert charts_of(()) == ()
    assert parts_of(()) == ()


def test_one_sample_is_drawn() -> None:
    charts = charts_of(timeline(1))
    assert [chart.name for chart in charts] == ["throughput", "latency", "limit"]
    for chart in charts:
        assert_inside(chart)
        assert chart.x_labels == ("0 s",)
        assert "nan" not in chart.lines[0].path


def test_what_was_not_measured_has_no_chart() -> None:
    bare = [replace(one, median_s=None, p99_s=None, limit_per_s=None) for one in timeline(5)]
    assert [chart.name for chart in charts_of(bare)] == ["throughput"]


def test_thousands_of_samples_become_few_points_and_peaks_stay() -> None:
    samples = list(timeline(2000))
    samples[777] = replace(samples[777], rate=5000.0)
    chart = charts_of(samples)[0]
    drawn = points(chart)
    assert len(drawn) <= MOST_POINTS + 4
    assert min(y for _, y in drawn) == 0  # the peak is at the top
    assert chart.y_labels == ("5,000", "2,500", "0")
    assert (drawn[0][0], drawn[-1][0]) == (0, WIDTH)


def test_a_night_between_two_processes_is_a_narrow_gap() -> None:
    charts = charts_of(with_breaks())
    for chart in charts:
        assert_inside(chart)
        (gap,) = (band for band in chart.bands if band.kind == "gap")
        assert gap.width < WIDTH / 20
        assert gap.title == "9 h between two processes"
        assert chart.lines[0].path.count("M") >= 2  # the line ends there
        for x, _ in points(chart):
            assert not gap.x < x < gap.x + gap.width - 0.1
    assert charts[0].x_labels == ("0 s", "1 min 18 s")


def test_a_suspended_machine_is_a_gap_too() -> None:
    samples = [*timeline(30), *(replace(one, at=one.at + 900) for one in timeline(60)[30:])]
    (gap,) = (band for band in charts_of(samples)[0].bands if band.kind == "gap")
    assert gap.title == "15 min 1 s without a sample"


def test_holds_are_shaded_and_say_why() -> None:
    (hold,) = (band for band in charts_of(with_breaks())[0].bands if band.kind == "held")
    assert hold.title == "Held 8.0 s: the replica lags by 40 s"


@pytest.mark.parametrize("phase", [Phase.PAUSED, Phase.HELD, Phase.WAITING])
def test_a_run_that_ends_in_a_hold_shows_it(phase: Phase) -> None:
    samples = [*timeline(5), replace(sample(5), phase=phase), replace(sample(6), phase=phase)]
    (hold,) = charts_of(samples)[0].bands
    assert hold.title.endswith(" 1.0 s")
    (alone,) = charts_of(samples[:6])[0].bands
    assert alone.width == 2


def test_a_hold_lasts_since_its_runner_began_and_not_since_its_first_sample() -> None:
    held = [
        replace(one, phase=Phase.HELD, waits=Waits(held_s=1.5 + one.at - sample(0).at))
        for one in timeline(2)
    ]
    resumed = [replace(one, at=one.at + 60, runner=one.runner + 1) for one in held[:1]]
    titles = [band.title for band in charts_of([*held, *resumed])[0].bands if band.kind == "held"]
    assert [title.split(":")[0] for title in titles] == ["Held 2.5 s", "Held 1.5 s"]


def test_a_runner_with_one_sample_is_drawn_inside_at_the_end() -> None:
    samples = [*timeline(5), replace(sample(5), at=sample(5).at + 60, runner=9)]
    path = charts_of(samples)[0].lines[0].path
    x = float(path[path.rindex("M") + 1 :].split()[0])
    assert path.endswith("h4")
    assert x + 4 <= WIDTH


def test_why_a_run_was_held_is_shown_inert() -> None:
    samples = [replace(one, phase=Phase.HELD, why=HOSTILE * 100) for one in timeline(3)]
    (hold,) = charts_of(samples)[0].bands
    assert not dangers(hold.title)
    assert len(hold.title) < 1000


def test_a_clock_that_was_set_back_draws_nothing_backwards() -> None:
    samples = [sample(0), sample(1), replace(sample(2), at=sample(0).at - 3600), sample(3)]
    for chart in charts_of(samples):
        assert_inside(chart)
        xs = [x for x, _ in points(chart)]
        assert xs == sorted(xs)


def test_values_that_cannot_be_are_drawn_inside() -> None:
    samples = [replace(one, rate=rate) for one, rate in zip(timeline(3), (-5, 0, 1e9), strict=True)]
    assert_inside(charts_of(samples)[0])


def test_charts_next_to_each_other_have_the_same_scale() -> None:
    slow = timeline(10)
    fast = [replace(one, rate=one.rate * 10) for one in slow]
    assert charts_of(slow, fast)[0].y_labels == charts_of(fast, slow)[0].y_labels


def test_a_limit_is_drawn_in_steps() -> None:
    samples = [
        replace(sample(number), limit_per_s=500.0 if number < 5 else 750.0) for number in range(10)
    ]
    drawn = points(charts_of(samples)[2])
    for (x, y), (next_x, next_y) in pairwise(drawn):
        assert x == next_x or y == next_y


def test_each_chart_says_what_it_shows() -> None:
    throughput, latency, _ = charts_of(with_breaks())
    assert throughput.text.startswith("In 1 min 18 s of work. Entities per second: between 0 and ")
    assert throughput.text.endswith("1 hold. 1 break.")
    assert "Median: between 14 ms and 22 ms" in latency.text


@pytest.mark.parametrize(
    ("largest", "top"),
    [(0, 1), (0.7, 0.8), (1, 1), (41, 50), (530, 600), (999, 1000), (float("inf"), 1)],
)
def test_an_axis_ends_at_a_round_number(largest: float, top: float) -> None:
    assert nice_top(largest) == pytest.approx(top)


def test_the_time_of_all_processes_is_added_up() -> None:
    parts = {part.style: part for part in parts_of(with_breaks())}
    assert parts["reading"].seconds == pytest.approx(0.18 * 39 + 2)
    assert parts["held"].seconds == 6
    assert sum(part.width for part in parts.values()) == pytest.approx(100)


def test_a_small_part_is_not_nothing() -> None:
    (only, *_) = parts_of([Sample(0, 1, waits=Waits(0.001, 99.0))])
    assert only.share == "<1%"

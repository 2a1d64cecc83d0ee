"""The rate limit over simulated hours: never above the curve, hardly below it."""

from __future__ import annotations

import heapq
import json
import math
import random
from collections.abc import Callable
from dataclasses import asdict
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkup.core.clock import Clock
from bulkup.core.errors import UsageError
from bulkup.core.events import Counts, Event, Progress
from bulkup.engine.progress import ProgressTracker
from bulkup.engine.throttle.max_rate import MaxRate
from bulkup.engine.throttle.ramp import Warm, ramp_seconds
from bulkup.engine.throttle.rate import RateLimiter
from tests.examples import examples

AUTO, OFF = MaxRate(), MaxRate.parse("off")
MORNING = 1_760_000_000.0


class Time:
    """Passes only when told to."""

    def __init__(self) -> None:
        self.now = 0.0
        self.suspended = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def clock(self) -> Clock:
        return Clock(lambda: self.now, lambda: MORNING + self.now + self.suspended, self.sleep)


class Run:
    """Sends as much as it may, and looks at each commit whether it was too early."""

    def __init__(
        self, rate: MaxRate = AUTO, *, ramps: bool = True, warm: Warm | None = None
    ) -> None:
        self.time = Time()
        self.limiter = RateLimiter(rate, ramps=ramps, clock=self.time.clock(), warm=warm)
        self.sent = 0
        self.commits: list[tuple[float, int]] = []

    def commit(self, operations: int, late: Callable[[], float] = lambda: 0.0) -> None:
        while wait := self.limiter.wait_s(operations):
            self.time.sleep(wait + late())
        self.limiter.spend(operations)
        self.sent += operations
        self.commits.append((self.time.now, self.sent))

    def work(
        self,
        seconds: float,
        size: Callable[[], int] | None = None,
        latency: float | None = 0.3,
        share: float = 1.0,
        late: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`share`: of the allowed rate, for it has not more to do."""
        until = self.time.now + seconds
        while self.time.now < until:
            operations = size() if size else self.limiter.batch_size(500)
            if share < 1:
                self.time.sleep(operations / self.limiter.rate / share)
            self.commit(operations, late)
            if latency is not None:
                self.limiter.answered(operations, latency)


def ramp_curve(seconds: float, first: float = 500.0) -> float:
    """Operations that the ramp allows in `seconds`, if the rate is always fully used."""
    steps = int(seconds // 300)
    whole = sum(first * 1.5**step * 300 for step in range(steps))
    return whole + first * 1.5**steps * (seconds - steps * 300)


def holds(run: Run, curve: Callable[[float], float], after_s: float = 60.0) -> None:
    """Delivered within 5 % below the curve at each commit, and never above it."""
    before = 0
    for at, sent in run.commits:
        allowed = curve(at)
        assert sent <= allowed + 0.1, at
        if at >= after_s:
            assert before >= 0.95 * allowed, at  # just before this commit, the lowest moment
        before = sent


# --- the ramp ---


def test_with_work_at_all_times_the_ramp_is_followed() -> None:
    run = Run()
    run.work(1800)
    holds(run, ramp_curve)
    assert run.limiter.rate == 500 * 1.5**6


@pytest.mark.parametrize("most", [50, 200, 500])
def test_whatever_the_batches_and_however_late_the_sender(most: int) -> None:
    rng = random.Random(most)
    run = Run()
    run.work(700, size=lambda: rng.randint(1, most), late=lambda: rng.uniform(0, 0.2))
    holds(run, ramp_curve)


def test_asking_in_slices_comes_to_the_same() -> None:
    run = Run()
    while run.time.now < 400:
        size = run.limiter.batch_size(500)
        while run.limiter.wait_s(size):
            run.time.sleep(0.03)
        run.commit(size)
    holds(run, ramp_curve)


def test_steps_come_every_five_minutes_and_are_announced() -> None:
    run = Run()
    run.work(110)
    assert run.limiter.text() == "ramp-up 500/s, next step in 3:10"
    run.work(188.5)
    assert run.time.now < 300
    assert run.limiter.rate == 500
    run.work(1)
    assert run.time.now >= 300
    assert run.limiter.rate == 750
    assert run.limiter.text().startswith("ramp-up 750/s, next step in ")


def test_nothing_goes_at_the_very_start_and_one_batch_after_its_time() -> None:
    run = Run()
    assert run.limiter.wait_s(500) == 1.0
    assert run.limiter.wait_s(50) == pytest.approx(0.1)
    run.time.sleep(1.0)
    assert run.limiter.wait_s(500) == 0.0


def test_time_without_traffic_earns_nothing() -> None:
    run = Run()
    run.work(240)
    run.time.sleep(280)
    run.work(50)
    assert run.limiter.rate == 500
    run.work(30)
    assert run.limiter.rate == 750


def test_after_a_pause_nothing_is_made_up_for() -> None:
    run = Run()
    run.work(60)
    run.time.sleep(200)
    before, began = run.sent, run.time.now
    run.work(30)
    for at, sent in run.commits:
        if at >= began:
            # A batch that was waiting to go, and half a second.
            assert sent - before <= 500 * (at - began) + 500 + 250


def test_one_large_batch_leaves_no_room_for_many_small_ones() -> None:
    run = Run(MaxRate(10), ramps=False)
    run.commit(500)
    run.commit(1)
    run.time.sleep(600)
    before = run.time.now
    for _ in range(100):
        run.commit(1)
    assert run.time.now - before > 9


def test_traffic_below_the_allowed_rate_earns_nothing() -> None:
    run = Run()
    run.work(3600, share=0.8)
    assert run.limiter.rate == 500
    assert run.limiter.text() == "ramp-up 500/s, not all used"


def test_a_step_that_traffic_reached_is_kept_while_most_of_it_is_used() -> None:
    run = Run()
    run.work(601)
    assert run.limiter.rate == 1125
    run.work(3600, share=0.67)
    assert run.limiter.rate == 1125


def test_five_minutes_with_little_traffic_cost_a_step_each() -> None:
    run = Run()
    run.work(901)
    assert run.limiter.rate == 500 * 1.5**3
    run.work(320, share=0.3)
    assert run.limiter.rate == 500 * 1.5**2
    run.time.sleep(280)
    assert run.limiter.rate == 750
    run.time.sleep(7200)
    assert run.limiter.rate == 500


def test_a_machine_that_was_suspended_begins_lower() -> None:
    run = Run()
    run.work(901)
    run.time.suspended += 650
    assert run.limiter.rate == 750


def test_a_clock_that_is_set_back_does_not_keep_a_ramp_warm() -> None:
    run = Run()
    run.work(601)
    run.time.suspended -= 86400
    run.work(1, share=0.5)
    run.time.sleep(620)
    assert run.limiter.rate == 500


# --- from one runner to the next ---


def warm_after(seconds: float, pause_s: float) -> tuple[Warm, Run]:
    first = Run()
    first.work(seconds)
    warm = first.limiter.warm()
    assert warm is not None
    stored = json.loads(json.dumps(asdict(warm)))
    second = Run(warm=Warm(**{**stored, "used_at": stored["used_at"] - first.time.now - pause_s}))
    return warm, second


@pytest.mark.parametrize(
    ("pause_s", "steps"), [(5, 0), (280, 0), (320, 1), (580, 1), (620, 2), (86400, 3)]
)
def test_a_resumed_run_begins_with_what_is_still_warm(pause_s: float, steps: int) -> None:
    warm, second = warm_after(905, pause_s)
    assert warm.rate == 500 * 1.5**3
    assert second.limiter.rate == pytest.approx(500 * 1.5 ** (3 - steps))
    first_rate = second.limiter.rate
    second.work(120)
    holds(second, partial(ramp_curve, first=first_rate))


def test_a_resumed_run_keeps_the_rate_it_had_earned() -> None:
    warm, second = warm_after(242, 60)
    assert warm.earned_s == 240
    second.work(55)
    assert second.limiter.rate == 500
    second.work(10)
    assert second.limiter.rate == 750


def test_pauses_that_follow_each_other_add_up() -> None:
    _, second = warm_after(905, 200)
    second.time.sleep(200)
    assert second.limiter.rate == pytest.approx(500 * 1.5**2)
    warm = second.limiter.warm()
    assert warm is not None
    assert warm.used_at < MORNING + second.time.now - 90


def test_what_is_left_of_a_pause_counts_for_the_next_step_down() -> None:
    _, second = warm_after(905, 580)
    assert second.limiter.rate == pytest.approx(500 * 1.5**2)
    second.time.sleep(40)
    assert second.limiter.rate == pytest.approx(750)


def test_a_step_lost_takes_what_was_earned_with_it() -> None:
    warm, second = warm_after(545, 320)
    assert (warm.rate, warm.earned_s) == (750, 240)
    assert second.limiter.rate == 500
    second.work(280)
    assert second.limiter.rate == 500


@pytest.mark.parametrize(
    "warm",
    [
        Warm(math.nan, MORNING, 0.0),
        Warm(math.inf, MORNING, 0.0),
        Warm(-5.0, MORNING, 1e9),
        Warm(1e9, math.nan, 0.0),
        Warm(1e9, -math.inf, 0.0),
        Warm(1e9, 0.0, -1.0),
    ],
)
def test_a_damaged_record_restarts_the_ramp(warm: Warm) -> None:
    assert Run(warm=warm).limiter.rate == 500


def test_what_was_used_in_the_future_was_used_now() -> None:
    run = Run(warm=Warm(1125.0, MORNING + 86400, 0.0))
    assert run.limiter.rate == 1125
    run.time.sleep(301)
    assert run.limiter.rate == 750


# --- what the user says ---


@pytest.mark.parametrize(
    ("text", "rate", "shown"),
    [("auto", AUTO, "auto"), (" OFF ", OFF, "off"), ("200", MaxRate(200), "200"),
     ("0.5", MaxRate(0.5), "0.5")],
)  # fmt: skip
def test_a_rate_is_read_and_shown(text: str, rate: MaxRate, shown: str) -> None:
    assert MaxRate.parse(text) == rate
    assert str(rate) == shown
    assert MaxRate.parse(shown) == rate


@pytest.mark.parametrize("text", ["", "0", "-1", "nan", "inf", "fast", "1e999", "5/s"])
def test_a_rate_that_is_not_valid_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="auto, off, or entities per second"):
        MaxRate.parse(text)


@pytest.mark.parametrize(("rate", "ramps"), [(OFF, True), (OFF, False), (AUTO, False)])
def test_without_a_limit_nothing_waits_and_nothing_is_said(rate: MaxRate, ramps: bool) -> None:
    run = Run(rate, ramps=ramps)
    for _ in range(100):
        assert run.limiter.wait_s(10_000) == 0.0
        run.limiter.spend(10_000)
        run.limiter.refused("RESOURCE_EXHAUSTED")
        run.limiter.answered(500, 0.3)
    assert run.limiter.text() is None
    assert run.limiter.warm() is None
    assert run.limiter.batch_size(500) == 500


@pytest.mark.parametrize("per_s", [0.5, 7, 200, 3000])
def test_a_number_is_the_limit_where_there_is_no_ramp(per_s: float) -> None:
    run = Run(MaxRate(per_s), ramps=False)
    run.work(3600 if per_s <= 200 else 300)
    holds(run, lambda seconds: per_s * seconds)
    assert run.limiter.text() == f"at most {per_s:,}/s (--max-rate)"
    assert run.limiter.warm() is None


def test_slow_rates_go_in_small_batches() -> None:
    assert Run(MaxRate(200), ramps=False).limiter.batch_size(500) == 200
    assert Run(MaxRate(7.5), ramps=False).limiter.batch_size(500) == 7
    assert Run(MaxRate(0.1), ramps=False).limiter.batch_size(500) == 1


def test_a_number_cuts_the_ramp_off() -> None:
    run = Run(MaxRate(600))
    run.work(3600)
    holds(run, lambda seconds: min(500 * seconds, 150_000) + 600 * max(0, seconds - 300))
    assert run.limiter.text() == "at most 600/s (--max-rate)"
    # Not higher, though it ran for an hour: 600/s is no traffic that makes ready for more.
    warm = run.limiter.warm()
    assert warm is not None
    assert warm.rate == 750


def test_a_number_beyond_the_ramp_lifts_nothing() -> None:
    run = Run(MaxRate(100_000))
    run.work(350)
    holds(run, ramp_curve)
    assert run.limiter.text().startswith("ramp-up 750/s")


def test_what_goes_unasked_is_owed() -> None:
    run = Run(MaxRate(100), ramps=False)
    run.commit(100)
    run.limiter.spend(300)
    assert run.limiter.wait_s(100) == pytest.approx(4.0)
    run.sent += 300
    run.work(60)
    assert run.sent <= 100 * run.time.now + 0.1


def test_progress_tells_the_pace() -> None:
    run = Run(MaxRate(40), ramps=False)
    told: list[Event] = []
    progress = ProgressTracker(told.append, run.time.clock(), Counts(), run.limiter.text)
    run.work(2)
    progress.tick()
    run.limiter.refused("RESOURCE_EXHAUSTED")
    run.work(1)
    progress.tick()
    assert [event.rate_limit for event in told if isinstance(event, Progress)] == [
        "at most 40/s (--max-rate)",
        "slowed to 28/s: RESOURCE_EXHAUSTED, next try in 0:29",
    ]


# --- back-off ---


def test_a_refusal_slows_down_and_it_recovers_step_by_step() -> None:
    run = Run()
    run.work(20)
    run.limiter.refused("RESOURCE_EXHAUSTED")
    assert run.limiter.rate == 350
    assert run.limiter.text() == "slowed to 350/s: RESOURCE_EXHAUSTED, next try in 0:30"
    run.work(25)
    assert run.limiter.rate == 350
    run.work(7)
    assert run.limiter.rate == 350 * 1.25
    run.work(31)
    assert run.limiter.rate == 500
    assert run.limiter.text().startswith("ramp-up 500/s, next step in ")


def test_refusals_at_once_count_once() -> None:
    run = Run()
    run.work(20)
    for _ in range(8):
        run.limiter.refused("RESOURCE_EXHAUSTED")
    assert run.limiter.rate == 350
    run.time.sleep(9.9)
    run.limiter.refused("RESOURCE_EXHAUSTED")
    assert run.limiter.rate == 350
    run.time.sleep(0.2)
    run.limiter.refused("RESOURCE_EXHAUSTED")
    assert run.limiter.rate == pytest.approx(245)


def test_refusals_for_long_end_at_the_slowest_rate_and_it_comes_back() -> None:
    run = Run()
    for _ in range(60):
        run.limiter.refused("RESOURCE_EXHAUSTED")
        run.work(10)
    assert run.limiter.rate == 25
    assert run.limiter.batch_size(500) == 25
    run.work(600)
    assert run.limiter.rate == 500


def test_it_does_not_recover_while_nothing_is_answered() -> None:
    run = Run()
    run.limiter.refused("RESOURCE_EXHAUSTED")
    run.work(300, latency=None)
    assert run.limiter.rate == 350
    assert run.limiter.text().endswith("next try in 0:00")


def test_the_five_minutes_of_a_step_are_without_refusals() -> None:
    run = Run()
    run.work(280)
    run.limiter.refused("RESOURCE_EXHAUSTED")
    run.work(70)
    assert run.limiter.rate == 500
    run.work(280)
    assert run.limiter.rate == 500
    run.work(20)
    assert run.limiter.rate == 750


def test_after_recovery_it_is_never_above_the_ramp() -> None:
    run = Run()
    for _ in range(40):
        run.limiter.refused("RESOURCE_EXHAUSTED")
        run.work(70)
        assert run.limiter.rate <= 500
    holds(run, ramp_curve, after_s=math.inf)


@pytest.mark.parametrize("code", ["UNAVAILABLE", "FAILED_PRECONDITION", "OK"])
def test_other_answers_do_not_slow_down(code: str) -> None:
    run = Run()
    run.limiter.refused(code)
    assert run.limiter.rate == 500


def test_the_contention_of_a_few_entities_is_borne() -> None:
    run = Run()
    run.work(25)
    for _ in range(40):
        run.limiter.refused("ABORTED")
        run.work(25)
        assert run.limiter.rate >= 500


def test_aborted_commits_in_numbers_slow_down() -> None:
    run = Run()
    run.work(25)
    for _ in range(30):
        run.limiter.refused("ABORTED")
        run.work(4)
    assert run.limiter.rate < 100
    assert ": ABORTED, next try in " in run.limiter.text()


def test_a_limit_of_the_users_backs_off_too() -> None:
    run = Run(MaxRate(1000), ramps=False)
    run.work(10)
    run.limiter.refused("RESOURCE_EXHAUSTED")
    assert run.limiter.rate == 700
    run.work(100)
    assert run.limiter.text() == "at most 1,000/s (--max-rate)"
    slow = Run(MaxRate(3), ramps=False)
    for _ in range(5):
        slow.limiter.refused("RESOURCE_EXHAUSTED")
        slow.work(11)
    assert slow.limiter.rate == 3


@pytest.mark.parametrize("seed", range(3))
def test_through_refusals_and_slow_commits_what_is_allowed_is_delivered(seed: int) -> None:
    rng = random.Random(seed)
    run = Run()
    allowed, rates = 0.0, set()
    while run.time.now < 3600:
        at, rate = run.time.now, run.limiter.rate
        run.commit(run.limiter.batch_size(rng.choice([100, 500])))
        allowed += rate * (run.time.now - at)
        slow = int(run.time.now) % 1200 > 1100
        run.limiter.answered(100, 6.0 if slow else rng.uniform(0.2, 0.9))
        if rng.random() < 0.002:
            run.limiter.refused(rng.choice(["RESOURCE_EXHAUSTED", "ABORTED"]))
        rates.add(run.limiter.rate)
    assert 0.95 * allowed <= run.sent <= 1.001 * allowed
    assert len(rates) > 10


def test_several_senders_share_one_pace() -> None:
    run = Run()
    rng = random.Random(7)
    waiting = [rng.randint(1, 500) for _ in range(8)]
    while run.time.now < 900:
        run.time.sleep(0.02)
        while not run.limiter.wait_s(waiting[0]):
            run.commit(waiting.pop(0))
            waiting.append(rng.randint(1, 500))
    holds(run, ramp_curve)


# --- latency ---


def test_rising_latency_slows_down_and_it_recovers_when_that_passes() -> None:
    run = Run()
    run.work(60, latency=0.3)
    run.work(10, latency=5.0)
    assert run.limiter.rate == 500
    run.work(8, latency=5.0)
    assert run.limiter.text().startswith("slowed to 350/s: commits take 5.0 s, next try in 0:")
    run.work(60, latency=5.0)
    assert run.limiter.rate < 150
    run.work(400, latency=0.3)
    assert run.limiter.rate == 500


def test_latency_that_rises_within_bounds_is_not_trouble() -> None:
    run = Run()
    run.work(60, latency=0.1)
    run.work(250, latency=1.9)
    assert run.limiter.rate == 750


def test_short_spells_of_latency_are_not_trouble() -> None:
    run = Run()
    for _ in range(12):
        run.work(20, latency=0.3)
        run.work(6, latency=5.0)
    assert run.limiter.rate == 750


@pytest.mark.parametrize("latency", [1.5, 8.0])
def test_latency_that_was_always_so_is_not_trouble(latency: float) -> None:
    run = Run()
    run.work(310, latency=latency)
    assert run.limiter.rate == 750


def test_a_commit_that_takes_a_minute_moves_nothing() -> None:
    run = Run()
    for _ in range(10):
        run.work(30)
        run.limiter.answered(500, 60.0)
        assert run.limiter.rate >= 500


def test_latency_that_slowing_does_not_cure_is_normal_in_the_end() -> None:
    run = Run()
    run.work(60, latency=0.5)
    run.work(120, latency=6.0)
    assert run.limiter.rate < 150
    run.work(1200, latency=6.0)
    assert run.limiter.rate >= 500


# --- batch size ---


class Server:
    """Takes `fixed_s` for a commit, and `each_s` for an entity in it."""

    def __init__(self, fixed_s: float, each_s: float, noise: float = 0.0) -> None:
        self.fixed_s, self.each_s, self.noise = fixed_s, each_s, noise
        self.rng = random.Random(1)

    def __call__(self, entities: int) -> float:
        return (self.fixed_s + self.each_s * entities) * self.rng.uniform(
            1 - self.noise, 1 + self.noise
        )


def sizes(run: Run, server: Server, commits: int) -> list[int]:
    made = []
    for _ in range(commits):
        made.append(run.limiter.batch_size(500))
        latency = server(made[-1])
        run.time.sleep(latency)
        run.limiter.answered(made[-1], latency)
    return made


@pytest.mark.parametrize(
    ("fixed_s", "each_s"), [(0.1, 0.01), (0.05, 0.003), (0.2, 0.05), (0.0, 0.004), (0.5, 0.02)]
)
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_a_commit_comes_to_take_about_a_second_and_stays_so(
    fixed_s: float, each_s: float, noise: float
) -> None:
    run = Run(AUTO, ramps=False)
    sizes(run, Server(fixed_s, each_s, noise), 30)
    later = sizes(run, Server(fixed_s, each_s, noise), 100)
    for size in later:
        assert 0.6 <= fixed_s + each_s * size <= 1.4
    assert len(set(later)) <= 2


@pytest.mark.parametrize("latency", [0.02, 0.4, 1.2])
def test_quick_commits_stay_full(latency: float) -> None:
    assert set(sizes(Run(AUTO, ramps=False), Server(latency, 0.0), 50)) == {500}


def test_a_server_that_gets_quicker_gets_full_batches_again() -> None:
    run = Run(AUTO, ramps=False)
    assert sizes(run, Server(0.1, 0.02), 40)[-1] < 70
    assert sizes(run, Server(0.1, 0.0005), 60)[-1] == 500


def test_a_server_that_is_terribly_slow_gets_ten_at_a_time() -> None:
    assert sizes(Run(AUTO, ramps=False), Server(0.0, 1.0), 60)[-1] == 10


def test_batches_that_the_pace_made_small_are_full_again_with_it() -> None:
    run = Run(MaxRate(500), ramps=False)
    for _ in range(10):
        run.limiter.refused("RESOURCE_EXHAUSTED")
        run.time.sleep(11)
    assert run.limiter.batch_size(500) == 25
    server = Server(3.0, 0.0)
    assert 12 in sizes(run, server, 12)  # it was tried, and was of no use
    assert 500 in sizes(run, server, 200)


def test_where_small_commits_are_as_slow_they_stay_large() -> None:
    made = sizes(Run(AUTO, ramps=False), Server(3.0, 0.0005, 0.05), 300)
    assert sum(size == 500 for size in made) > 270
    assert min(made) >= 150


def test_one_slow_commit_changes_nothing() -> None:
    run = Run(AUTO, ramps=False)
    for _ in range(20):
        assert set(sizes(run, Server(0.4, 0.001), 5)) == {500}
        run.limiter.answered(500, 30.0)


def test_the_rests_of_shards_say_nothing() -> None:
    run = Run(AUTO, ramps=False)
    settled = sizes(run, Server(0.1, 0.01), 40)[-1]
    for _ in range(30):
        sizes(run, Server(0.1, 0.01), 1)
        run.limiter.answered(2, 0.02)
    assert run.limiter.batch_size(500) == settled


def test_answers_to_batches_of_the_former_size_say_nothing() -> None:
    run = Run(AUTO, ramps=False)
    server = Server(0.0, 0.004)
    under_way = [(server(500) + n / 4, n / 4, run.limiter.batch_size(500)) for n in range(8)]
    seen = []
    for _ in range(200):
        run.time.now, sent_at, size = heapq.heappop(under_way)
        run.limiter.answered(size, run.time.now - sent_at)
        seen.append(run.limiter.batch_size(500))
        heapq.heappush(under_way, (run.time.now + server(seen[-1]), run.time.now, seen[-1]))
    assert set(seen) == {500, 250}
    assert seen == sorted(seen, reverse=True)


def test_a_smaller_limit_of_the_callers_is_kept() -> None:
    run = Run(AUTO, ramps=False)
    assert run.limiter.batch_size(20) == 20
    for _ in range(50):
        run.limiter.answered(20, 0.01)
    assert run.limiter.batch_size(20) == 20
    assert run.limiter.batch_size(500) == 500


# --- whatever happens ---

EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(1, 500), st.floats(0.01, 8)),
        st.tuples(st.just("idle"), st.integers(1, 1500), st.just(0.0)),
        st.tuples(st.sampled_from(["RESOURCE_EXHAUSTED", "ABORTED"]), st.just(0), st.just(0.0)),
    ),
    max_size=60,
)


@examples(40)
@given(
    events=EVENTS,
    rate=st.sampled_from([AUTO, MaxRate(30), MaxRate(600)]),
    warm=st.sampled_from([None, Warm(2531.25, MORNING, 290.0)]),
)
def test_whatever_happens_it_is_never_above_the_curve(
    events: list[tuple[str, int, float]], rate: MaxRate, warm: Warm | None
) -> None:
    run = Run(rate, warm=warm)
    allowed = 0.0

    def pass_by(seconds: float) -> None:
        nonlocal allowed
        for _ in range(int(seconds / 0.5)):
            allowed += run.limiter.rate * 0.5
            run.time.sleep(0.5)

    for event, number, latency in events:
        if event == "send":
            tries_left = 2000
            while run.limiter.wait_s(number):
                pass_by(0.5)
                tries_left -= 1
                assert tries_left
            run.commit(number)
            assert run.sent <= allowed + 0.1
            run.limiter.answered(number, latency)
        elif event == "idle":
            pass_by(number)
        else:
            run.limiter.refused(event)
        assert run.limiter.rate <= (rate.per_s or math.inf)
        assert 1 <= run.limiter.batch_size(500) <= 500
        assert run.limiter.text()


@pytest.mark.parametrize("fastest", [math.inf, 5000.0, 900.0, 300.0])
@pytest.mark.parametrize("operations", [500, 150_000, 160_000, 2_000_000])
def test_how_long_the_ramp_takes_can_be_told_beforehand(operations: int, fastest: float) -> None:
    run = Run()
    while run.sent < operations:
        began = run.time.now
        run.commit(500)
        run.time.now = max(run.time.now, began + 500 / fastest)
    told = ramp_seconds(operations, fastest)
    assert told <= run.time.now + 1.5
    assert run.time.now <= 1.1 * told + 10

"""What a conductor decides, with a clock of the test's own: shares, ramp, failure budget."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone

import pytest

from bulkup.core.errors import Exit
from bulkup.core.model import Counts, RunState, TargetInfo
from bulkup.core.records import NoSource, RunInfo, Shard
from bulkup.core.steering import Steering, Tuning
from bulkup.engine.throttle.max_rate import MaxRate
from bulkup.engine.throttle.ramp import RAMP_BY, RAMP_EVERY_S, RAMP_FROM
from bulkup.runs.ranges.conducting import GRACE_S, Pace, conducted, share_of, workers_of
from bulkup.state.ranges import plan_ranges, worker_of
from bulkup.state.record import (
    LEASE_S,
    LOOK_EVERY_S,
    RENEW_S,
    Holder,
    LeaseTerms,
    Made,
    RangePlan,
    RunRecord,
)

START = 1_800_000_000.0


def _parent(**plan: object) -> RunRecord:
    run_info = RunInfo.new(
        "20261129-120000-000000", NoSource("Up"), {}, TargetInfo("p", "", ""),
        identity="work", created=datetime.fromtimestamp(START, timezone.utc),
    )  # fmt: skip
    record = RunRecord(run_info, RunState.RUNNING)
    return replace(record, ranges=RangePlan("abc", 1, "", **plan))  # type: ignore[arg-type]


def _ranges(parent: RunRecord, count: int) -> list[RunRecord]:
    return plan_ranges(parent, "abc", [[Shard(0)] for _ in range(count)], Made())


def _holder(name: str, number: int = 1) -> Holder:
    return Holder(f"{name}.{number}", "ann@host", "machine", 1, "")


def _held(record: RunRecord, name: str, until: float) -> RunRecord:
    return replace(record, lease=LeaseTerms(_holder(name), int(until), 1))


def test_the_rate_is_shared_by_those_who_work() -> None:
    parent = _parent(max_rate="200")
    a, b, c = _ranges(parent, 3)
    ranges = [_held(a, "ann", START + 30), _held(b, "ben", START + 30), c]
    written = conducted(parent, ranges, Pace(is_real=False), START, me="ann")
    assert written.ranges is not None
    assert (written.ranges.rate, written.ranges.workers) == (200.0, ("ann", "ben"))
    assert share_of(written.ranges, "ann") == MaxRate(100.0)
    assert share_of(written.ranges, "new") == MaxRate(200 / 3)


def test_the_counts_of_a_run_do_not_shrink() -> None:
    """Who takes over a range with an empty checkpoint knows less of it until it has recovered."""
    parent = replace(_parent(), counts=Counts(handled=90, puts=80))
    (a,) = _ranges(parent, 1)
    pace = Pace(is_real=False)
    less = conducted(parent, [replace(a, counts=Counts(handled=40, puts=40))], pace, START)
    assert less.counts == parent.counts
    more = Counts(handled=91, puts=81)
    assert conducted(parent, [replace(a, counts=more)], pace, START).counts == more


def test_a_worker_between_two_ranges_keeps_its_share() -> None:
    parent = _parent()
    a, b = _ranges(parent, 2)
    ended = replace(_held(a, "ann", 0), state=RunState.FINISHED, ended=int(START))
    assert workers_of([ended, b], START + 10) == ("ann",)
    assert workers_of([ended, b], START + LEASE_S + 1) == ()


def test_a_worker_that_was_killed_is_counted_until_its_lease_ends() -> None:
    parent = _parent()
    (a,) = _ranges(parent, 1)
    held = _held(a, "ann", START + LEASE_S)
    assert workers_of([held], START + LEASE_S - 1) == ("ann",)
    assert workers_of([held], START + LEASE_S + 1) == ()


def test_all_leases_of_a_worker_are_one_share() -> None:
    assert worker_of(_holder("ann", 1)) == worker_of(_holder("ann", 2))


@pytest.mark.parametrize(
    ("max_rate", "tuned", "rate"),
    [("auto", None, 0), ("off", None, 0), ("50", None, 50), ("50", "20", 20), ("50", "off", 0)],
)  # fmt: skip
def test_a_tuning_replaces_the_limit(max_rate: str, tuned: str | None, rate: float) -> None:
    parent = _parent(max_rate=max_rate)
    parent = replace(parent, steering=Steering(tuning=Tuning(max_rate=tuned), number=1))
    assert Pace(is_real=False).rate(parent, Counts(), START)[0] == rate


def test_the_failures_of_all_ranges_stop_the_run() -> None:
    parent = _parent(max_failures="3", base=Counts(handled=5, failed=1))
    ranges = [
        replace(one, counts=Counts(handled=10, failed=failed))
        for one, failed in zip(_ranges(parent, 3), (1, 0, 1), strict=True)
    ]
    written = conducted(parent, ranges, Pace(is_real=False), START)
    assert written.ranges is not None
    assert written.counts == Counts(handled=35, failed=3)
    assert written.ranges.stop is None
    ranges[1] = replace(ranges[1], counts=Counts(handled=10, failed=1))
    stop = conducted(parent, ranges, Pace(is_real=False), START).ranges.stop  # type: ignore[union-attr]
    assert stop is not None
    assert (stop.state, stop.exit_code) == (RunState.FAILED, int(Exit.FAILED))


def test_a_share_of_failures_is_of_all_that_is_handled() -> None:
    parent = _parent(max_failures="1%")
    (one,) = _ranges(parent, 1)
    for failed, stops in ((20, False), (21, True)):
        counts = Counts(handled=2000, failed=failed)
        written = conducted(parent, [replace(one, counts=counts)], Pace(is_real=False), START)
        assert written.ranges is not None
        assert (written.ranges.stop is not None) is stops


# --- a hundred workers, for 20 minutes, or at night for an hour ---


@dataclass
class Worker:
    name: str
    joins: float
    next_look: float
    next_renewal: float
    seen: RunRecord
    shared_since: float = math.inf
    handled: float = 0.0


@dataclass
class Simulated:
    per_s: list[float] = field(default_factory=list)
    allowed: list[float] = field(default_factory=list)
    ledger_writes: int = 0
    entities: float = 0.0


def simulate(workers: int, seconds: int, seed: int) -> Simulated:
    """Workers that are as fast as they may be, second by second; each knows what it last read."""
    rng, result = random.Random(seed), Simulated()
    parent, pace = _parent(), Pace(is_real=True)
    ranges = _ranges(parent, workers)
    team = [
        Worker(f"{n:012x}", rng.uniform(0, 90), 0.0, 0.0, parent) for n in range(workers)
    ]  # fmt: skip
    next_conduct = 0.0
    for second in range(seconds):
        now = START + second
        if second >= next_conduct:
            next_conduct = second + RENEW_S
            parent = conducted(parent, ranges, pace, now)
            result.ledger_writes += 1
        total = 0.0
        for number, worker in enumerate(team):
            if second < worker.joins:
                continue
            if second >= worker.next_look:
                worker.next_look = second + LOOK_EVERY_S
                worker.seen = parent
                plan = parent.ranges
                assert plan is not None
                if worker.name not in plan.workers:
                    worker.shared_since = math.inf
                elif worker.shared_since == math.inf:
                    worker.shared_since = second
            if second - worker.shared_since >= GRACE_S:
                assert worker.seen.ranges is not None
                share = share_of(worker.seen.ranges, worker.name).per_s
                assert share is not None
                worker.handled += share
                total += share
            if second >= worker.next_renewal:
                worker.next_renewal = second + RENEW_S * rng.uniform(0.95, 1.05)
                lease = LeaseTerms(_holder(worker.name), int(now + LEASE_S), 1)
                counts = Counts(handled=int(worker.handled), puts=int(worker.handled))
                ranges[number] = replace(ranges[number], lease=lease, counts=counts)
                result.ledger_writes += 1
        result.per_s.append(total)
        result.allowed.append(RAMP_FROM * RAMP_BY ** (second // RAMP_EVERY_S))
        result.entities += total
    return result


@pytest.mark.parametrize(
    ("seed", "seconds"),
    [(0, 1200), *(pytest.param(seed, 3600, marks=pytest.mark.slow) for seed in (1, 2))],
)
def test_a_hundred_workers_keep_to_the_ramp(seed: int, seconds: int) -> None:
    run = simulate(100, seconds, seed)
    for second in range(10, seconds):
        done = sum(run.per_s[second - 10 : second]) / 10
        assert done <= 1.05 * run.allowed[second], second
    # They use it, too: a step is earned a little late, since a renewal tells what was done.
    assert max(run.per_s[-60:]) >= run.allowed[-1] / RAMP_BY**2
    assert run.ledger_writes < 0.01 * run.entities

"""Synthetic timelines, as a run's folder may have them."""

from __future__ import annotations

import math
from dataclasses import replace

from bulkup.core.changes import PropertyChange, WouldChange
from bulkup.core.model import Counts
from bulkup.core.records import Origin
from bulkup.core.run_facts import ChainLink, Incident, RunFacts, RunnerFacts
from bulkup.core.vitals import Phase, Sample, Waits
from tests.report.samples import HOSTILE, RUN_ID, STARTED, hostile_report, report

BEGAN = STARTED.timestamp()


def sample(second: float, *, runner: int = 1, **changes: object) -> Sample:
    """One of a run that handles about 470 entities a second."""
    handled = int(470 * second)
    one = Sample(
        at=BEGAN + second,
        runner=runner,
        handled=handled,
        counts=Counts(handled=handled, puts=handled),
        total=34006,
        rate=470 + 60 * math.sin(second / 5),
        in_flight=4,
        batch_size=400,
        median_s=0.018 + 0.004 * math.sin(second / 9),
        p99_s=0.06 + 0.02 * math.sin(second / 4),
        limit_per_s=500 * 1.5 ** (second // 30),
        limit_why="ramp-up",
        waits=Waits(0.18 * second, 0.31 * second, 0.43 * second, 0.08 * second),
    )
    return replace(one, **changes)  # type: ignore[arg-type]


def timeline(count: int, *, every_s: float = 1.0) -> tuple[Sample, ...]:
    return tuple(sample(number * every_s) for number in range(count))


def with_breaks() -> tuple[Sample, ...]:
    """Two runners with a night between them; the second one was held for a while."""
    night = 9 * 3600.0
    first = timeline(40)
    second = [
        replace(one, runner=2, at=one.at + night, waits=Waits(2.0, 4.0, 5.0, 0.5, 6.0))
        for one in timeline(80)[40:]
    ]
    held = [
        replace(one, phase=Phase.HELD, why="the replica lags by 40 s", rate=0.0, median_s=None)
        if 12 <= number < 20
        else one
        for number, one in enumerate(second)
    ]
    return *first, *held


def facts(**changes: object) -> RunFacts:
    whole = RunFacts(
        report=report(),
        read_at=STARTED,
        runners=(
            RunnerFacts(
                1, "ada@worker-1", Origin("0.9", "https://ci/7", "abcdef0123456789"),
                "3.12.1", "Linux-6.1-x86_64", BEGAN, BEGAN + 72.3, "finished",
            ),
        ),
        samples=timeline(73),
        changes=(
            WouldChange(
                "Key('Person', 5)", "put",
                (
                    PropertyChange("full_name", None, "'Ada Lovelace'"),
                    PropertyChange("age", "35", "36"),
                    PropertyChange("old", "True", None),
                ),
            ),
            WouldChange("Key('Person', 6)", "delete"),
        ),
        changes_total=34006,
        source_path="/home/ada/full_name.py",
        checksum="c" * 64,
    )  # fmt: skip
    return replace(whole, **changes)  # type: ignore[arg-type]


def hostile_facts() -> RunFacts:
    """Every string that is not ours is `HOSTILE`, or far too long."""
    long = HOSTILE + "x" * 100_000
    return facts(
        report=hostile_report(),
        runners=(
            RunnerFacts(
                1, HOSTILE, Origin(HOSTILE, HOSTILE, HOSTILE), HOSTILE, long, BEGAN, 1e300,
                HOSTILE, HOSTILE, 3, None, (HOSTILE, long),
            ),
        ),
        samples=tuple(
            replace(one, phase=Phase.HELD, why=long, limit_why=HOSTILE) for one in timeline(5)
        ),
        changes=(WouldChange(HOSTILE, "put", (PropertyChange(HOSTILE, long, HOSTILE),)),),
        changes_note=long,
        chain=(ChainLink(HOSTILE, HOSTILE, HOSTILE), ChainLink(RUN_ID, is_this=True)),
        incidents=(Incident(BEGAN, HOSTILE, HOSTILE), Incident(1e300, long, long)),
        source_path=HOSTILE,
        checksum=HOSTILE,
    )  # fmt: skip

"""The timeline of a run: small whatever its length, and readable whatever has happened to it."""

from __future__ import annotations

import itertools
import json
import os
import stat
from pathlib import Path

import pytest

from bulkup.core.errors import StateError
from bulkup.core.model import Counts
from bulkup.core.vitals import Phase, Sample, Waits
from bulkup.state import timeline as timeline_module
from bulkup.state.timeline import TIMELINE_NAME, Timeline, read_timeline

FULL = Sample(
    at=1_700_000_000.5,
    runner=2,
    phase=Phase.HELD,
    why="the health check says no: \x1b[2J<script>",
    handled=1200,
    counts=Counts(handled=1000, puts=900, failed=3, conflicts=2),
    total=5000,
    rate=250.25,
    in_flight=4,
    batch_size=500,
    median_s=0.012,
    p99_s=0.5,
    limit_per_s=750.0,
    limit_why="ramp-up",
    conflicts=2,
    retries=1,
    waits=Waits(1.5, 2.5, 3.5, 4.5, 5.5),
)


def lost(message: str) -> None:
    raise AssertionError(message)


def write(folder: Path, *samples: Sample) -> None:
    timeline = Timeline(folder, 1, on_loss=lost)
    for sample in samples:
        timeline.add(sample)
    timeline.close()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    plain = Sample(at=FULL.at + 1, runner=2)
    write(tmp_path, FULL, plain)
    assert read_timeline(tmp_path) == (FULL, plain)
    assert stat.S_IMODE((tmp_path / TIMELINE_NAME).stat().st_mode) == 0o600


def test_no_timeline_is_an_empty_one(tmp_path: Path) -> None:
    assert read_timeline(tmp_path) == ()


def test_samples_are_a_second_apart_unless_the_phase_changes(tmp_path: Path) -> None:
    write(
        tmp_path,
        Sample(at=10.0, runner=1),
        Sample(at=10.4, runner=1),
        Sample(at=10.5, runner=1, phase=Phase.PAUSED),
        Sample(at=10.6, runner=1, phase=Phase.PAUSED),
        Sample(at=11.5, runner=1, phase=Phase.PAUSED),
    )
    assert [sample.at for sample in read_timeline(tmp_path)] == [10.0, 10.5, 11.5]


def test_a_clock_that_is_set_back_does_not_end_the_timeline(tmp_path: Path) -> None:
    write(tmp_path, Sample(at=9000.0, runner=1), Sample(at=10.0, runner=1))
    assert [sample.at for sample in read_timeline(tmp_path)] == [9000.0, 10.0]


@pytest.fixture
def _soon_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timeline_module, "MOST_LINES", 200)


@pytest.mark.usefixtures("_soon_full")
def test_a_long_run_is_thinned_out_evenly(tmp_path: Path) -> None:
    timeline = Timeline(tmp_path, 1, on_loss=lost)
    seconds = 1000
    for second in range(seconds):
        timeline.add(Sample(at=float(second), runner=1, handled=second))
    timeline.close()
    samples = read_timeline(tmp_path)
    assert 100 <= len(samples) < 200
    gaps = {after.at - before.at for before, after in itertools.pairwise(samples)}
    assert max(gaps) == 8.0  # doubled three times
    assert samples[0].at == 0.0
    assert samples[-1].at > seconds - 10
    mode = stat.S_IMODE((tmp_path / TIMELINE_NAME).stat().st_mode)
    assert mode == 0o600
    assert os.listdir(tmp_path) == [TIMELINE_NAME]


@pytest.mark.usefixtures("_soon_full")
def test_a_later_runner_continues_with_the_same_interval(tmp_path: Path) -> None:
    write(tmp_path, *(Sample(at=float(second), runner=1) for second in range(200)))
    before = read_timeline(tmp_path)
    write(tmp_path, *(Sample(at=9000.0 + second, runner=2) for second in range(5)))
    assert read_timeline(tmp_path)[: len(before)] == before
    assert [s.at for s in read_timeline(tmp_path)[len(before) :]] == [9000.0, 9002.0, 9004.0]


def test_the_torn_line_of_a_killed_runner_costs_only_itself(tmp_path: Path) -> None:
    write(tmp_path, Sample(at=1.0, runner=1), Sample(at=2.0, runner=1))
    path = tmp_path / TIMELINE_NAME
    path.write_bytes(path.read_bytes()[:-9])
    assert [sample.at for sample in read_timeline(tmp_path)] == [1.0]
    write(tmp_path, Sample(at=3.0, runner=2))
    assert [sample.at for sample in read_timeline(tmp_path)] == [1.0, 3.0]


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "5",
        "{",
        '{"at": "x", "runner": 1}',
        '{"at": 5}',
        '{"at": NaN, "runner": 1}',
        '{"at": 5, "runner": Infinity}',
        '{"at": 5, "runner": 1, "phase": "asleep"}',
        '{"at": 5, "runner": 1, "waits": 7}',
        '{"at": 5, "runner": 1, "counts": {"handled": []}}',
        "[" * 100_000,
        "\udcff\x00",
    ],
)
def test_damaged_lines_are_left_out(tmp_path: Path, line: str) -> None:
    (tmp_path / TIMELINE_NAME).write_text(
        f'{line}\n{{"at": 1, "runner": 1}}\n', errors="surrogateescape"
    )
    assert read_timeline(tmp_path) == (Sample(at=1.0, runner=1),)


def test_what_a_later_version_adds_is_ignored(tmp_path: Path) -> None:
    (tmp_path / TIMELINE_NAME).write_text(
        json.dumps(
            {"at": 1, "runner": 1, "mood": "good", "counts": {"new": 1}, "waits": {"new": 1}}
        )
    )
    assert read_timeline(tmp_path) == (Sample(at=1.0, runner=1),)


def test_a_file_that_cannot_be_written_is_told_once_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / TIMELINE_NAME).mkdir()
    told: list[str] = []
    timeline = Timeline(tmp_path, 1, on_loss=told.append)
    for second in range(3):
        timeline.add(Sample(at=float(second), runner=1))
    timeline.close()
    assert len(told) == 1
    assert "its timeline ends here" in told[0]


def test_it_is_not_written_through_a_link(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("mine")
    (tmp_path / TIMELINE_NAME).symlink_to(other)
    told: list[str] = []
    Timeline(tmp_path, 1, on_loss=told.append).add(Sample(at=1.0, runner=1))
    assert told
    assert other.read_text() == "mine"


def test_a_timeline_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / TIMELINE_NAME).mkdir()
    with pytest.raises(StateError, match="cannot read"):
        read_timeline(tmp_path)


@pytest.mark.usefixtures("_soon_full")
def test_a_run_of_very_many_runners_stays_small_too(tmp_path: Path) -> None:
    for runner in range(1, 700):  # a job of cron that works for a minute each time
        timeline = Timeline(tmp_path, runner, on_loss=lost)
        timeline.add(Sample(at=60.0 * runner, runner=runner), always=True)
        timeline.close()
    samples = read_timeline(tmp_path)
    assert 90 <= len(samples) < 200
    assert samples[-1].runner == 699

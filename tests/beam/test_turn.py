"""Restrictions: what Beam may split, and what becomes of it."""

from __future__ import annotations

import pickle

import pytest

pytest.importorskip("apache_beam", reason="Apache Beam is not installed")

from apache_beam.runners.sdf_utils import ThreadsafeRestrictionTracker

from bulkup.beam.turn import Turn, Turns, TurnTracker
from bulkup.runs.ranges.unit import RangeProgress, WorkingRange


class Splits(WorkingRange):
    """A range in work, which says what it was asked."""

    def __init__(self, child: str | None = "r.1", share: float | None = None) -> None:
        self.child, self.share = child, share
        self.asked: list[float] = []

    def try_split(self, fraction: float) -> str | None:
        self.asked.append(fraction)
        return self.child

    def progress(self) -> RangeProgress:
        return RangeProgress(share=self.share)


def tracker_of(turn: Turn, working: WorkingRange | None = None) -> TurnTracker:
    tracker = Turns().create_tracker(turn)
    if working is not None:
        assert tracker.try_claim(working)
    return tracker


def test_only_a_runner_that_splits_first_is_trusted_to_bring_back_what_is_deferred() -> None:
    turns = Turns()
    ordinary = turns.initial_restriction("r")
    assert ordinary == Turn("r", comes_back=False)
    assert [*turns.split("r", ordinary)] == [Turn("r", comes_back=True)]
    assert tracker_of(ordinary, Splits()).try_split(0.5) is None


def test_a_range_in_work_is_split_where_it_is_and_the_rest_is_a_turn_of_its_own() -> None:
    working = Splits()
    tracker = tracker_of(Turn("r", comes_back=True), working)
    assert tracker.try_split(0.3) == (Turn("r", True), Turn("r.1", True))
    assert working.asked == [0.3]
    assert tracker.current_restriction() == Turn("r", True)


def test_a_range_that_cannot_be_split_stays_whole() -> None:
    tracker = tracker_of(Turn("r", comes_back=True), Splits(child=None))
    assert tracker.try_split(0.5) is None


def test_a_range_whose_work_has_not_begun_is_given_away_whole() -> None:
    tracker = tracker_of(Turn("r", comes_back=True))
    assert tracker.try_split(0.5) == (Turn("r", True, is_over=True), Turn("r", True))
    assert not tracker.try_claim(Splits())
    assert tracker.try_split(0.5) is None


def test_what_is_deferred_keeps_the_time_before_which_it_is_held() -> None:
    tracker = tracker_of(Turn("r", comes_back=True), Splits())
    tracker.try_claim(1234.5)
    beam_tracker = ThreadsafeRestrictionTracker(tracker)
    beam_tracker.defer_remainder()
    assert beam_tracker.deferred_status() is not None
    assert beam_tracker.deferred_status()[0] == Turn("r", True, not_before=1234.5)
    assert beam_tracker.check_done()


@pytest.mark.parametrize(("share", "completed"), [(None, 0.0), (0.0, 0.0), (0.25, 0.25)])
def test_the_backlog_is_the_share_that_is_left(share: float | None, completed: float) -> None:
    progress = tracker_of(Turn("r", comes_back=True), Splits(share=share)).current_progress()
    assert (progress.completed_work, progress.remaining_work) == (completed, 1.0 - completed)
    assert Turns().restriction_size("r", Turn("r")) == 1.0


def test_a_turn_that_is_over_has_no_backlog() -> None:
    over = Turn("r", True, is_over=True)
    assert Turns().create_tracker(over).current_progress().remaining_work == 0.0
    assert Turns().restriction_size("r", over) == 0.0


def test_a_turn_travels() -> None:
    turn = Turn("r", True, not_before=2.5)
    assert pickle.loads(pickle.dumps(turn)) == turn

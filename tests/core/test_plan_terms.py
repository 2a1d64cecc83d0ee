"""What a run is held to by its plan, and how a sentence says that it is not kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkup.core.errors import UsageError
from bulkup.core.model import Counts, RunState
from bulkup.core.plan_terms import WATCHED, MaxDrift, PlanTerms
from bulkup.core.stop import Stopped
from bulkup.engine.drift import Drift, plan_outcome


def terms(**ranges: tuple[int, int]) -> PlanTerms:
    return PlanTerms("p1", "c", "i", dict.fromkeys(WATCHED, (0, 0)) | ranges)


SAMPLED = terms(handled=(1000, 1000), written=(900, 1000), deleted=(0, 3), left_alone=(0, 100))


@pytest.mark.parametrize(
    ("text", "share"), [("1%", 0.01), ("7", 0.07), ("0%", 0.0), (" 2.5 %", 0.025), ("100%", 1.0)]
)
def test_a_share_is_read(text: str, share: float) -> None:
    assert MaxDrift.parse(text).share == pytest.approx(share)


@pytest.mark.parametrize("text", ["", "0.01", "x%", "-1%", "101%", "nan%", "%"])
def test_what_is_not_a_share_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a share"):
        MaxDrift.parse(text)


@given(st.floats(0, 100).map(lambda percent: f"{percent:g}%"))
def test_a_share_is_shown_as_it_is_read(text: str) -> None:
    assert MaxDrift.parse(str(MaxDrift.parse(text))) == MaxDrift.parse(text)


def test_the_sentence_has_both_shares_and_the_bound() -> None:
    counts = Counts(handled=293, deletes=14, puts=279)
    assert SAMPLED.too_many(counts, MaxDrift()) == (
        "14 of 293 handled were deleted (4.78 %), and the plan predicted 0 to 3 of 1,000 "
        "(0 to 0.3 %), give or take 10 (--max-drift 1%)"
    )
    assert SAMPLED.too_many(Counts(handled=292, deletes=13, puts=279), MaxDrift()) == ""


def test_other_entities_are_not_said_to_be_handled_ones() -> None:
    counts = Counts(handled=200, puts=215, other_puts=15)
    said = SAMPLED.too_many(counts, MaxDrift())
    assert said.startswith("15 other entities, for 200 handled, were written (7.5 %), and the plan")


def test_more_entities_than_were_planned_are_a_drift() -> None:
    counts = Counts(handled=1011, puts=1000)
    assert SAMPLED.too_many(counts, MaxDrift()) == (
        "1,011 entities were handled, and the plan predicted 1,000, give or take 10 "
        "(--max-drift 1%)"
    )


def test_the_first_entities_may_all_be_alike() -> None:
    """Every one is deleted, and the plan deletes a tenth: the ones with small keys."""
    plan = terms(handled=(1000, 1000), deleted=(100, 100), left_alone=(900, 900))
    assert plan.too_many(Counts(handled=100, deletes=100), MaxDrift(0.0)) == ""
    assert plan.too_many(Counts(handled=101, deletes=101), MaxDrift(0.0)) != ""


def test_what_is_missing_is_known_at_the_end() -> None:
    counts = Counts(handled=880, puts=880)
    most = MaxDrift()
    assert plan_outcome(SAMPLED, counts, most, RunState.STOPPED) is not None
    outcomes = {
        state: plan_outcome(SAMPLED, counts, most, state)
        for state in (RunState.STOPPED, RunState.FINISHED)
    }
    assert [bool(one and one.drift) for one in outcomes.values()] == [False, True]
    assert plan_outcome(None, counts, most, RunState.FINISHED) is None


OUTCOMES = st.sampled_from(["puts", "deletes", "unchanged", "failed", "left"])


@given(
    st.lists(st.lists(OUTCOMES, min_size=1, max_size=9), max_size=40),
    st.fixed_dictionaries({name: st.integers(0, 60) for name in WATCHED}),
    st.sampled_from([0.0, 0.01, 0.1, 0.5]),
)
def test_no_batch_goes_beyond_the_bound_and_none_within_it_is_stopped(
    batches: list[list[str]], high: dict[str, int], share: float
) -> None:
    plan = PlanTerms("p1", "c", "i", {name: (0, most) for name, most in high.items()})
    drift, sent = Drift(plan, MaxDrift(share), Counts()), Counts()
    allowed = int(high["handled"] * share)
    for batch in batches:
        one = {name: batch.count(name) for name in ("puts", "deletes", "unchanged", "failed")}
        counts = Counts(handled=len(batch), **one)
        within = all(
            count <= high[name] + allowed
            for name, count in (sent + counts).named().items()
            if name in WATCHED
        )
        try:
            drift.look(counts)
        except Stopped:
            assert not within
            assert drift.has_stopped
            with pytest.raises(Stopped):
                drift.look(Counts())
            return
        assert within
        sent = sent + counts

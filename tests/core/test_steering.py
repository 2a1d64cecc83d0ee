"""The states of steering: the table is the code, and what is stored is read, whatever wrote it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from bulkup.core import steering
from bulkup.core.errors import UsageError
from bulkup.core.steering import (
    MAX_BATCH_SIZE,
    MAX_IN_FLIGHT,
    TRANSITIONS,
    UNSTEERED,
    Steering,
    SteerState,
    Tuning,
    Verb,
    checked,
    newest,
    read_stored,
)
from bulkup.engine import batches
from bulkup.engine.throttle import concurrency
from bulkup.engine.throttle.max_rate import MaxRate

tunings = st.builds(
    Tuning,
    st.none() | st.sampled_from(["auto", "off", "200", "0.5", "1e+06"]),
    st.none() | st.integers(0, MAX_IN_FLIGHT),
    st.none() | st.integers(1, MAX_BATCH_SIZE),
)
steerings = st.builds(
    Steering,
    st.sampled_from(SteerState),
    tunings,
    st.text(max_size=20),
    st.floats(0, 2**32),
    st.integers(0, 2**40),
)


def test_the_table_in_the_module_is_the_one_in_the_code() -> None:
    rows = re.findall(
        r"^    (\w+) +(pause|continue|cancel|resume|tune) +(\w+) +\S", steering.__doc__ or "", re.M
    )
    assert {
        (SteerState[before], Verb(verb)): SteerState[after] for before, verb, after in rows
    } == TRANSITIONS
    assert len(rows) == len(TRANSITIONS)


def test_the_bounds_are_those_of_the_options() -> None:
    assert (MAX_BATCH_SIZE, MAX_IN_FLIGHT) == (batches.MAX_BATCH_SIZE, concurrency.MAX_IN_FLIGHT)


@given(steerings)
def test_what_is_stored_is_read(one: Steering) -> None:
    assert read_stored({**one.stored(), "of_a_later_version": [1]}) == one


@given(tunings)
def test_a_rate_that_is_stored_is_one_that_a_run_takes(tuning: Tuning) -> None:
    assert checked(tuning) == tuning
    if tuning.max_rate is not None:
        MaxRate.parse(tuning.max_rate)


@pytest.mark.parametrize(
    "raw",
    [
        None, [], "paused", {"state": "dancing"}, {"state": []}, {"number": -1}, {"number": True},
        {"number": 1.5}, {"number": 2**63}, {"at": "noon"}, {"at": 1e999}, {"at": None}, {"by": 7},
        {"max_rate": 200}, {"max_rate": "fast"}, {"max_rate": "-1"}, {"max_rate": "nan"},
        {"max_rate": "1e999"}, {"max_rate": "0"}, {"max_rate": "9" * 30}, {"in_flight": 33},
        {"in_flight": True}, {"batch_size": 0}, {"batch_size": 501}, {"batch_size": "5"},
    ],
)  # fmt: skip
def test_what_nobody_can_mean_is_refused(raw: object) -> None:
    with pytest.raises(ValueError):
        read_stored(raw)


@given(st.lists(steerings, min_size=1, max_size=4), st.randoms())
def test_everybody_agrees_which_one_counts(some: list[Steering], random: object) -> None:
    shuffled = [*some]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert newest(*some) == newest(*shuffled)
    assert newest(*some).number == max(one.number for one in some)


def test_of_a_pause_and_a_tune_at_once_the_pause_stays() -> None:
    paused = UNSTEERED.after(Verb.PAUSE, by="a", at=1)
    tuned = UNSTEERED.after(Verb.TUNE, by="b", at=2, tuning=Tuning(batch_size=5))
    assert paused is not None
    assert tuned is not None
    assert newest(paused, tuned) is paused


def test_a_tuning_says_what_it_sets() -> None:
    assert str(Tuning("200", 2, 100)) == "max rate 200/s, in flight 2, batch size 100"
    assert str(Tuning("auto", 0)) == "max rate auto, in flight auto"
    assert Tuning("200", 2).without(frozenset({"max_rate", "shards"})) == Tuning(None, 2)


def test_a_batch_size_out_of_range_is_refused() -> None:
    with pytest.raises(UsageError, match="batch_size is 501; it must be at least 1 and at most 5"):
        checked(Tuning(batch_size=501))


class SteeringMachine(RuleBasedStateMachine):
    """Any verbs in any order, by several people, of which some act on what is old."""

    def __init__(self) -> None:
        super().__init__()
        self.now = UNSTEERED
        self.former = [UNSTEERED]
        self.state = SteerState.WORKING

    @rule(verb=st.sampled_from(Verb), tuning=tunings, by=st.sampled_from("ab"))
    def change(self, verb: Verb, tuning: Tuning, by: str) -> None:
        tuning = tuning if verb is Verb.TUNE else Tuning()
        after = self.now.after(verb, by=by, at=1.0, tuning=tuning)
        if after is None:
            assert self.state is SteerState.CANCELLED
            assert verb in (Verb.PAUSE, Verb.CONTINUE, Verb.TUNE)
            return
        assert after is self.now or after.number == self.now.number + 1
        assert after.tuning.over(tuning) == after.tuning
        expected = {
            Verb.PAUSE: SteerState.PAUSED,
            Verb.CONTINUE: SteerState.WORKING,
            Verb.CANCEL: SteerState.CANCELLED,
        }.get(verb, self.state)
        if verb is Verb.RESUME and self.state is SteerState.CANCELLED:
            expected = SteerState.WORKING
        self.state = expected
        self.former.append(after)
        self.now = after

    @rule(data=st.data())
    def late_packet(self, data: st.DataObject) -> None:
        self.now = newest(self.now, data.draw(st.sampled_from(self.former)))

    @invariant()
    def is_as_asked(self) -> None:
        assert self.now.state is self.state


TestSteeringMachine = SteeringMachine.TestCase

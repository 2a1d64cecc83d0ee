"""`crash_test`: runs that are killed at each commit, in users' tests."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from google.cloud.datastore import Entity

import bulkup
from bulkup.testing import crash_test
from tests.testing import planted
from tests.testing.planted import PEOPLE

pytestmark = pytest.mark.sampled(9)


def test_an_updater_that_depends_on_its_entities_alone_survives() -> None:
    result = crash_test(planted.full_name, PEOPLE, sep="-")
    assert result.crashes >= 8, "two commits of entities, and those that begin and end the run"
    assert result.idempotent
    assert result.run.written[0]["full_name"] == "Ada-Lovelace"
    result.assert_idempotent()


def test_a_run_dies_right_before_and_right_after_each_commit() -> None:
    calls = []

    @bulkup.updater(kind="Person")
    def noted(person: Entity) -> Entity:
        calls.append(person.get("n"))
        person["n"] = 1
        return person

    assert crash_test(noted, PEOPLE[:1]).crashes == 6, "begins, writes, ends"
    # Two runs, the second one of them again; then one call for each crash, and two where the run
    # died between the call and its commit.
    assert calls == [None, 1] + [None] * (1 + 7)


def test_one_that_adds_survives_and_is_said_not_to_be_idempotent() -> None:
    result = crash_test(planted.increment, PEOPLE[:1])
    assert not result.idempotent
    assert result.second_run[0] == "Key('Person', 1) was written\n    n: 1 → 2"
    assert "is not idempotent, in a second run Key('Person', 1)" in repr(result)
    with pytest.raises(AssertionError, match="in a second run:\nKey"):
        result.assert_idempotent()


def test_one_that_claims_to_be_idempotent_and_is_not_fails() -> None:
    with pytest.raises(AssertionError, match="says idempotent = True, but in a second run"):
        crash_test(planted.increment_and_claim, PEOPLE)


@pytest.mark.parametrize(
    "updater",
    [
        planted.numbered_by_the_module,
        pytest.param(planted.NumberedBySelf, marks=pytest.mark.chaos),
        pytest.param(planted.NumberedByTheClass, marks=pytest.mark.chaos),
    ],
)
def test_what_a_process_keeps_in_memory_is_lost(updater: Any) -> None:
    seen = dict(planted.SEEN)
    with pytest.raises(AssertionError, match=r"killed right after .* and resumed") as raised:
        crash_test(updater, PEOPLE)
    assert "Key('Person', 2)\n    number: 2 → 1\n" in str(raised.value)
    assert "loses the attributes of self" in str(raised.value)
    assert planted.NumberedByTheClass.number < 3
    planted.SEEN.clear()
    planted.SEEN.update(seen)


def test_a_finish_that_adds_is_found() -> None:
    with pytest.raises(AssertionError, match=r"Key\('Total', 1\)\n    n: 2 → 4"):
        crash_test(planted.CountsInFinish, PEOPLE)


def test_entities_that_the_run_makes_are_the_same_whatever_their_ids() -> None:
    result = crash_test(planted.Archive, PEOPLE)
    assert len(result.run.written) == 2
    assert result.idempotent, "there is nobody left to archive"


def test_the_commits_of_a_successor_are_crash_points_too() -> None:
    result = crash_test(planted.WithSuccessor, PEOPLE[:1])
    assert result.crashes >= 12, "one run of one entity has three commits"
    assert result.updater == "WithSuccessor"


def test_an_updater_that_is_never_the_same_is_told_apart_from_a_crash() -> None:
    @bulkup.updater(kind="Person")
    def at_random(person: Entity) -> Entity:
        person["token"] = random.random()
        return person

    with pytest.raises(AssertionError, match="does not end the same each time") as raised:
        crash_test(at_random, PEOPLE)
    assert "take that as a parameter" in str(raised.value)


def test_a_test_that_could_show_nothing_fails() -> None:
    with pytest.raises(AssertionError, match="changes none of these entities"):
        crash_test(planted.full_name, planted.WITH_NAMES)
    with pytest.raises(AssertionError, match=r"entities that do not fail.*'fist'"):
        crash_test(planted.misspelled_read, PEOPLE)


@pytest.mark.chaos
def test_many_entities_are_five_batches() -> None:
    people = [PEOPLE[0]] * 11
    assert crash_test(planted.full_name, people).crashes <= 2 * 8


def test_what_is_kept_in_a_file_of_its_own_module_is_fresh_in_each_process(tmp_path: Path) -> None:
    file = tmp_path / "kept.py"
    file.write_text(
        "import bulkup\nSEEN = []\n@bulkup.updater(kind='Person')\n"
        "def kept(person):\n    SEEN.append(1)\n    person['n'] = len(SEEN)\n    return person\n"
    )
    with pytest.raises(AssertionError, match="n: 2 → 1"):
        crash_test(file, PEOPLE)

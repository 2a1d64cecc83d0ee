"""Approvals as Datastore keeps them: each write requires the version that was read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bulkup.core.errors import HeldError
from bulkup.core.plan_terms import WATCHED, PlanTerms
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.target import resolve
from bulkup.state.approvals import Approval, Approvals
from tests.conftest import Server

RANGES = {name: (number, 2 * number) for number, name in enumerate(WATCHED)}
TERMS = PlanTerms("plan", "code", "work", RANGES, "ann@host", 1_767_323_105)
FIRST = Approval("work", "Bump", {"step": "1", "sep": "\N{SNOWMAN}"}, "target", TERMS)


@pytest.fixture
def approvals(server: Server, monkeypatch: pytest.MonkeyPatch) -> Approvals:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", server.host)
    target = resolve(server.project)
    return Approvals(Rpc(target.client), target.info)


def test_an_approval_is_read_as_it_was_written(approvals: Approvals) -> None:
    assert approvals.read("work") is None
    written = approvals.write(FIRST)
    assert written.version
    assert approvals.read("work") == FIRST
    assert approvals.read("other") is None


def test_a_copy_of_a_write_that_arrives_late_changes_nothing(approvals: Approvals) -> None:
    first = approvals.write(FIRST)
    assert approvals.write(FIRST) == FIRST  # the same again: its answer was lost
    second = approvals.write(replace(first, terms=replace(TERMS, plan_id="second")))
    approvals.spend("work", "was carried out by run r")
    for late in (FIRST, first, second):
        with pytest.raises(HeldError, match="somebody else has just approved a plan of Bump"):
            approvals.write(late)
    there = approvals.read("work")
    assert there is not None
    assert (there.terms.plan_id, there.spent) == ("second", "was carried out by run r")


def test_of_two_who_approve_at_once_one_is_told(approvals: Approvals) -> None:
    approvals.write(FIRST)
    other = replace(FIRST, terms=replace(TERMS, plan_id="other", approved_by="bob@host"))
    with pytest.raises(HeldError, match="repeat the command"):
        approvals.write(other)
    assert approvals.read("work") == FIRST


def test_an_approval_is_spent_once_and_only_that_of_its_plan(approvals: Approvals) -> None:
    approvals.spend("work", "no such approval")
    approvals.write(FIRST)
    approvals.spend("work", "of another plan", plan_id="other")
    assert approvals.read("work") == FIRST
    approvals.spend("work", "was carried out by run r", plan_id="plan")
    approvals.spend("work", "was given up with run s")
    assert approvals.read("work") == replace(FIRST, spent="was carried out by run r")

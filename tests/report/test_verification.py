"""What the report of `bulkup verify` says, in every medium."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from bulkup.core.errors import Exit
from bulkup.core.events import Counts, Failure, FailureGroup, Report, RunState, Verification
from bulkup.core.failure_groups import FailureGroups
from bulkup.report.html import summary_html
from bulkup.report.summary_model import Tone, summarize
from bulkup.report.summary_text import summary_text
from tests.report.samples import HOSTILE, dangers, report

CLEAN = Verification(by_is_done=False, filtered=False)


def verified(verification: Verification = CLEAN, failed: int = 0, **changes: Any) -> Report:
    error = "a second handling would change full_name"
    keys = tuple(f"Key('City', {i})" for i in range(1, min(failed, 5) + 1))
    fields: dict[str, Any] = {
        "run_id": "",
        "dry_run": True,
        "counts": Counts(handled=100, failed=failed),
        "failures": tuple(Failure(key, "verify", error) for key in keys),
        "failure_groups": (FailureGroup("verify", error, "", failed, keys, ""),) if failed else (),
        "exit_code": Exit.PENDING if failed else Exit.DONE,
        "verification": verification,
        "elapsed_s": 2.0,
    }
    return report(**{**fields, **changes})


@pytest.mark.parametrize(
    ("made", "headline", "tone"),
    [
        (verified(), "Verified: 100 entities, all done (2.0 s)", Tone.GOOD),
        (
            verified(counts=Counts()),
            "Verified: the query finds no entity (2.0 s)",
            Tone.GOOD,
        ),
        (verified(failed=1), "Not clean: 1 of 100 entities is not done (2.0 s)", Tone.MIXED),
        (verified(failed=20), "Not clean: 20 of 100 entities are not done (2.0 s)", Tone.MIXED),
        (
            verified(state=RunState.STOPPED, reason="time is up (--max-time)"),
            "Verification stopped at a limit: 100 entities read, 0 not done (2.0 s)",
            Tone.MIXED,
        ),
        (
            verified(state=RunState.INTERRUPTED, reason="interrupted by SIGINT"),
            "Verification interrupted: 100 entities read, 0 not done (2.0 s)",
            Tone.MIXED,
        ),
        (
            verified(state=RunState.FAILED, reason="no answer"),
            "Verification failed: no answer",
            Tone.BAD,
        ),
    ],
)
def test_the_headline_says_how_it_ended(made: Report, headline: str, tone: Tone) -> None:
    summary = summarize(made)
    assert (summary.headline, summary.tone) == (headline, tone)
    assert headline in summary_text(summary)
    assert "entities handled" not in summary_text(summary)
    assert "would write" not in summary_text(summary).lower()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, "An entity is done if handling it again would change nothing."),
        ({"by_is_done": True}, "An entity is done if the updater's is_done says so."),
        ({"filtered": True}, "an entity that no longer matches them is not read"),
        ({"unsteady": 3}, "3 of them got another result each time"),
        (
            {"young": 7, "young_keys": ("Key('City', 1)", "Key('City', 2)")},
            "7 entities were created after the verification began, and not done "
            "(Key('City', 1), Key('City', 2) and 5 more)",
        ),
        ({"tells_births": False}, "This server does not say when an entity was created"),
        ({"done_since": 4}, "4 (not when first read, but a moment later)"),
        ({"out": "left.jsonl"}, "All keys are in left.jsonl"),
        ({}, "All keys: verify with --out FILE"),
    ],
)
def test_it_says_what_the_reader_must_know(changes: dict[str, Any], says: str) -> None:
    text = summary_text(summarize(verified(replace(CLEAN, **changes), failed=20)))
    assert says in text
    assert "The verification wrote nothing, neither in Datastore nor in the run state." in text
    assert "\nNot done\n" in text
    assert "\nFailures\n" not in text


def test_when_nothing_is_done_the_measure_may_be_wrong() -> None:
    hint = "this measure does not suit it: give it is_done"
    assert hint in summary_text(summarize(verified(failed=100)))
    assert hint not in summary_text(summarize(verified(failed=99)))
    asked = replace(CLEAN, by_is_done=True)
    assert hint not in summary_text(summarize(verified(asked, failed=100)))


def test_it_says_how_to_continue_only_where_there_is_a_file() -> None:
    stopped: dict[str, Any] = {"state": RunState.STOPPED, "reason": "time is up (--max-time)"}
    beside = replace(CLEAN, out="left.jsonl")
    says = "The same command continues from left.jsonl."
    assert says in summary_text(summarize(verified(beside, **stopped)))
    assert "continues" not in summary_text(summarize(verified(**stopped)))


def test_after_an_error_nothing_says_that_the_file_has_all() -> None:
    there = replace(CLEAN, out="left.jsonl")
    error = "cannot write to left.jsonl (No space left on device); name another --out"
    for failed in (7, 5_000):
        broken = verified(there, failed, state=RunState.FAILED, reason=error, exit_code=Exit.FAILED)
        text = summary_text(summarize(broken))
        assert "repeat the command to find the others" in text
        assert "All keys" not in text
        assert "them all" not in text


def test_hostile_strings_are_harmless() -> None:
    hostile = replace(CLEAN, young=1, young_keys=(HOSTILE,), out=HOSTILE)
    made = verified(
        hostile,
        failure_groups=(FailureGroup("verify", HOSTILE, "", 1, (HOSTILE,), ""),),
        counts=Counts(handled=2, failed=1),
    )
    text = summary_text(summarize(made))
    assert not dangers(text)
    assert "<script>" not in summary_html(summarize(made))


def test_properties_that_differ_in_a_number_are_groups_of_their_own() -> None:
    would = "a second handling would change line"
    failures = [Failure(f"Key('A', {i})", "verify", f"{would}{i % 2}") for i in range(6)]
    groups = FailureGroups(failures).largest_first()
    assert [(group.error, group.count) for group in groups] == [(f"{would}0", 3), (f"{would}1", 3)]

from __future__ import annotations

from dataclasses import replace

import pytest

from bulkup.core.errors import Exit
from bulkup.core.events import Counts, Failure, RunState
from bulkup.report.summary_model import BRIEF, EXIT_MEANINGS, Shown, Tone, tell
from bulkup.report.summary_text import summary_text
from tests.report.samples import (
    RESUME,
    RUN_ID,
    dangers,
    hostile_report,
    interrupted,
    report,
    with_failures,
)


def test_a_finished_run_says_so_in_one_line() -> None:
    story = tell(report())
    assert story.headline == (
        "Finished: 34,006 entities handled, 34,006 written, 0 failed in 1 min 12 s"
    )
    assert story.tone is Tone.GOOD
    assert story.sentences == ()
    assert story.next_command == ""


def test_deletions_are_not_called_writes() -> None:
    story = tell(report(counts=Counts(handled=5, deletes=5), total=5))
    assert story.headline.startswith("Finished: 5 entities handled, 5 deleted, 0 failed")


def test_failures_within_the_budget_are_in_the_headline() -> None:
    story = tell(with_failures(1, 1))
    assert story.headline.startswith("Finished, but 1 entity failed: 34,006 entities handled")
    assert story.sentences[0] == (
        "Nothing was written for the entity that failed; every other entity is done."
    )
    assert story.tone is Tone.MIXED
    assert ("Exit code", "3 (done, but some entities failed)") in story.rows


def test_the_first_failure_that_stops_a_run_is_the_headline() -> None:
    stopped = with_failures(
        1, 1, state=RunState.FAILED, exit_code=Exit.FAILED, max_failures=0, next_command=RESUME
    )
    story = tell(stopped)
    assert story.headline.startswith("Stopped at the first failure: 34,006 entities handled")
    assert story.tone is Tone.BAD
    assert (story.next_label, story.next_command) == ("Continue with", RESUME)


def test_an_exceeded_budget_is_told_with_its_size() -> None:
    story = tell(with_failures(11, 5, state=RunState.FAILED, max_failures=10))
    assert story.headline.startswith("Stopped after 11 failures (10 allowed): ")


@pytest.mark.parametrize("budget", [None, 0, 5, -1])
def test_an_error_that_ends_a_run_is_the_headline(budget: int | None) -> None:
    story = tell(
        report(
            state=RunState.FAILED,
            exit_code=Exit.FAILED,
            reason="Datastore did not answer for 10 min",
            max_failures=budget,
            counts=Counts(handled=10, puts=10),
            next_command=RESUME,
        )
    )
    assert story.headline == "Failed: Datastore did not answer for 10 min"
    assert story.sentences[0] == "So far: 10 entities handled, 10 written, 0 failed in 1 min 12 s."
    assert "writes nothing a second time" in story.sentences[1]


def test_a_failure_with_an_unlimited_budget_is_not_blamed_for_the_end() -> None:
    story = tell(with_failures(3, 3, state=RunState.FAILED, reason="the disk is full"))
    assert story.headline == "Failed: the disk is full"


def test_an_interrupted_run_says_that_nothing_is_lost_and_how_to_go_on() -> None:
    story = tell(interrupted())
    assert story.headline == f"Interrupted; nothing is lost. Continue with: {RESUME}"
    assert story.sentences[:2] == (
        "So far: 1,200 entities handled, 1,200 written, 0 failed in 1 min 12 s.",
        "Ctrl-C was pressed.",
    )
    assert summary_text(story).endswith(f"\nContinue with: {RESUME}\n")


def test_a_limit_is_not_a_failure() -> None:
    story = tell(interrupted(state=RunState.STOPPED, exit_code=Exit.LIMIT))
    assert story.headline.startswith("Stopped at a limit; nothing is lost. Continue with: ")
    assert story.tone is Tone.MIXED
    assert ("Handled", "1,200 of 34,006 (3%)") in story.rows


def test_a_run_without_end_does_not_claim_one() -> None:
    story = tell(interrupted(state=RunState.RUNNING, reason=""))
    assert story.headline.startswith("Not ended: still at work, or its runner was killed: ")
    assert "If its runner was killed, nothing is lost." in story.sentences
    assert "Ended" not in dict(story.rows)


def test_without_a_command_nothing_is_promised_of_resuming() -> None:
    text = summary_text(tell(interrupted(next_command="")))
    assert "esum" not in text
    assert "Continue" not in text


@pytest.mark.parametrize("state", list(RunState))
def test_a_dry_run_says_in_every_state_that_nothing_was_written(state: RunState) -> None:
    counts = Counts(handled=9, puts=5, deletes=2, failed=1)
    story = tell(report(dry_run=True, state=state, counts=counts, reason="why"))
    assert story.headline.startswith("Dry run")
    assert "nothing was written: 9 entities handled, would write 5, would delete 2" in (
        story.headline
    )
    text = summary_text(story)
    assert " deleted" not in text
    assert "5 written" not in text
    assert dict(story.rows)["Would write"] == "5"


def test_a_dry_run_says_how_many_changes_were_not_shown() -> None:
    dry = report(dry_run=True)
    assert (
        "The first 10 changes are shown above, 33,996 more are not (-v shows all, --json too)."
        in tell(dry, changes=Shown(34006, 10)).sentences
    )
    assert "All 3 changes are shown above." in tell(dry, changes=Shown(3, 3)).sentences
    assert "3 changes not shown (-v shows all, --json too)." in (
        tell(dry, changes=Shown(3, 0)).sentences
    )
    assert len(tell(dry, changes=Shown(0, 0)).sentences) == 1


def test_the_rest_of_the_failures_can_be_found() -> None:
    story = tell(with_failures(105, 20), brief=True)
    assert len(story.failures) == BRIEF
    assert story.failures_rest == f"100 more failures: bulkup show {RUN_ID}"
    assert story.failures[0].traceback
    assert not story.failures[1].traceback
    whole = tell(with_failures(105, 20))
    assert len(whole.failures) == 20
    assert whole.failures_rest == f"85 more failures: bulkup show {RUN_ID}"
    assert all(failure.traceback for failure in whole.failures)


def test_a_dry_run_does_not_name_a_run_that_was_never_kept() -> None:
    assert RUN_ID not in tell(with_failures(105, 20, dry_run=True)).failures_rest


def test_failures_name_the_step() -> None:
    steps = ("handle", "write", "read", "other")
    failures = tuple(Failure("k", step, "E: x") for step in steps)
    assert [line.what for line in tell(report(failures=failures)).failures] == [
        "the updater raised E: x",
        "the server refused the write: E: x",
        "it could not be read: E: x",
        "other: E: x",
    ]


def test_log_lines_and_warnings_are_told() -> None:
    story = tell(report(log_lines=("a", "b"), log_total=9, warnings=("w",)))
    text = summary_text(story)
    assert "Log\n  a\n  b\n  7 more log lines: bulkup show" in text
    assert "Warnings\n  w\n" in text


def test_a_count_that_differs_from_what_was_found_is_explained() -> None:
    assert "The count said 34,010" in tell(report(total=34010)).sentences[0]
    assert not tell(report(total=None)).sentences


def test_a_resumed_run_does_not_claim_the_time_of_its_last_runner() -> None:
    story = tell(report(runners=3))
    assert story.headline.endswith("0 failed (this runner: 1 min 12 s)")
    assert "Rate" not in dict(story.rows)
    assert dict(story.rows)["Runners"] == "3, one after the other"


def test_every_exit_code_has_a_meaning() -> None:
    assert set(EXIT_MEANINGS) == set(Exit)


def test_hostile_texts_stay_within_their_line() -> None:
    for state in RunState:
        for dry_run in (False, True):
            hostile = hostile_report(state=state, dry_run=dry_run, max_failures=0)
            story = tell(hostile)
            assert not dangers(summary_text(story))
            assert "\n" not in story.subject
            assert not dangers(story.subject)
            harmless = replace(
                hostile, reason="x", warnings=("x",), log_lines=("x",), description="x"
            )
            lines = summary_text(story).count("\n")
            assert lines == summary_text(tell(harmless)).count("\n")


def test_no_report_outgrows_a_mailbox() -> None:
    huge = Failure("k" * 10**5, "handle", "e" * 10**5, ("t" * 10**4 + "\n") * 10**3)
    story = tell(report(failures=(huge,) * 500, log_lines=("l" * 10**4,) * 5000, log_total=5000))
    assert len(summary_text(story)) < 3_000_000
    assert story.log_rest.startswith("4,800 more log lines")

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import pytest

from bulkup.core.errors import Exit
from bulkup.core.events import Counts, Failure, RunState, SpaceResult
from bulkup.report.summary_model import BRIEF, Summaries, Tone, summarize
from bulkup.report.summary_rows import EXIT_MEANINGS
from bulkup.report.summary_text import summary_text
from bulkup.report.summary_wording import changes_sentence
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
    summary = summarize(report())
    assert summary.headline == (
        "Finished: 34,006 entities handled, 34,006 written, 0 failed in 1 min 12 s"
    )
    assert summary.tone is Tone.GOOD
    assert summary.sentences == ()
    assert summary.next_command is None


def test_deletions_are_not_called_writes() -> None:
    summary = summarize(report(counts=Counts(handled=5, deletes=5), total=5))
    assert summary.headline.startswith("Finished: 5 entities handled, 5 deleted, 0 failed")


def test_failures_within_the_budget_are_in_the_headline() -> None:
    summary = summarize(with_failures(1, 1))
    assert summary.headline.startswith("Finished, but 1 entity failed: 34,006 entities handled")
    assert summary.sentences[0] == (
        "Nothing was written for the entity that failed; every other entity is done."
    )
    assert summary.tone is Tone.MIXED
    assert ("Exit code", "3 (done, but some entities failed)") in summary.rows


def test_the_first_failure_that_stops_a_run_is_the_headline() -> None:
    stopped = with_failures(
        1, 1, state=RunState.FAILED, exit_code=Exit.FAILED, max_failures=0, next_command=RESUME
    )
    summary = summarize(stopped)
    assert summary.headline.startswith("Stopped at the first failure: 34,006 entities handled")
    assert summary.tone is Tone.BAD
    assert (summary.next_label, summary.next_command) == ("Continue with", RESUME)


def test_an_exceeded_budget_is_reported_with_its_size() -> None:
    summary = summarize(with_failures(11, 5, state=RunState.FAILED, max_failures=10))
    assert summary.headline.startswith("Stopped after 11 failures (10 allowed): ")


@pytest.mark.parametrize("budget", [None, 0, 5, -1])
def test_an_error_that_ends_a_run_is_the_headline(budget: int | None) -> None:
    summary = summarize(
        report(
            state=RunState.FAILED,
            exit_code=Exit.FAILED,
            reason="Datastore did not answer for 10 min",
            max_failures=budget,
            counts=Counts(handled=10, puts=10),
            next_command=RESUME,
        )
    )
    assert summary.headline == "Failed: Datastore did not answer for 10 min"
    assert (
        summary.sentences[0] == "So far: 10 entities handled, 10 written, 0 failed in 1 min 12 s."
    )
    assert "writes nothing twice" in summary.sentences[1]


def test_a_failure_with_an_unlimited_budget_is_not_blamed_for_the_end() -> None:
    summary = summarize(with_failures(3, 3, state=RunState.FAILED, reason="the disk is full"))
    assert summary.headline == "Failed: the disk is full"


def test_an_interrupted_run_says_that_nothing_is_lost_and_how_to_continue() -> None:
    summary = summarize(interrupted())
    assert summary.headline == "Interrupted; nothing is lost."
    assert summary.sentences[:2] == (
        "So far: 1,200 entities handled, 1,200 written, 0 failed in 1 min 12 s.",
        "Ctrl-C was pressed.",
    )
    assert summary_text(summary).count(RESUME) == 1
    assert summary_text(summary).endswith(f"\nContinue with: {RESUME}\n")


def test_a_limit_is_not_a_failure() -> None:
    summary = summarize(interrupted(state=RunState.STOPPED, exit_code=Exit.LIMIT))
    assert summary.headline.startswith("Stopped at a limit; nothing is lost.")
    assert summary.tone is Tone.MIXED
    assert ("Handled", "1,200 of 34,006 (3%)") in summary.rows


def test_an_unfinished_run_does_not_claim_to_have_ended() -> None:
    summary = summarize(interrupted(state=RunState.RUNNING, reason=""))
    assert summary.headline.startswith("Not finished: still running, or its process was killed: ")
    assert "If its process was killed, nothing is lost." in summary.sentences
    assert "Ended" not in dict(summary.rows)


def test_without_a_resume_command_nothing_promises_resuming() -> None:
    text = summary_text(summarize(interrupted(next_command="")))
    assert "esum" not in text
    assert "Continue" not in text


@pytest.mark.parametrize("state", list(RunState))
def test_a_dry_run_says_in_every_state_that_nothing_was_written(state: RunState) -> None:
    counts = Counts(handled=9, puts=5, deletes=2, failed=1)
    summary = summarize(report(dry_run=True, state=state, counts=counts, reason="why"))
    assert summary.headline.startswith("Dry run")
    assert "nothing was written: 9 entities handled, would write 5, would delete 2" in (
        summary.headline
    )
    text = summary_text(summary)
    assert " deleted" not in text
    assert "5 written" not in text
    assert dict(summary.rows)["Would write"] == "5"


def test_a_dry_run_says_how_many_changes_were_not_shown() -> None:
    assert changes_sentence(34006, 10) == (
        "The first 10 changes are shown above, 33,996 more are not (-v or --json shows all)."
    )
    assert changes_sentence(1, 1) == "The only change is shown above."
    assert changes_sentence(3, 3) == "All 3 changes are shown above."
    assert changes_sentence(3, 0) == "3 changes not shown (-v or --json shows all)."


def test_the_rest_of_the_failures_can_be_found() -> None:
    summary = summarize(with_failures(105, 20)).brief()
    assert len(summary.failures) == BRIEF
    assert summary.failures_rest == f"100 more failures: bulkup show {RUN_ID}"
    assert summary.failures[0].traceback
    assert not summary.failures[1].traceback
    whole = summarize(with_failures(105, 20))
    assert len(whole.failures) == 20
    assert whole.failures_rest == f"85 more failures: bulkup show {RUN_ID}"
    assert all(failure.traceback for failure in whole.failures)


def test_a_dry_run_does_not_name_a_run_that_was_never_kept() -> None:
    assert RUN_ID not in summarize(with_failures(105, 20, dry_run=True)).failures_rest


def test_failures_name_the_step() -> None:
    steps = ("handle", "write", "read", "other")
    failures = tuple(Failure("k", step, "E: x") for step in steps)
    assert [line.what for line in summarize(report(failures=failures)).failures] == [
        "the updater raised E: x",
        "the server refused the write: E: x",
        "it could not be read: E: x",
        "other: E: x",
    ]


def test_log_lines_and_warnings_are_shown() -> None:
    summary = summarize(report(log_lines=("a", "b"), log_total=9, warnings=("w",)))
    text = summary_text(summary)
    assert "Log\n  a\n  b\n  7 more log lines: bulkup show" in text
    assert "Warnings\n  w\n" in text


def test_a_count_that_differs_from_what_was_found_is_explained() -> None:
    assert "The initial count was 34,010." in summarize(report(total=34010)).sentences[0]
    assert not summarize(report(total=None)).sentences


def test_a_resumed_run_does_not_claim_the_time_of_its_last_runner() -> None:
    summary = summarize(report(runners=3))
    assert summary.headline.endswith("0 failed (1 min 12 s since the last resume)")
    assert "Rate" not in dict(summary.rows)
    assert dict(summary.rows)["Resumed"] == "2 times"


def test_a_summary_is_built_once_and_does_not_outlive_the_next_one() -> None:
    summaries = Summaries()
    first = report()
    assert summaries.of(first) is summaries.of(first)
    is_kept = weakref.ref(first)
    del first
    summaries.of(report())
    gc.collect()
    assert is_kept() is None


def test_every_exit_code_has_a_meaning() -> None:
    assert set(EXIT_MEANINGS) == set(Exit)


def test_hostile_strings_stay_within_their_line() -> None:
    for state in RunState:
        for dry_run in (False, True):
            hostile = hostile_report(state=state, dry_run=dry_run, max_failures=0)
            summary = summarize(hostile)
            assert not dangers(summary_text(summary))
            assert "\n" not in summary.subject
            assert not dangers(summary.subject)
            harmless = replace(
                hostile, reason="x", warnings=("x",), log_lines=("x",), description="x"
            )
            lines = summary_text(summary).count("\n")
            assert lines == summary_text(summarize(harmless)).count("\n")


def test_no_report_outgrows_a_mailbox() -> None:
    huge = Failure("k" * 10**5, "handle", "e" * 10**5, ("t" * 10**4 + "\n") * 10**3)
    summary = summarize(
        report(failures=(huge,) * 500, log_lines=("l" * 10**4,) * 5000, log_total=5000)
    )
    assert len(summary_text(summary)) < 3_000_000
    assert summary.log_rest.startswith("4,800 more log lines")


def test_the_failures_of_namespaces_are_retried_run_by_run() -> None:
    counts = Counts(handled=9, puts=8, failed=1)
    space = SpaceResult("eu", "r", RunState.FINISHED, counts, Exit.DONE_WITH_FAILURES)
    whole = report(counts=counts, exit_code=Exit.DONE_WITH_FAILURES, spaces=(space,))
    retry = "retry the run of each namespace (`bulkup retry RUN`)"
    assert retry in summary_text(summarize(whole))
    assert retry not in summary_text(summarize(report(counts=counts)))

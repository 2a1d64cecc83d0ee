"""What is shown on GitHub Actions, and what a hostile string cannot do there."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest

from bulkup.core.errors import Exit, UsageError
from bulkup.core.events import Failure, RunState
from bulkup.report.github import GitHubPage, github_page, plain
from tests.report.samples import HOSTILE, report

ON = {"GITHUB_ACTIONS": "true"}


def shown(tmp_path: Path, page: GitHubPage) -> tuple[str, str]:
    err = io.StringIO()
    page.err = err
    page.write()
    summary = tmp_path / "summary.md"
    return err.getvalue(), summary.read_text() if summary.exists() else ""


@pytest.fixture
def page(tmp_path: Path) -> GitHubPage:
    return GitHubPage(str(tmp_path / "summary.md"), io.StringIO())


def test_a_good_run_is_summarized_and_makes_no_noise(tmp_path: Path, page: GitHubPage) -> None:
    page.report(report())
    commands, summary = shown(tmp_path, page)
    assert commands == ""
    assert summary.startswith("### ✅ ")
    assert "| Handled | " in summary


def test_a_failed_run_is_an_error_with_its_first_failures(tmp_path: Path, page: GitHubPage) -> None:
    failure = Failure("Key('City', 5)", "handle", "ValueError: 100%, no")
    page.report(
        report(
            state=RunState.FAILED, exit_code=Exit.FAILED, reason="the server went away",
            failures=(failure,), counts=replace(report().counts, failed=1),
        ),
        "0001_a",
    )  # fmt: skip
    commands, summary = shown(tmp_path, page)
    first, second = commands.splitlines()
    assert first.startswith("::error title=0001_a::")
    assert second == (
        "::error title=0001_a%3A Key('City'%2C 5)::the updater raised ValueError: 100%25, no"
    )
    assert summary.startswith("### ❌ 0001&#95;a\n")


def test_an_error_before_the_run_is_reported(tmp_path: Path, page: GitHubPage) -> None:
    page.error(UsageError("name an updater"))
    assert shown(tmp_path, page) == (
        "::error title=bulkup::name an updater\n",
        "### ❌ bulkup\n\nname an updater\n",
    )


def test_hostile_strings_become_no_markup_and_no_command(tmp_path: Path, page: GitHubPage) -> None:
    bad = f"{HOSTILE} ::error::x [a](http://b) | `c` www.d.e @f"
    page.report(
        report(
            updater=bad, description=bad, reason=bad, state=RunState.FAILED, warnings=(bad,),
            failures=(Failure(bad, "handle", bad),),
        )
    )  # fmt: skip
    page.migrations([(bad, None)], bad)
    commands, summary = shown(tmp_path, page)
    assert all(line.startswith(("::error title=", "::warning title=")) for line in
               commands.splitlines())  # fmt: skip
    assert all(line.count("::error title=") <= 1 for line in commands.splitlines())
    for markup in ("<script", "[a]", "](", "`", "http:", "www.", "@f", "\x1b"):
        assert markup not in summary, markup


def test_plain_is_readable_where_it_can_be() -> None:
    assert plain("34,006 handled (12%), Größe") == "34,006 handled (12%), Größe"
    assert plain("<b>|`*_[]#") == "&#60;b&#62;&#124;&#96;&#42;&#95;&#91;&#93;&#35;"


def test_no_line_of_the_log_is_a_command_while_bulkup_works() -> None:
    err = io.StringIO()
    with github_page(ON, err) as page:
        err.write("  ::error::from an entity\n")
        assert page is not None
        page.error(UsageError("x"))
    stop, _, go_on, ours = err.getvalue().splitlines()
    assert stop.startswith("::stop-commands::")
    assert go_on == f"::{stop.rpartition('::')[2]}::"
    assert ours == "::error title=bulkup::x"


def test_outside_github_nothing_is_written(tmp_path: Path) -> None:
    err = io.StringIO()
    with github_page({"GITHUB_STEP_SUMMARY": str(tmp_path / "x")}, err) as page:
        assert page is None
    assert err.getvalue() == ""
    assert list(tmp_path.iterdir()) == []


def test_a_summary_that_cannot_be_written_is_reported_and_ends_nothing(tmp_path: Path) -> None:
    err = io.StringIO()
    with github_page({**ON, "GITHUB_STEP_SUMMARY": str(tmp_path)}, err) as page:
        assert page is not None
        page.report(report())
    assert "The step summary could not be written: Is a directory." in err.getvalue()


def test_a_summary_stays_below_what_github_drops(tmp_path: Path, page: GitHubPage) -> None:
    for _ in range(2000):
        page.report(report())
    _, summary = shown(tmp_path, page)
    assert 500_000 < len(summary.encode()) < 1024 * 1024
    assert summary.endswith("\n")

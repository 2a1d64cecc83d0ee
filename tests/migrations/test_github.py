"""`bulkup migrate` as a step of a GitHub workflow."""

from __future__ import annotations

from google.cloud import datastore

from tests.cli.shell import Shell


def test_the_job_page_shows_a_failed_migration(project: Shell, items: datastore.Client) -> None:
    summary = project.folder / "summary.md"
    env = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_STEP_SUMMARY": str(summary),
        "GITHUB_RUN_ID": "17",
        "GITHUB_REPOSITORY": "shop/shop",
        "GITHUB_SHA": "abc123",
    }
    result = project.bulkup("migrate", env={**env, "FAIL_AT": "b"})
    assert result.code == 1
    lines = result.err.splitlines()
    assert lines[0].startswith("::stop-commands::")
    errors = [line for line in lines if line.startswith("::error")]
    assert errors[0].startswith("::error title=0002_b::Stopped at the first failure")
    assert "ValueError: not today" in errors[1]
    text = summary.read_text()
    assert text.startswith("## Migrations\n")
    assert "| ✅ | 0001&#95;a | finished | 12 | 12 | 0 |" in text
    assert "| ❌ | 0002&#95;b | failed |" in text
    assert "| ⏳ | 0003&#95;c | pending |" in text
    assert "ValueError" in text
    rows = project.bulkup("status", "--json").of_type("migration")
    assert rows[0]["ci_job"] == "https://github.com/shop/shop/actions/runs/17"
    assert rows[0]["git_commit"] == "abc123"
    summary.unlink()
    assert project.bulkup("migrate", "--json", env=env).of_type("migrate")
    assert "3 migrations" not in summary.read_text()
    assert "2 migrations applied, none left" in summary.read_text()


def test_the_job_page_shows_a_run_too(project: Shell, items: datastore.Client) -> None:
    summary = project.folder / "summary.md"
    env = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}
    assert project.bulkup("run", "updaters/0001_a.py", env=env).code == 0
    assert summary.read_text().startswith("### ✅ AddA\n")

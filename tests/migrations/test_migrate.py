"""`bulkup migrate` applies what is pending, in order, once."""

from __future__ import annotations

import shutil

import pytest
from google.cloud import datastore

from tests.cli.shell import Shell, contents, markers
from tests.conftest import Server
from tests.migrations.conftest import trails, write_step

pytestmark = pytest.mark.sampled(9)


def names(shell: Shell, live_markers: str) -> list[str]:
    rows = shell.bulkup("status", "--json").of_type("migration")
    return [row["name"] for row in rows if row["standing"] == live_markers]


def test_pending_migrations_are_applied_in_order_and_once(
    project: Shell, items: datastore.Client, embedded: Server
) -> None:
    first = project.bulkup("migrate")
    assert first.code == 0, first
    assert "3 migrations applied, none left." in first.out
    assert trails(items) == {"abc"}
    assert markers(embedded) == []
    before = contents(embedded)
    again = project.bulkup("migrate")
    assert (again.code, again.out) == (0, "Nothing is pending.\n")
    assert contents(embedded) == before


def test_a_new_file_is_applied_and_the_old_ones_are_not(
    project: Shell, items: datastore.Client
) -> None:
    project.bulkup("migrate")
    write_step(project, "0004_d", "d")
    result = project.bulkup("migrate", "updaters", "--json")
    assert [s["updater"] for s in result.of_type("summary")] == ["AddD"]
    (told,) = result.of_type("migrate")
    assert told["applied"] == ["0004_d"]
    assert told["left"] == []
    assert trails(items) == {"abcd"}


def test_it_stops_at_the_first_failure_and_resumes_there(
    project: Shell, items: datastore.Client
) -> None:
    failed = project.bulkup("migrate", "--batch-size", "3", env={"FAIL_AT": "b"})
    assert failed.code == 1
    assert "1 migration applied, 2 left, stopped at 0002_b" in failed.out
    assert "Continue with: bulkup migrate updaters" in failed.out
    assert names(project, "failed") == ["0002_b"]
    assert trails(items) == {"a", "ab"}  # the batches before the failure were written
    result = project.bulkup("migrate")
    assert result.code == 0, result
    assert trails(items) == {"abc"}


def test_a_killed_migration_resumes_from_datastore_alone(
    project: Shell, items: datastore.Client
) -> None:
    killed = project.bulkup("migrate", "--batch-size", "3", env={"DIE_AT": "b"})
    assert killed.code == -9
    shutil.rmtree(project.state_dir)
    result = project.bulkup("migrate", "--json")
    assert result.code == 0, result
    resumed, fresh = result.of_type("start")
    assert resumed["resumed"]
    assert not fresh["resumed"]
    assert trails(items) == {"abc"}


def test_the_next_migrate_resumes_after_max_time(project: Shell, items: datastore.Client) -> None:
    result = project.bulkup("migrate", "--max-time", "0s")
    assert result.code == 75
    assert "3 left: time is up (--max-time)" in result.out
    assert trails(items) == {""}
    limited = project.bulkup("migrate", "--limit", "5")
    assert limited.code == 75
    assert "stopped at 0001_a" in limited.out
    assert project.bulkup("migrate").code == 0
    assert trails(items) == {"abc"}


def test_to_and_only_select_migrations(project: Shell, items: datastore.Client) -> None:
    assert project.bulkup("migrate", "--to", "0002").code == 0
    assert trails(items) == {"ab"}
    write_step(project, "0004_d", "d")
    assert project.bulkup("migrate", "--only", "0004_d.py").code == 0
    assert trails(items) == {"abd"}
    project.bulkup("migrate", "--only", "0009").fails(10, "no migration 0009")
    project.bulkup("migrate", "--to", "000").fails(2, "matches 4 migrations")
    assert names(project, "pending") == ["0003_c"]


def test_only_does_not_skip_the_predecessors(project: Shell, items: datastore.Client) -> None:
    write_step(project, "0004_d", "d", head='after = ["0003_c"]')
    project.bulkup("migrate", "--only", "0004_d").fails(2, "0003_c", "pending")
    assert trails(items) == {""}


def test_after_overrides_the_order_of_names(project: Shell, items: datastore.Client) -> None:
    write_step(project, "0001_a", "a", head='after = ["0003_c"]')
    assert project.bulkup("migrate").code == 0
    assert trails(items) == {"bca"}


def test_a_changed_migration_stops_it_until_accepted(
    project: Shell, items: datastore.Client
) -> None:
    project.bulkup("migrate", "--to", "0001_a")
    path = project.folder / "updaters/0001_a.py"
    path.write_text(path.read_text().replace("'''Append", "# why\n\n    '''Append"))
    assert names(project, "applied") == ["0001_a"]  # a comment and a blank line
    path.write_text(path.read_text() + "\nX = 1\n")
    project.bulkup("migrate").fails(
        2, "0001_a was changed", "(bulkup migrate --accept-changed 0001_a)"
    )
    assert trails(items) == {"a"}
    assert names(project, "changed") == ["0001_a"]
    assert project.bulkup("migrate", "--accept-changed", "0001_a").code == 0
    assert trails(items) == {"abc"}
    row = project.bulkup("status", "--json").of_type("migration")[0]
    assert row["standing"] == "applied"
    assert row["marked"].startswith("change accepted by ")


def test_a_fixed_migration_resumes_with_its_new_code(
    project: Shell, items: datastore.Client
) -> None:
    project.bulkup("migrate", "--batch-size", "3", env={"FAIL_AT": "a"})
    path = project.folder / "updaters/0001_a.py"
    path.write_text(path.read_text().replace('if os.environ.get("FAIL_AT")', "if None"))
    result = project.bulkup("migrate", env={"FAIL_AT": "a"})
    assert result.code == 0
    assert "0001_a has changed since it was started" in result.err
    assert trails(items) == {"abc"}
    assert names(project, "applied") == ["0001_a", "0002_b", "0003_c"]


def test_a_migration_with_another_query_is_not_resumed(
    project: Shell, items: datastore.Client
) -> None:
    project.bulkup("migrate", "--batch-size", "3", env={"FAIL_AT": "a"})
    path = project.folder / "updaters/0001_a.py"
    path.write_text(path.read_text().replace('kind="Item"', 'kind="Thing"'))
    result = project.bulkup("migrate")
    assert result.code == 2
    assert "0001_a was started with another query" in result.err
    assert trails(items) == {"", "a"}


def test_the_missing_file_of_an_unfinished_migration_stops_it(
    project: Shell, items: datastore.Client
) -> None:
    project.bulkup("migrate", "--batch-size", "3", env={"FAIL_AT": "a"})
    (project.folder / "updaters/0001_a.py").unlink()
    project.bulkup("migrate").fails(2, "0001_a was started", "its file is missing")


def test_an_emptied_datastore_is_migrated_again(
    project: Shell, items: datastore.Client, embedded: Server
) -> None:
    """A restarted emulator, with the state directory of before."""
    project.bulkup("migrate")
    every = list(items.query(kind="BulkupRun").fetch())
    items.delete_multi([e.key for e in every])
    assert project.bulkup("migrate").code == 0
    assert trails(items) == {"abcabc"}


def test_a_migration_whose_record_was_deleted_starts_again(
    project: Shell, items: datastore.Client
) -> None:
    project.bulkup("migrate", "--batch-size", "3", env={"FAIL_AT": "b"})
    (run_info,) = (r for r in items.query(kind="BulkupRun").fetch() if r.get("updater") == "AddB")
    items.delete(run_info.key)
    assert project.bulkup("migrate").code == 0
    assert trails(items) == {"abc", "abbc"}  # deleting the record caused this


def test_it_stops_where_finish_fails_and_applies_it_once_finish_succeeds(
    project: Shell, items: datastore.Client
) -> None:
    path = project.folder / "updaters/0001_a.py"
    before = path.read_text()
    path.write_text(before + "\n    def finish(self, success, report): 1 / 0\n")
    result = project.bulkup("migrate")
    assert result.code == 1
    assert (
        "0 migrations applied, 3 left, stopped at 0001_a: every entity is done, but" in result.out
    )
    path.write_text(before)
    assert project.bulkup("migrate").code == 0
    assert trails(items) == {"abc"}


def test_nothing_pending_costs_two_calls(project: Shell, items: datastore.Client) -> None:
    project.bulkup("migrate")
    result = project.script(
        """
        from bulkup.datastore.call import Call
        calls, send = [], Call._send
        def counting(call):
            calls.append(call.name)
            send(call)
        Call._send = counting
        from bulkup.cli import call
        assert call(["migrate", "-q"]) == 0
        print(",".join(calls))
        """
    )
    assert result.out.splitlines()[-1] in ("RunQuery", "RunQuery,RunQuery"), result


def test_the_ledger_is_readable_by_people(project: Shell, items: datastore.Client) -> None:
    env = {"CI_JOB_URL": "https://ci.example/1", "CI_COMMIT_SHA": "abc123"}
    project.bulkup("migrate", "--to", "0001", env=env)
    (run_info,) = (r for r in items.query(kind="BulkupRun").fetch() if r.get("migration"))
    assert run_info["migration"] == "0001_a"
    assert run_info["state"] == "finished"
    assert run_info["ci_job"] == "https://ci.example/1"
    assert run_info["git_commit"] == "abc123"
    assert run_info["seconds"] >= 0
    assert run_info["ended"] >= run_info["started"].replace(microsecond=0)
    assert "@" in run_info["who"]
    assert '"handled": 12' in run_info["counts"]


def test_an_error_between_two_migrations_tells_what_was_applied_and_what_is_left(
    project: Shell, items: datastore.Client
) -> None:
    source = (project.folder / "updaters/0002_b.py").read_text()
    project.write("updaters/0002_b.py", source.replace('kind="Item"', 'kind="Itm"'))
    stopped = project.bulkup("migrate", "--json")
    assert stopped.code == 1
    *_, error, last = stopped.lines
    assert (error["type"], error["run_id"]) == ("error", "")  # it is not about 0001
    assert "did you mean Item" in error["message"]
    assert (last["type"], last["exit_code"]) == ("migrate", 1)
    assert (last["applied"], last["stopped_at"]) == (["0001_a"], "0002_b")
    assert last["left"] == ["0002_b", "0003_c"]
    assert last["reason"] == error["message"]

    project.write("updaters/0001_b.py", source)  # applied before the same error
    stopped = project.bulkup("migrate")
    assert stopped.code == 1
    assert stopped.err.count("did you mean Item") == 1
    assert "did you mean" not in stopped.out
    assert "1 migration applied, 2 left, stopped at 0002_b. Continue with: bulkup" in stopped.out
    # An error that comes before anything was done needs no account of it.
    project.bulkup("migrate", "-q").fails(1, "did you mean Item")
    assert trails(items) == {"ab"}

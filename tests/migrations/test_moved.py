"""Migrations that were renamed, deleted, or never had a number: none is applied again silently."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
from google.cloud import datastore

from tests.cli.shell import Result, Shell
from tests.conftest import Server
from tests.migrations.conftest import Machine, trails, write_step
from tests.migrations.test_marks import statuses

pytestmark = pytest.mark.sampled(9)


def move(shell: Shell, old: str, new: str, folder: str = "updaters") -> Path:
    path = shell.folder / folder / f"{old}.py"
    return path.rename(path.with_name(f"{new}.py"))


def offered(result: Result) -> list[str]:
    """The command that a sentence offers for a renamed migration."""
    (_, command) = result.err.split("if it was renamed: bulkup ", 1)
    return shlex.split(command.split(";", 1)[0])


def test_a_renamed_migration_stops_migrate_and_the_offered_command_renames_it(
    project: Shell, items: datastore.Client
) -> None:
    assert project.bulkup("migrate").code == 0
    move(project, "0002_b", "0002_bee")
    stopped = project.bulkup("migrate")
    stopped.fails(4, "0002_b is applied, but its file is missing, and 0002_bee has its code")
    status = project.bulkup("status", "--check")
    assert status.code == 4
    assert "bulkup mark 0002_b --renamed-to 0002_bee" in status.out
    assert statuses(project) == ["applied", "pending", "applied", "missing"]
    assert project.bulkup("status", "--json").of_type("migration")[-1]["same_code"] == ["0002_bee"]
    words = offered(stopped)
    assert words == ["mark", "0002_b", "--renamed-to", "0002_bee"]
    (error,) = project.bulkup("migrate", "--json").of_type("error")
    assert error["next_steps"] == ["bulkup mark 0002_b --renamed-to 0002_bee"]
    assert "0002_b is now 0002_bee" in project.bulkup(*words).out
    assert project.bulkup("status", "--check").code == 0
    assert project.bulkup("migrate").out == "Nothing is pending.\n"
    assert trails(items) == {"abc"}
    assert "renamed from 0002_b by" in project.bulkup("status").out


def test_the_offered_command_names_the_folder_and_the_file_of_the_target(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    write_step(shell, "0001_a", "a")
    shutil.move(tmp_path / "updaters", tmp_path / "steps")
    shell.write("sample.jsonl", '{"name": "one"}\n')
    local = ("--local", "try.datastore")
    assert (
        shell.bulkup("local", "load", "try.datastore", "sample.jsonl", "--kind", "Item").code == 0
    )
    assert shell.bulkup("migrate", "steps", *local).code == 0
    move(shell, "0001_a", "0001_b", "steps")
    words = offered(shell.bulkup("migrate", "steps", *local))
    assert shell.bulkup(*words).code == 0
    assert shell.bulkup("status", "steps", *local, "--check").code == 0


def test_a_migration_interrupted_under_its_old_name_is_resumed_under_its_new_one(
    machines: Machine, server: Server
) -> None:
    from tests.cli.shell import seed

    client = seed(server, 12)
    shell = machines("one")
    small = ("migrate", "--to", "0002", "--batch-size", "3")
    assert shell.bulkup(*small, env={"DIE_AT": "b"}).code == -9
    move(shell, "0002_b", "0002_bee")
    stopped = shell.bulkup(*small)
    stopped.fails(2, "0002_b was started but not finished", "0002_bee has its code")
    assert shell.bulkup(*offered(stopped)).code == 0
    shutil.rmtree(shell.state_dir)
    assert shell.bulkup(*small).code == 0
    assert trails(client) == {"ab"}


def test_a_rename_keeps_every_attempt(project: Shell, items: datastore.Client) -> None:
    project.bulkup("migrate")
    project.bulkup("mark", "0002_b", "--pending")
    project.bulkup("migrate")
    move(project, "0002_b", "0002_bee")
    assert project.bulkup("mark", "0002_b", "--renamed-to", "0002_bee").code == 0
    assert project.bulkup("migrate").out == "Nothing is pending.\n"
    project.bulkup("mark", "0002_bee", "--pending")
    assert project.bulkup("migrate").code == 0
    assert project.bulkup("status", "--check").code == 0
    assert trails(items) == {"abcbb"}


def test_a_file_that_is_back_under_its_old_name_is_not_applied_again(
    project: Shell, items: datastore.Client
) -> None:
    project.bulkup("migrate")
    new = move(project, "0002_b", "0002_bee")
    project.bulkup("mark", "0002_b", "--renamed-to", "0002_bee")
    shutil.copy(new, new.with_name("0002_b.py"))
    project.bulkup("migrate").fails(4, "0002_b was renamed to 0002_bee in the ledger")
    assert project.bulkup("status", "--check").code == 4
    assert statuses(project) == ["applied", "renamed", "applied", "applied"]
    project.bulkup("mark", "0002_b", "--pending").fails(2, "was renamed to 0002_bee")
    new.unlink()  # an old checkout: it is renamed back
    stopped = project.bulkup("migrate")
    assert stopped.code == 4
    assert project.bulkup(*offered(stopped)).code == 0
    assert project.bulkup("status", "--check").code == 0
    assert trails(items) == {"abc"}


def test_a_migration_that_was_renamed_and_changed_is_named_as_changed(
    project: Shell, items: datastore.Client
) -> None:
    project.bulkup("migrate")
    (project.folder / "updaters/0002_b.py").unlink()
    write_step(project, "0002_bee", "x")
    project.bulkup("migrate").fails(4, "bulkup mark 0002_b --renamed-to NAME")
    assert project.bulkup("mark", "0002_b", "--renamed-to", "0002_bee").code == 0
    project.bulkup("migrate").fails(2, "0002_bee was changed after it was applied")


def test_renames_that_say_something_else_than_the_folder_are_refused(
    project: Shell, items: datastore.Client
) -> None:
    project.bulkup("migrate", "--to", "0002")
    rename = ("mark", "0001_a", "--renamed-to")
    project.bulkup(*rename, "0003_c").fails(2, "its file is in the folder")
    move(project, "0001_a", "_a")
    project.bulkup(*rename, "0002_b").fails(2, "already has a migration 0002_b (applied)")
    project.bulkup(*rename, "0009").fails(10, "no migration 0009")
    assert project.bulkup(*rename, "0003_c", "--applied").code == 2
    assert project.bulkup("mark", "0001_a", "--pending").code == 0  # deleted on purpose
    assert project.bulkup("migrate").code == 0
    assert trails(items) == {"abc"}


def test_files_without_a_number_are_helpers_and_updaters_among_them_are_named(
    project: Shell, items: datastore.Client
) -> None:
    project.write("updaters/tools.py", "raise SystemExit('run')")
    write_step(project, "again", "x")
    result = project.bulkup("migrate")
    assert result.code == 0
    assert "(again); rename again.py to 0004_again.py" in result.err
    assert trails(items) == {"abc"}
    status = project.bulkup("status", "--check")
    assert status.code == 0
    assert "rename again.py to 0004_again.py" in status.out
    assert "tools" not in status.out
    (line,) = project.bulkup("status", "--json").of_type("status")
    assert (line["done"], line["updaters_without_number"]) == (True, ["again"])


def test_a_number_of_a_missing_migration_is_not_proposed_again(
    project: Shell, items: datastore.Client
) -> None:
    project.bulkup("migrate")
    (project.folder / "updaters/0003_c.py").unlink()
    write_step(project, "again", "x")
    assert "rename again.py to 0004_again.py" in project.bulkup("migrate").err
    assert "rename again.py to 0004_again.py" in project.bulkup("status").out


def test_a_program_is_offered_no_command_that_forgets_or_repeats_a_migration(
    project: Shell, items: datastore.Client
) -> None:
    def steps(*args: str) -> list[str]:
        (error,) = project.bulkup("migrate", "--json", *args).of_type("error")
        assert "bulkup mark" in error["message"]  # a person may know better
        found: list[str] = error["next_steps"]
        return found

    assert project.bulkup("migrate", "--to", "0001").code == 0
    changed = project.folder / "updaters/0001_a.py"
    source = changed.read_text()
    changed.write_text(source.replace('+ "a"', '+ "x"'))
    assert steps() == []
    changed.unlink()
    assert steps() == []
    write_step(project, "0001_b", "y")
    changed.with_name("0001_b.py").write_text(source)
    assert steps() == ["bulkup mark 0001_a --renamed-to 0001_b"]
    move(project, "0001_b", "0001_a")
    assert project.bulkup("migrate", "--limit", "2").code == 75
    (project.folder / "updaters/0002_b.py").unlink()
    assert steps() == []


def test_a_folder_without_a_number_says_how_migrations_are_named(
    project: Shell, items: datastore.Client
) -> None:
    for step in (project.folder / "updaters").glob("*.py"):
        step.rename(step.with_name(step.name[5:]))
    project.bulkup("migrate").fails(2, "holds 3 updaters", "rename a.py to 0001_a.py")
    assert project.bulkup("status").code == 0
    status = project.bulkup("status", "--check")
    assert status.code == 4
    assert "rename a.py to 0001_a.py" in status.out
    assert trails(items) == {""}


def test_what_was_applied_without_a_number_stays_a_migration(
    project: Shell, items: datastore.Client
) -> None:
    """Before, every file of the folder was one."""
    project.bulkup("migrate", "--to", "0001")
    for record in items.query(kind="BulkupRun").fetch():
        if record.get("migration"):
            with_name(items, record, "old_step")
    move(project, "0001_a", "old_step")
    assert statuses(project) == ["pending", "pending", "applied"]
    assert project.bulkup("migrate").code == 0
    assert trails(items) == {"abc"}
    move(project, "old_step", "0000_old")
    stopped = project.bulkup("migrate")
    assert stopped.code == 4
    assert project.bulkup(*offered(stopped)).code == 0
    assert project.bulkup("status", "--check").code == 0


def with_name(client: datastore.Client, record: datastore.Entity, name: str) -> None:
    """Store a migration's record as if its file had had another name when it was applied."""
    run_id = f"{name}{record.key.name[len(record['migration']) :]}"
    entity = datastore.Entity(client.key("BulkupRun", run_id))
    entity.update(record, migration=name)
    entity["record"] = record["record"].replace(record.key.name, run_id)
    entity.exclude_from_indexes.update(record.exclude_from_indexes)
    client.put(entity)
    client.delete(record.key)


@pytest.mark.parametrize("command", ["migrate", "status", "mark", "unlock"])
def test_two_folders_in_one_command_are_refused(project: Shell, command: str) -> None:
    name = {"mark": ["0001_a", "--applied"], "unlock": ["0001_a"]}.get(command, [])
    result = project.bulkup(command, *name[:1], "one", "--in", "two", *name[1:])
    assert result.code == 2
    assert "two folders were given" in result.err

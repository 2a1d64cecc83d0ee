"""Changes made by hand: `bulkup mark`, `bulkup unlock`."""

from __future__ import annotations

import pytest
from google.cloud import datastore

from tests.cli.shell import Shell, contents
from tests.conftest import Server
from tests.migrations.conftest import trails, write_step
from tests.migrations.test_status import failed, held_elsewhere, killed

pytestmark = pytest.mark.sampled(9)


def statuses(shell: Shell) -> list[str]:
    return [row["standing"] for row in shell.bulkup("status", "--json").of_type("migration")]


def test_migrations_applied_before_bulkup_can_be_marked(
    project: Shell, items: datastore.Client, embedded: Server
) -> None:
    for name in ("0001_a", "0002"):
        assert project.bulkup("mark", name, "--applied").code == 0
    assert statuses(project) == ["applied", "applied", "pending"]
    row = project.bulkup("status", "--json").of_type("migration")[0]
    assert row["marked"].startswith("applied by ")
    before = contents(embedded)
    assert "nothing to change" in project.bulkup("mark", "0001_a", "--applied").out
    assert contents(embedded) == before
    assert project.bulkup("migrate").code == 0
    assert trails(items) == {"c"}
    assert project.bulkup("status", "--check").code == 0


def test_a_migration_marked_pending_is_applied_again(
    project: Shell, items: datastore.Client
) -> None:
    project.bulkup("migrate")
    assert project.bulkup("mark", "0002_b", "--pending").code == 0
    assert statuses(project) == ["applied", "pending", "applied"]
    assert project.bulkup("migrate", "--batch-size", "3", env={"DIE_AT": "b"}).code == -9
    assert statuses(project) == ["applied", "interrupted", "applied"]
    assert project.bulkup("migrate").code == 0
    assert trails(items) == {"abcb"}
    project.bulkup("mark", "0002_b", "--pending")
    project.bulkup("migrate")
    assert trails(items) == {"abcbb"}


def test_a_failed_migration_can_be_marked_applied(project: Shell, items: datastore.Client) -> None:
    failed(project, items)
    assert project.bulkup("mark", "0002_b", "--applied").code == 0
    assert project.bulkup("migrate").code == 0
    assert trails(items) == {"abc", "ac"}  # the batches before the failure were written


def test_a_failed_migration_marked_pending_starts_from_the_beginning(
    project: Shell, items: datastore.Client
) -> None:
    project.bulkup("migrate", "--batch-size", "3", env={"FAIL_AT": "b"})
    path = write_step(project, "0002_b", "b")
    path.write_text(path.read_text().replace("AddB", "AnotherClass"))
    assert project.bulkup("migrate").code == 2
    project.bulkup("mark", "0002_b", "--pending")
    assert project.bulkup("migrate").code == 0
    assert trails(items) == {"abc", "abbc"}  # the person who marked it asked for this


def test_a_missing_migration_marked_pending_leaves_the_status(
    project: Shell, items: datastore.Client
) -> None:
    project.bulkup("migrate")
    (project.folder / "updaters/0003_c.py").unlink()
    assert project.bulkup("status", "--check").code == 4
    assert project.bulkup("mark", "0003_c", "--pending").code == 0
    assert project.bulkup("status", "--check").code == 0


def test_invalid_marks_are_refused(project: Shell, items: datastore.Client) -> None:
    assert project.bulkup("mark", "0001_a").code == 2
    project.bulkup("mark", "0009", "--applied").fails(10, "no migration 0009")
    killed(project, items)
    held_elsewhere(items, "0002_b")
    project.bulkup("mark", "0002_b", "--applied").fails(11, "is applying 0002_b")


def test_unlock_releases_what_a_dead_machine_holds(project: Shell, items: datastore.Client) -> None:
    killed(project, items)
    held_elsewhere(items, "0002_b")
    lock = items.get(items.key("BulkupRun", "bulkup-migrate"))
    lock["holder"] = lock["holder"].replace('"machine": "', '"machine": "elsewhere-')
    items.put(lock)
    project.bulkup("migrate").fails(11, "is applying migrations on this target (applying 0002_b)")
    asked = project.bulkup("unlock", "0002_b")
    assert asked.code == 2
    assert "held by" in asked.err
    assert "confirm with --yes" in asked.err
    project.bulkup("migrate").fails(11)
    freed = project.bulkup("unlock", "0002_b", "--yes")
    assert freed.code == 0, freed
    assert "is unlocked" in freed.out
    project.bulkup("unlock", "0002_b", "--yes").fails(10, "no process holds")
    assert project.bulkup("migrate").code == 0
    assert trails(items) == {"abc"}


def test_unlock_of_an_unknown_migration(project: Shell, items: datastore.Client) -> None:
    project.bulkup("unlock", "0001", "--yes").fails(10, "no run or migration 0001")


def test_a_migration_without_a_file_that_is_marked_pending_is_forgotten(
    project: Shell, items: datastore.Client
) -> None:
    assert project.bulkup("migrate").code == 0
    (project.folder / "updaters/0003_c.py").unlink()
    marked = project.bulkup("mark", "0003_c", "--pending")
    assert marked.code == 0
    assert "0003_c is forgotten: it has no file here" in marked.out
    assert statuses(project) == ["applied", "applied"]


def test_the_list_says_what_was_marked_and_for_how_long_it_is_not_known(
    project: Shell, items: datastore.Client
) -> None:
    assert project.bulkup("migrate", "--to", "0002").code == 0
    assert project.bulkup("mark", "0002_b", "--pending").code == 0
    assert project.bulkup("mark", "0003_c", "--applied").code == 0
    (project.folder / "updaters/0001_a.py").rename(project.folder / "updaters/0001_z.py")
    assert project.bulkup("mark", "0001_a", "--renamed-to", "0001_z").code == 0
    listed = " ".join(project.bulkup("list", "--all").out.split())
    assert "abandoned" not in listed
    for text in ("marked pending", "marked applied", "renamed from 0001_a by "):
        assert text in listed
    rows = project.bulkup("list", "--all", "--json").of_type("run")
    found = {row["marked"].split(" by ")[0]: row["elapsed_s"] for row in rows}
    assert found["renamed from 0001_a"] is not None
    assert (found["pending"], found["applied"]) == (None, None)


def test_a_migration_that_was_marked_and_then_renamed_keeps_both_marks(
    project: Shell, items: datastore.Client
) -> None:
    assert project.bulkup("mark", "0001_a", "--applied").code == 0
    (project.folder / "updaters/0001_a.py").rename(project.folder / "updaters/0001_z.py")
    assert project.bulkup("mark", "0001_a", "--renamed-to", "0001_z").code == 0
    (row,) = project.bulkup("list", "--all", "--json").of_type("run")
    assert row["marked"].startswith("renamed from 0001_a by ")
    assert "; applied by " in row["marked"]
    assert row["elapsed_s"] is None

"""`bulkup migrate --dry-run`: previews every pending migration, and writes nothing."""

from __future__ import annotations

from google.cloud import datastore

from tests.cli.shell import Shell, contents, seed
from tests.conftest import Server
from tests.migrations.conftest import trails, write_step


def test_every_pending_migration_is_previewed_in_one_line_each(
    project: Shell, items: datastore.Client, embedded: Server
) -> None:
    assert project.bulkup("migrate", "--to", "0001").code == 0
    before, disk = contents(embedded), project.runs()
    result = project.bulkup("migrate", "-n")
    assert result.code == 0
    assert result.out.splitlines() == [
        "0002_b: 12 entities, 12 would be written",
        "0003_c: 12 entities, 12 would be written",
        "2 migrations to apply, each previewed without the changes of those before it; nothing was "
        "written. Apply with: bulkup migrate updaters",
    ]
    assert result.err == ""
    assert (contents(embedded), project.runs()) == (before, disk)
    detailed = project.bulkup("migrate", "-n", "-v", "--only", "0002")
    assert detailed.out.count("trail: 'a' → 'ab'") == 12, detailed
    assert project.bulkup("migrate").code == 0
    assert project.bulkup("migrate", "-n").out == "Nothing is pending.\n"


def test_a_preview_continues_after_a_migration_that_would_fail(
    project: Shell, items: datastore.Client
) -> None:
    project.write("updaters/0002_b.py", "raise ValueError('no')")
    write_step(project, "0003_c", "c")
    project.write("updaters/0004_typo.py", (project.folder / "updaters/0001_a.py").read_text()
                  .replace('"Item"', '"Itm"'))  # fmt: skip
    result = project.bulkup("migrate", "-n", env={"FAIL_AT": "a"})
    assert result.code == 1
    first, second, third, fourth, _ = result.out.splitlines()
    assert first.startswith("0001_a: ")
    assert "1 would fail (ValueError: not today); it would stop: at the first" in first
    assert "Apply with" not in result.out
    assert second.startswith("0002_b: cannot run: ")
    assert third == "0003_c: 12 entities, 12 would be written"
    assert fourth.startswith("0004_typo: cannot run: ")
    assert "did you mean Item?" in fourth
    assert trails(items) == {""}


def test_the_lines_of_json_say_that_it_was_a_dry_run(
    project: Shell, items: datastore.Client
) -> None:
    result = project.bulkup("migrate", "-n", "--json")
    assert result.code == 0
    assert [line["counts"]["handled"] for line in result.of_type("summary")] == [12, 12, 12]
    assert len(result.of_type("change")) == 36
    (line,) = result.of_type("migrate")
    assert (line["dry_run"], line["applied"]) == (True, [])
    assert line["next_steps"] == ["bulkup migrate updaters"]
    assert line["left"] == ["0001_a", "0002_b", "0003_c"]


def test_a_change_that_is_accepted_is_not_recorded(
    project: Shell, items: datastore.Client, embedded: Server
) -> None:
    project.bulkup("migrate", "--to", "0001")
    write_step(project, "0001_a", "x")
    project.bulkup("migrate", "-n").fails(2, "0001_a was changed")
    before = contents(embedded)
    assert project.bulkup("migrate", "-n", "--accept-changed", "0001").code == 0
    assert contents(embedded) == before


def test_an_interrupted_migration_is_previewed_as_what_it_is(
    project: Shell, items: datastore.Client
) -> None:
    assert project.bulkup("migrate", "--limit", "5").code == 75
    result = project.bulkup("migrate", "-n", "--to", "0001")
    assert result.code == 0
    assert "without --dry-run it resumes after the 5 entities that are done" in result.err


def test_every_namespace_is_previewed(project: Shell, embedded: Server) -> None:
    for namespace in ("a", "b"):
        seed(embedded, 2, namespace=namespace)
    result = project.bulkup("migrate", "-n", "--all-namespaces", "--to", "0001")
    assert result.code == 0
    assert "a: 0001_a: 2 entities, 2 would be written" in result.out
    assert "b: 0001_a: 2 entities, 2 would be written" in result.out
    assert "Migrations are to be applied in a, b; nothing was written." in result.out
    client = embedded.client(namespace="a")
    assert list(client.query(kind="BulkupRun").fetch()) == []

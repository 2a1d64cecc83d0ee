"""A kind that holds nothing: what is there instead is named, and a likely typo is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.cloud import datastore

from tests.cli.shell import BUMP, Shell, seed, values
from tests.conftest import Server

pytestmark = pytest.mark.sampled(9)

TYPO = BUMP.replace("Item", "Itm")
NEW = BUMP.replace("Item", "Voucher")


@pytest.fixture
def shell(tmp_path: Path, embedded: Server) -> Shell:
    return _shell(tmp_path, embedded)


def _shell(folder: Path, server: Server | None) -> Shell:
    shell = Shell(folder, server)
    for name, source in (("typo", TYPO), ("new", NEW), ("bump", BUMP)):
        shell.write(f"{name}.py", source)
    return shell


@pytest.fixture
def items(embedded: Server) -> datastore.Client:
    return seed(embedded, 3)


@pytest.mark.parametrize("kind", ["Itm", "item", "Items"])
def test_a_typo_of_a_kind_is_refused_and_leaves_no_trace(
    shell: Shell, items: datastore.Client, kind: str
) -> None:
    shell.write("typo.py", BUMP.replace("Item", kind))
    for dry in ([], ["-n"]):
        shell.bulkup("run", "typo.py", *dry).fails(
            1, f"no entity of kind {kind} on project", "did you mean Item?", "--allow-empty"
        )
    assert list(items.query(kind="BulkupRun").fetch()) == []
    assert shell.runs() == []
    allowed = shell.bulkup("run", "typo.py", "--allow-empty")
    assert allowed.code == 0
    assert "did you mean Item?" in allowed.out


def test_servers_that_list_their_kinds_name_them(tmp_path: Path, server: Server) -> None:
    """The Firestore emulator does not list them: there it is as before."""
    seed(server, 3)
    shell = _shell(tmp_path, server)
    result = shell.bulkup("run", "typo.py")
    if server.name == "FS":
        assert result.code == 0
        assert "the query found no entities: check the kind's name" in result.out
    else:
        result.fails(1, "did you mean Item?", "Kinds there: Item.")


def test_a_kind_that_is_new_is_not_a_typo(shell: Shell, items: datastore.Client) -> None:
    result = shell.bulkup("run", "new.py", "--json")
    assert result.code == 0
    (warning,) = result.of_type("warning")
    assert "no entity of kind Voucher on project" in warning["message"]
    assert "Kinds there: Item." in warning["message"]
    assert "mean" not in warning["message"]


def test_many_kinds_are_listed_in_part(shell: Shell, embedded: Server) -> None:
    for number in range(30):
        seed(embedded, 1, kind=f"K{number:02d}")
    assert "K22, K23 and 6 more." in shell.bulkup("run", "new.py").out


def test_a_fresh_environment_is_not_a_typo(shell: Shell, embedded: Server) -> None:
    result = shell.bulkup("run", "bump.py")
    assert result.code == 0
    assert "(the default namespace). It holds nothing at all" in result.out.replace("\n", " ")


def test_a_filter_that_matches_nothing_is_not_a_missing_kind(
    shell: Shell, items: datastore.Client, embedded: Server
) -> None:
    seed(embedded, 1, kind="Items")
    query = 'self.client.query(kind="Item")'
    filtered = query.replace(")", ', filters=[("n", "=", 77)])')
    shell.write("filtered.py", BUMP.replace(query, filtered))
    result = shell.bulkup("run", "filtered.py")
    assert result.code == 0
    assert "the query found no entities: check the kind's name, the filters" in result.out


def test_the_default_namespace_is_refused_where_others_hold_the_kind(
    shell: Shell, embedded: Server
) -> None:
    for namespace in ("a", "b", "c"):
        seed(embedded, 1, namespace=namespace)
    shell.bulkup("run", "bump.py").fails(1, "3 other namespaces hold this kind: a, b, c.")
    assert shell.bulkup("run", "bump.py", "--allow-empty").code == 0


def test_a_namespace_that_was_chosen_is_refused_only_as_a_typo(
    shell: Shell, embedded: Server
) -> None:
    seed(embedded, 1, namespace="tenant-a")
    shell.bulkup("run", "bump.py", "--namespace", "tennant-a").fails(
        1, "1 other namespace holds this kind: tenant-a."
    )
    result = shell.bulkup("run", "bump.py", "--namespace", "tenant-b")
    assert result.code == 0
    assert "1 other namespace holds this kind: tenant-a." in result.out


def test_a_character_too_many_in_an_empty_namespace_is_a_typo(
    shell: Shell, embedded: Server
) -> None:
    seed(embedded, 1, namespace="tenant-1")
    for dry in ([], ["-n"]):
        shell.bulkup("run", "bump.py", "--namespace", "tenant-11", *dry).fails(
            1, "did you mean tenant-1?", "--allow-empty"
        )
    assert shell.runs() == []
    assert shell.bulkup("run", "bump.py", "--namespace", "tenant-11", "--allow-empty").code == 0
    assert shell.bulkup("run", "bump.py", "--namespace", "tenant-2").code == 0
    seed(embedded, 1, kind="Other", namespace="tenant-12")
    assert shell.bulkup("run", "bump.py", "--namespace", "tenant-12").code == 0


def test_another_project_than_the_file_holds_is_refused(tmp_path: Path) -> None:
    shell = _shell(tmp_path, None)
    shell.write("rows.jsonl", '{"n": 0}\n')
    assert shell.bulkup("local", "load", "p.db", "rows.jsonl", "--kind", "Item").code == 0
    run = ("run", "bump.py", "--local", "p.db")
    for where in (["--project", "shop"], ["--project", "shop", "--namespace", "a"]):
        shell.bulkup(*run, *where).fails(1, "The file holds project local.", "--allow-empty")
    shell.bulkup(*run, "--database", "x").fails(1, "The file holds project local.")
    assert shell.runs() == []
    allowed = shell.bulkup(*run, "--project", "shop", "--allow-empty")
    assert allowed.code == 0
    assert "The file holds project local." in " ".join(allowed.out.split())
    assert shell.bulkup(*run).code == 0
    shell.write("updaters/0001_bump.py", BUMP)
    migrate = ("migrate", "--local", "p.db", "--project", "shop")
    assert shell.bulkup(*migrate).code == 1
    for command in ((*run, "--project", "shop"), migrate):
        refused = shell.bulkup(*command, "--all-namespaces")
        refused.fails(1, "The file holds project local.", "--allow-empty")
        assert shell.bulkup(*command, "--all-namespaces", "--allow-empty").code == 0
    assert shell.bulkup("migrate", "--local", "p.db").code == 0


def test_a_query_without_a_kind_finds_nothing_in_an_empty_namespace(
    shell: Shell, embedded: Server
) -> None:
    shell.write("all.py", BUMP.replace('kind="Item"', ""))
    seed(embedded, 2, namespace="a")
    shell.bulkup("run", "all.py").fails(1, "1 other namespace holds entities: a.")
    result = shell.bulkup("run", "all.py", "--namespace", "b")
    assert result.code == 0
    assert "There are no entities on" in result.out
    assert shell.bulkup("run", "all.py", "--namespace", "a").code == 0


def test_several_namespaces_are_refused_only_if_none_holds_the_kind(
    shell: Shell, embedded: Server
) -> None:
    seed(embedded, 1, namespace="a")
    seed(embedded, 1, kind="Items", namespace="b")
    assert shell.bulkup("run", "bump.py", "--all-namespaces").code == 0
    for dry in ([], ["-n"]):
        refused = shell.bulkup("run", "typo.py", "--all-namespaces", *dry)
        assert refused.code == 1
        assert "no entity of kind Itm" in refused.err
    assert list(embedded.client().query(kind="BulkupGroup").fetch()) == []
    assert shell.bulkup("run", "typo.py", "--all-namespaces", "--allow-empty").code == 0


def test_a_resumed_run_is_not_refused(
    shell: Shell, items: datastore.Client, embedded: Server
) -> None:
    """What it deletes itself may be all of the kind."""
    seed(embedded, 1, kind="Items")
    shell.write("clear.py", BUMP.replace("self.put(entity)", "self.delete(entity)"))
    assert shell.bulkup("run", "clear.py", "--limit", "2").code == 75
    items.delete(items.key("Item", 3))
    assert values(items) == {}
    assert shell.bulkup("run", "clear.py").code == 0


def test_python_refuses_too(shell: Shell, items: datastore.Client) -> None:
    result = shell.script("""
        import bulkup

        @bulkup.updater(kind="Itm")
        def touch(entity):
            return entity

        try:
            bulkup.run(touch)
        except bulkup.BulkupError as error:
            print(error.message)
        print(bulkup.run(touch, allow_empty=True).success)
    """)
    assert "did you mean Item?" in result.out, result
    assert result.out.endswith("\nTrue\n")


def test_a_migration_with_a_typo_is_refused_and_stays_pending(
    shell: Shell, items: datastore.Client
) -> None:
    shell.write("updaters/0001_typo.py", TYPO)
    refused = shell.bulkup("migrate")
    assert refused.code == 1
    assert "did you mean Item?" in refused.err
    assert "1 migration to apply" in shell.bulkup("status").out
    assert shell.bulkup("migrate", "--allow-empty").code == 0
    assert shell.bulkup("status", "--check").code == 0


def test_a_migration_of_a_fresh_environment_is_applied_and_says_that_it_matched_nothing(
    shell: Shell, embedded: Server
) -> None:
    shell.write("updaters/0001_bump.py", BUMP)
    assert shell.bulkup("migrate").code == 0
    status = shell.bulkup("status", "--check")
    assert status.code == 0
    assert "matched 0" in status.out


def test_migrations_of_several_namespaces_are_refused_only_if_none_holds_the_kind(
    shell: Shell, embedded: Server
) -> None:
    for namespace, kind in (("a", "Item"), ("b", "Items"), ("c", "Items")):
        seed(embedded, 1, kind=kind, namespace=namespace)
    shell.write("updaters/0001_bump.py", BUMP)
    assert shell.bulkup("migrate", "--all-namespaces").code == 0
    shell.write("updaters/0002_typo.py", TYPO)
    assert shell.bulkup("migrate", "--all-namespaces").code == 1

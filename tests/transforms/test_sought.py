"""A name or a value that no entity has: the run is green, and says so."""

from __future__ import annotations

from typing import Any

import pytest
from google.cloud import datastore

from bulkup.core.events import WarningKind
from bulkup.transforms import RenameProperty
from tests.cli.shell import Shell, entity, put
from tests.conftest import Server
from tests.engine.conftest import Run

pytestmark = pytest.mark.sampled(5)


def people(server: Server, count: int = 6) -> datastore.Client:
    client = server.client()
    put(client, [
        entity(client, "Person", i, fullname=f"P{i}", role="author" if i % 2 else "engineer")
        for i in range(1, count + 1)
    ])  # fmt: skip
    return client


CASES: list[tuple[str, dict[str, str], str]] = [
    ("rename-property", {"from": "fullnme", "to": "name"},
     "none of 6 entities has the property 'fullnme', so it was not renamed; did you mean "
     "'fullname'?"),
    ("rename-property", {"from": "old", "to": "fullname"},
     "none of 6 entities has the property 'old', so it was not renamed; 6 of the first 6 have "
     "'fullname' already"),
    ("rename-property", {"from": "role", "to": "fullnmae"}, "is 'fullnmae' a misspelling?"),
    ("retype-property", {"property": "age", "to": "int"},
     "the property 'age', so it was not converted; they have 'fullname', 'role'"),
    ("set-default", {"property": "fulname", "value": "x"}, "6 of them have 'fullname': is"),
    ("set-default", {"property": "rank", "value": "x", "when": "null"}, "so it was not set"),
    ("drop-property", {"properties": "role,tmp"}, "the property 'tmp', so it was not removed"),
    ("embed-properties", {"properties": "role,city", "into": "facts"},
     "the property 'city', so it was not moved"),
    ("change-index", {"properties": "Role", "indexed": "false"}, "did you mean 'role'?"),
    ("change-key", {"key_from": "fullname", "old_key_in": "fullnmae"},
     "is 'fullnmae' a misspelling?"),
    ("merge-kind", {"to": "Human", "origin_in": "fullnmae"}, "is 'fullnmae' a misspelling?"),
    ("split-kind", {"by": "roles", "into": "author=Author"},
     "the property 'roles', so it was not used to move any; did you mean 'role'?"),
    ("split-kind", {"by": "role", "into": "author=Author,enginer=Engineer"},
     "none of 6 entities has 'enginer' in 'role', so none was moved to the kind Engineer; did you "
     "mean 'engineer'?"),
    ("find-references", {"to": "Persn"}, "none of 6 entities refers to one of the kind 'Persn'"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "params", "says"), CASES)
def test_a_run_says_what_no_entity_has(
    embedded: Server, run: Run, name: str, params: Any, says: str
) -> None:
    people(embedded)
    report = run(embedded, name, kind="Person", params=params)
    assert report.success
    assert [says in warning for warning in report.warnings] == [True], report.warnings


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("rename-property", {"from": "fullname", "to": "name"}),
        ("set-default", {"property": "rank", "value": "x"}),
        ("split-kind", {"by": "role", "into": "author=Author,engineer=Engineer"}),
        ("bulk-put", {}),
        ("bulk-delete", {}),
    ],
)
def test_a_run_of_what_is_there_warns_of_nothing(
    embedded: Server, run: Run, name: str, params: Any
) -> None:
    people(embedded)
    assert run(embedded, name, kind="Person", params=params).warnings == ()


def test_a_new_kind_that_is_named_almost_like_another_is_doubted(
    embedded: Server, run: Run
) -> None:
    client = people(embedded)
    put(client, [entity(client, "Author", 1), entity(client, "Human", 1)])
    for name, params in (
        ("split-kind", {"by": "role", "into": "author=Autor,engineer=Engineer"}),
        ("merge-kind", {"to": "Humans"}),
    ):
        (warning,) = run(embedded, name, kind="Person", params=params, dry_run=True).warnings
        assert "is not there yet" in warning
    for to in ("Human", "Persons", "Animal"):
        params = {"to": to}
        assert (
            run(embedded, "merge-kind", kind="Person", params=params, dry_run=True).warnings == ()
        )


def test_one_entity_in_a_thousand_is_enough(embedded: Server, run: Run) -> None:
    client = people(embedded, 400)
    put(client, [entity(client, "Person", 399, rare=1)])
    params = {"properties": "rare"}
    assert run(embedded, "drop-property", kind="Person", params=params).warnings == ()


def test_previews_plans_and_worker_processes_say_it_too(shell: Shell, embedded: Server) -> None:
    people(embedded)
    words = ["rename-property", "--kind", "Person", "-p", "from=fullnme", "-p", "to=name"]
    for command in (["run", "-n"], ["run", "--processes", "2"]):
        result = shell.bulkup(*command, *words, "--json")
        assert [w["kind"] for w in result.of_type("warning")] == ["absent"], result
    (plan,) = shell.bulkup("plan", *words, "--json").of_type("plan")
    assert "absent" in [warning["kind"] for warning in plan["warnings"]]


def test_a_migration_may_find_nothing_on_purpose(embedded: Server, run: Run) -> None:
    class Rename(RenameProperty):
        kind, from_, to = "Person", "old", "new"
        ignore_warnings = (WarningKind.ABSENT.value,)

    people(embedded)
    assert run(embedded, Rename).warnings == ()


def test_a_key_from_a_misspelled_property_names_the_right_one(embedded: Server, run: Run) -> None:
    people(embedded, 1)
    report = run(embedded, "change-key", kind="Person", params={"key_from": "fulname"})
    assert "did you mean 'fullname'?" in report.failures[0].error


def test_a_resumed_run_does_not_miss_what_an_earlier_runner_has_found(
    embedded: Server, run: Run
) -> None:
    client = people(embedded)
    put(client, [entity(client, "Person", 1, rare=1)])
    for name, warnings in (("rare", 0), ("never", 1)):
        first = {"kind": "Person", "params": {"properties": name}, "limit": 2, "batch_size": 1}
        assert run(embedded, "drop-property", **first).exit_code == 75
        assert len(run(embedded, "drop-property", **{**first, "limit": None}).warnings) == (
            warnings + 1  # that it was resumed
        )

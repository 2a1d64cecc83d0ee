"""Built-in updaters by name: what they write, what they refuse, and that they are done then."""

from __future__ import annotations

from typing import Any

import pytest
from google.cloud import datastore
from google.cloud.datastore import Entity

import bulkup
from bulkup.authoring.built_ins import BUILT_INS, built_in, built_in_name
from bulkup.authoring.loader import load
from bulkup.core.errors import ParameterError, UsageError
from bulkup.testing import handle, query
from bulkup.transforms import RenameProperty
from tests.cli.json_contract import keeps_the_contract
from tests.cli.shell import Shell, contents, entity, put, user_data
from tests.conftest import Server
from tests.engine.conftest import Run, everything

pytestmark = pytest.mark.sampled(5)

HOME = {"city": "Bern"}


def people(server: Server) -> datastore.Client:
    client = server.client()
    made = Entity(client.key("Person", 1), exclude_from_indexes=["bio"])
    made.update(fullname="Ada", age="36", bio="b", born="1815-12-10")
    other = entity(client, "Person", 2, fullname="Grace", age="85", country=None)
    put(client, [made, other, entity(client, "Other", 1, fullname="x")])
    return client


CASES: list[tuple[str, dict[str, str], dict[str, Any], dict[str, Any]]] = [
    ("rename-property", {"from": "fullname", "to": "full_name"},
     {"full_name": "Ada", "fullname": ...}, {"full_name": "Grace", "fullname": ...}),
    ("retype-property", {"property": "age", "to": "int"}, {"age": 36}, {"age": 85}),
    ("set-default", {"property": "country", "value": "CH", "when": "both"},
     {"country": "CH"}, {"country": "CH"}),
    ("set-default", {"property": "visits", "value": "0", "type": "int"},
     {"visits": 0}, {"visits": 0}),
    ("set-default", {"property": "country", "value": "@none"}, {"country": None}, {}),
    ("drop-property", {"properties": "age,bio"}, {"age": ..., "bio": ...}, {"age": ...}),
    ("embed-properties", {"properties": "age,born", "into": "facts"},
     {"facts": {"age": "36", "born": "1815-12-10"}, "age": ..., "born": ...},
     {"facts": {"age": "85"}, "age": ...}),
    ("change-index", {"properties": "fullname", "indexed": "false"}, {}, {}),
]  # fmt: skip


def changed(before: Entity, changes: dict[str, Any]) -> dict[str, Any]:
    after = {**before, **changes}
    return {name: value for name, value in after.items() if value is not ...}


@pytest.mark.parametrize(("name", "params", "one", "two"), CASES)
def test_a_built_in_changes_each_entity_of_the_kind_and_is_done_then(
    embedded: Server, run: Run, name: str, params: Any, one: Any, two: Any
) -> None:
    client = people(embedded)
    before = everything(client, "Person")
    report = run(embedded, name, params={"kind": "Person", **params})
    assert report.success, report
    assert report.counts.handled == 2
    after = everything(client, "Person")
    assert [dict(e) for e in after] == [changed(before[0], one), changed(before[1], two)]
    assert "bio" in after[0].exclude_from_indexes or "bio" not in after[0]
    assert dict(everything(client, "Other")[0]) == {"fullname": "x"}
    written = user_data(embedded)
    again = run(embedded, name, params={"kind": "Person", **params})
    assert (again.counts.unchanged, again.counts.puts) == (2, 0)
    assert user_data(embedded) == written


def test_flags_of_indexes_are_written(embedded: Server, run: Run) -> None:
    client = people(embedded)
    run(embedded, "change-index", params={
        "kind": "Person", "properties": "fullname,age", "indexed": "false"
    })  # fmt: skip
    assert [e.exclude_from_indexes for e in everything(client, "Person")] == [
        {"bio", "fullname", "age"}, {"fullname", "age"},
    ]  # fmt: skip


def test_an_entity_that_cannot_be_changed_fails_alone(embedded: Server, run: Run) -> None:
    client = people(embedded)
    put(client, [entity(client, "Person", 3, fullname="x", full_name="y")])
    report = run(
        embedded, "rename-property", max_failures=-1,
        params={"kind": "Person", "from": "fullname", "to": "full_name"},
    )  # fmt: skip
    (failure,) = report.failures
    assert "'full_name' exists already" in failure.error
    assert report.counts.puts == 2
    run(
        embedded, "rename-property",
        params={"kind": "Person", "from": "fullname", "to": "full_name", "overwrite": "true"},
    )  # fmt: skip
    assert [dict(e) for e in everything(client, "Person")][2] == {"full_name": "x"}


def test_put_again_and_delete_all(embedded: Server, run: Run) -> None:
    client = people(embedded)
    assert run(embedded, "bulk-put", params={"kind": "Person"}).counts.puts == 2
    assert run(embedded, "bulk-delete", params={"kind": "Person"}).counts.deletes == 2
    assert (everything(client, "Person"), len(everything(client, "Other"))) == ([], 1)


def test_the_kind_is_selected_on_the_command_line(shell: Shell, embedded: Server) -> None:
    client = people(embedded)
    words = ["rename-property", "--kind", "Person", "-p", "from=fullname", "-p", "to=full_name"]
    shown = shell.bulkup("run", "-n", *words)
    assert "full_name" in shown.out, shown
    assert shell.bulkup("verify", *words).code == 4
    result = shell.bulkup("run", *words, "--processes", "2", "--json")
    keeps_the_contract(result.lines)
    assert (result.summary["updater"], result.summary["counts"]["written"]) == (words[0], 2)
    assert result.summary["selection"] == {"kind": "Person"}
    assert "kind" not in result.summary["params"]  # the selection says it
    assert shell.bulkup("verify", *words).code == 0
    assert [e.get("full_name") for e in everything(client, "Person")] == ["Ada", "Grace"]
    assert shell.bulkup("undo", shell.runs()[-1], "--yes").code == 0
    assert [e.get("fullname") for e in everything(client, "Person")] == ["Ada", "Grace"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("rename-property -p from=a -p to=b", "say with --kind which entities to handle"),
        ("rename-property --kind Person -p from=a -p to=a", "from and to are both a"),
        ("rename-property --kind Person -p from_=a -p to=b", "did you mean 'from'?"),
        ("rename-property --kind Person -p to=b", "needs -p from=..."),
        (
            "rename-property -p to=b",
            "needs --kind KIND (which entities to handle), -p from=... (any string)",
        ),
        ("rename-property -p kind=Person -p to=b", "needs -p from=..."),
        ("rename-property --kind Other -p kind=Person -p from=a -p to=b", "is for kind 'Person'"),
        ("retype-property --kind Person -p property=a -p to=decimal", "to=decimal is not valid"),
        ("set-default --kind Person -p property=a -p value=x -p type=int", "value='x' is not"),
        ("set-default --kind Person -p property=a", "needs -p value=..."),
        ("merge-kind --kind Person -p to=Person", "kind and to are both Person"),
        ("merge-kind --kind Person -p to=BulkupRun", "in which bulkup keeps its runs"),
        ("bulk-delete --kind BulkupMarker", "kind=BulkupMarker is a kind in which bulkup keeps"),
        ("split-kind --kind Person -p by=age -p into=36", "into='36' has no kind"),
        ("change-key --kind Person -p key_from=a -p old_key_in=a", "are both a"),
        ("find-references --kind Person -p old_key_in=a", "needs to=KIND"),
    ],
)
def test_nonsense_is_refused_before_anything_is_written(
    shell: Shell, embedded: Server, words: str, says: str
) -> None:
    people(embedded)
    before = contents(embedded)
    result = shell.bulkup("run", *words.split()).fails(2, says)
    assert len(result.err.strip().splitlines()) == 1
    assert (contents(embedded), shell.runs()) == (before, [])


def test_a_misspelled_name_gets_a_suggestion(nowhere: Shell) -> None:
    nowhere.bulkup("run", "rename-propery").fails(10, "there is no file", "rename-property")
    for name in ("rename_property", "RenameProperty"):
        nowhere.bulkup("run", name).fails(
            10, f"there is no module {name}; did you mean the built-in updater rename-property?"
        )


def test_a_new_run_after_a_failed_one_says_how_to_end_that(shell: Shell, embedded: Server) -> None:
    client = people(embedded)
    put(client, [entity(client, "Person", 3, fullname="x", full_name="y")])
    words = ["rename-property", "--kind", "Person", "-p", "from=fullname", "-p", "to=full_name"]
    assert shell.bulkup("run", *words).code == 1
    (failed,) = shell.runs()
    result = shell.bulkup("run", *words, "-p", "overwrite=true", "--state-dir", "other")
    assert result.code == 0
    assert f"`bulkup abandon {failed} --state-dir other`" in " ".join(result.err.split())


@pytest.mark.parametrize("name", BUILT_INS)
def test_every_built_in_loads_by_its_name_from_anywhere(name: str) -> None:
    source = load(name)
    assert (source.name, source.spec, source.only_here) == (name, name, None)
    assert source.description
    assert all(parameter.help for parameter in source.parameters)
    assert load(source.spec) == source
    assert built_in_name(built_in(name)) == name
    assert "-" in name  # else it could be the name of a user's module


def test_a_class_is_the_built_in_of_its_name(embedded: Server, run: Run) -> None:
    people(embedded)
    report = run(embedded, RenameProperty, kind="Person", params={"from": "a", "to": "b"})
    assert (report.updater, report.params["from"]) == ("rename-property", "a")


def test_a_migration_may_fix_the_parameters() -> None:
    class FullName(RenameProperty):
        """Rename fullname."""

        kind = "Person"
        from_ = "fullname"
        to = "full_name"

    client = bulkup.testing.offline_client()
    person = entity(client, "Person", 1, fullname="Ada")
    (put_,) = handle(FullName, person).puts
    assert dict(put_) == {"full_name": "Ada"}
    assert query(FullName).kind == "Person"


def test_a_parameter_may_have_a_name_that_python_keeps_for_itself() -> None:
    class Moves(bulkup.Updater):
        from_: int = bulkup.param(name="from")

        def handle_entity(self, one: Entity) -> None:
            one["from"] = self.from_
            self.put(one)

    client = bulkup.testing.offline_client()
    (put_,) = handle(Moves, entity(client, "A", 1), **{"from": "5"}).puts
    assert put_["from"] == 5
    with pytest.raises(ParameterError, match="did you mean 'from'"):
        handle(Moves, entity(client, "A", 1), from_="5")


def test_two_parameters_of_one_name_are_refused() -> None:
    class Twice(bulkup.Updater):
        to: str = bulkup.param()
        into: str = bulkup.param(name="to")

    with pytest.raises(ParameterError, match="two parameters 'to', to and into"):
        handle(Twice, entity(bulkup.testing.offline_client(), "A", 1), to="x")
    assert issubclass(ParameterError, UsageError)


def test_the_report_says_why_a_move_counts_as_deleted_and_written(
    shell: Shell, embedded: Server
) -> None:
    people(embedded)
    result = shell.bulkup("run", "merge-kind", "--kind", "Person", "-p", "to=Human")
    assert "(one with a new key counts as deleted, and as written here)" in result.err + result.out

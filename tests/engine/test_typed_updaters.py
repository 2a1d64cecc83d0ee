"""Updaters of typed entities through whole runs: run, dry run, plan, verify, worker processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.shell import Shell, entity, put
from tests.conftest import Server

pytestmark = pytest.mark.sampled(5)

UPDATERS = """
    from __future__ import annotations

    from dataclasses import dataclass, replace

    import pydantic

    import bulkup
    from bulkup import Updater


    @dataclass(frozen=True)
    class Person:
        first: str
        last: str
        full_name: str | None = None


    class PersonModel(pydantic.BaseModel):
        first: str
        last: str
        full_name: str | None = None


    @bulkup.updater(kind="Person", is_done=lambda person: person.full_name is not None)
    def function(person: Person, *, sep: str = " ") -> Person:
        return replace(person, full_name=person.first + sep + person.last)


    class Class(Updater[PersonModel]):
        kind = "Person"

        def handle_entity(self, person: PersonModel) -> None:
            person.full_name = f"{person.first} {person.last}"
            self.put(person)


    @bulkup.updater(kind="Person")
    def forgets(person: PersonModel) -> None:
        person.full_name = "x"
"""


@pytest.fixture
def people(tmp_path: Path, embedded: Server) -> Shell:
    shell = Shell(tmp_path, embedded)
    client = embedded.client()
    put(
        client,
        [entity(client, "Person", i, first=f"A{i}", last="B", bio=f"bio {i}") for i in range(9)[1:]]
        + [entity(client, "Person", 9, first="A9", last=3)],
    )
    shell.write("up.py", UPDATERS)
    return shell


def full_names(embedded: Server) -> dict[int, str]:
    found = embedded.client().query(kind="Person").fetch()
    return {one.key.id: one.get("full_name") for one in found}


@pytest.mark.parametrize(("name", "processes"), [("function", 2), ("Class", 1)])
def test_every_way_of_running_takes_typed_entities(
    people: Shell, embedded: Server, name: str, processes: int
) -> None:
    model = "Person" if name == "function" else "PersonModel"
    dry = people.bulkup("run", f"up.py:{name}", "--dry-run", "--max-failures=1")
    assert (dry.code, full_names(embedded)[1]) == (3, None), dry
    assert "full_name" in dry.out
    plan = people.bulkup("plan", f"up.py:{name}", "--full", "--json")
    (line,) = plan.of_type("plan")
    assert line["predicted"]["written"]["count"] == 8
    run = people.bulkup(
        "run", f"up.py:{name}", "--max-failures=1", "--json", f"--processes={processes}"
    )
    assert (run.code, run.summary["counts"]["written"]) == (3, 8), run
    (failure,) = run.of_type("failure")
    assert "property 'last'" in failure["error"]
    assert f"{model} wants" in failure["error"]
    assert full_names(embedded) == {**{i: f"A{i} B" for i in range(9)[1:]}, 9: None}
    assert embedded.client().get(embedded.client().key("Person", 3))["bio"] == "bio 3"
    again = people.bulkup("run", f"up.py:{name}", "--max-failures=1", "--json", "--new")
    assert (again.summary["counts"]["written"], again.summary["counts"]["unchanged"]) == (0, 8)
    verified = people.bulkup("verify", f"up.py:{name}", "--json")
    assert verified.code == 4
    assert "property 'last'" in verified.out
    assert verified.summary["counts"]["failed"] == 1


def test_changes_that_are_not_put_end_the_run(people: Shell, embedded: Server) -> None:
    result = people.bulkup("run", "up.py:forgets", "--max-failures=1")
    assert result.code == 1
    assert "8 entities were changed, and none of these changes was written" in result.out
    assert full_names(embedded)[1] is None

"""`run_updater`: whole runs in users' tests."""

from __future__ import annotations

import json
import os
import re
import traceback
from pathlib import Path
from typing import Any

import pytest
from google.cloud import datastore
from google.cloud.datastore import Entity
from hypothesis import given
from hypothesis import strategies as st

import bulkup
from bulkup.core.errors import BulkupError, NotFoundError, ParameterError, UsageError
from bulkup.testing import RunFailedError, crash_test, handle, offline_client, run_updater
from tests.testing.planted import (
    PEOPLE,
    WITH_NAMES,
    Archive,
    Forgotten,
    WithSuccessor,
    full_name,
    misspelled_read,
)

pytestmark = pytest.mark.sampled(5)


def person(number: int, **properties: Any) -> Entity:
    entity = Entity(offline_client().key("Person", number))
    entity.update(properties)
    return entity


def test_what_a_run_has_written_is_there_as_it_is_stored() -> None:
    result = run_updater(full_name, PEOPLE)
    assert result.written == WITH_NAMES
    assert [entity.key.flat_path for entity in result.written] == [("Person", 1), ("Person", 2)]
    assert not result.failed
    assert result.deleted == result.logged == []
    assert result.report.counts.handled == 2
    assert [str(diff) for diff in result.diffs] == [
        "Key('Person', 1) was written\n    full_name: (new) → 'Ada Lovelace'",
        "Key('Person', 2) was written\n    full_name: (new) → 'Grace Hopper'",
    ]


def test_entities_keep_their_keys_and_those_that_are_unchanged_are_not_written() -> None:
    result = run_updater(
        full_name,
        [
            person(7, **PEOPLE[0]),
            {"__key__": ["Person", "grace"], **WITH_NAMES[1]},
            {"__key__": offline_client().key("Other", 1), "x": 1},
        ],
    )
    assert result.written == [{**person(7, **WITH_NAMES[0])}]
    assert result.diffs[0].before == person(7, **PEOPLE[0])
    assert result.diffs[0].action == "changed"
    assert [entity.key.kind for entity in result.entities] == ["Other", "Person", "Person"]


def test_created_and_deleted_entities_and_log_lines_are_there() -> None:
    result = run_updater(Archive, PEOPLE)
    assert [key.flat_path for key in result.deleted] == [("Person", 1), ("Person", 2)]
    assert result.logged == ["archived 1", "archived 2"]
    assert sorted(entity["of"].id for entity in result.written) == [1, 2]
    assert {diff.action for diff in result.diffs} == {"created", "deleted"}


def test_a_successor_runs_too() -> None:
    result = run_updater(WithSuccessor, PEOPLE)
    assert result.written == [{**person, "done": True, "counted": True} for person in PEOPLE]
    assert result.logged == ["counted", "counted"]
    assert "WithSuccessor handled 2" in repr(result)


def test_what_is_put_unchanged_counts_as_written_where_the_updater_rewrites() -> None:
    class Touch(bulkup.BulkPut):
        def get_query(self) -> Any:
            return self.client.query(kind="Person")

    result = run_updater(Touch, PEOPLE)
    assert result.written == PEOPLE
    assert [diff.action for diff in result.diffs] == ["rewritten", "rewritten"]


def test_the_lines_that_local_dump_writes_are_entities(tmp_path: Path) -> None:
    file = tmp_path / "people.jsonl"
    lossless = {
        "key": {"path": [{"kind": "Person", "name": "b"}]},
        "properties": {
            "first": {"stringValue": "Grace", "excludeFromIndexes": True},
            "last": {"stringValue": "Hopper"},
        },
    }
    lines = [{"__key__": ["Person", "a"], **PEOPLE[0]}, lossless]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    result = run_updater(full_name, file, sep="-")
    assert [one["full_name"] for one in result.written] == ["Ada-Lovelace", "Grace-Hopper"]
    assert result.written[1].exclude_from_indexes == {"first"}
    file.write_text(json.dumps(PEOPLE[0]))
    assert run_updater(full_name, str(file)).written == [WITH_NAMES[0]]


def test_an_updater_may_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "0001_up.py"
    file.write_text(
        "import bulkup\n@bulkup.updater(kind='Person')\n"
        "def up(person, *, by: int = 1):\n    person['n'] = by\n    return person\n"
    )
    assert run_updater(file, PEOPLE[:1], by="3").written == [{**PEOPLE[0], "n": 3}]
    assert handle(file, PEOPLE[0], by=2).puts[0]["n"] == 2


def test_every_failure_is_named_and_does_not_stop_the_run() -> None:
    result = run_updater(misspelled_read, [PEOPLE[0], {"fist": "G", **PEOPLE[1]}, PEOPLE[1]])
    assert result.written[0].key.id == 2
    assert [failed.key.id for failed in result.failed] == [1, 3]
    shown = "KeyError: 'fist' (did you mean 'first'?)"
    assert result.failed[0].error == shown
    assert " (planted.py:" in str(result.failed[0])
    assert "fist" in result.failed[0].traceback
    with pytest.raises(IndexError, match=r"no entity 1; Key\('Person', 1\): KeyError: 'fist'"):
        result.written[1]


def test_a_forgotten_put_fails_the_test() -> None:
    with pytest.raises(RunFailedError, match=r"write `self\.put\(entity\)`"):
        run_updater(Forgotten, PEOPLE)


def test_a_run_that_cannot_start_raises_what_the_command_would_say() -> None:
    with pytest.raises(ParameterError, match="no parameter sepp"):
        run_updater(full_name, PEOPLE, sepp="-")

    @bulkup.updater(kind="Persn")
    def other_kind(entity: Entity) -> Entity:
        return entity

    with pytest.raises(BulkupError, match="Person"):
        run_updater(other_kind, [{"__key__": ["Person", 1]}])


@pytest.mark.parametrize(
    ("entity", "error", "message"),
    [
        (5, TypeError, "5 is not an entity"),
        ({"__key__": ["Person"]}, ValueError, "is not a key"),
        ({"__key__": "Person"}, ValueError, "is not a key"),
        ({"x": object()}, ValueError, "property 'x'"),
        ({"": 1}, ValueError, "Datastore refuses"),
        (Entity(), ValueError, "has no key"),
        (Entity(datastore.Key("P", 1, project="other")), None, ""),
    ],
)
def test_what_is_not_an_entity_is_refused(
    entity: Any, error: type[Exception] | None, message: str
) -> None:
    if error is None:  # where all keys are of that project, it is that of the run
        assert run_updater(full_name, [entity]).entities[0].key.project == "other"
    else:
        with pytest.raises(error, match=message):
            run_updater(full_name, [entity])


def test_one_entity_without_a_list_is_refused() -> None:
    with pytest.raises(TypeError, match="give a list of entities"):
        run_updater(full_name, PEOPLE[0])  # type: ignore[arg-type]


def test_entities_of_two_projects_are_refused() -> None:
    other = Entity(datastore.Key("Person", 1, project="other"))
    with pytest.raises(ValueError, match="another project"):
        run_updater(full_name, [person(1, **PEOPLE[0]), other])


def test_a_run_in_a_namespace_works_there() -> None:
    entity = Entity(offline_client().key("Person", 1, namespace="tenant"))
    entity.update(PEOPLE[0])
    result = run_updater(full_name, [entity])
    assert result.written[0].key.namespace == "tenant"
    assert result.written == [WITH_NAMES[0]]


def test_clients_of_the_updaters_own_reach_the_same_datastore_and_nothing_stays() -> None:
    before = dict(os.environ)

    @bulkup.updater(kind="Person")
    def looks(entity: Entity) -> Entity:
        entity["found"] = len(list(datastore.Client().query(kind="Person").fetch()))
        return entity

    assert [one["found"] for one in run_updater(looks, PEOPLE).written] == [2, 2]
    assert dict(os.environ) == before


def test_long_strings_and_nested_values_are_stored_as_load_stores_them() -> None:
    @bulkup.updater(kind="Thing")
    def mark(entity: Entity) -> Entity:
        entity["seen"] = entity["nested"]["long"] == "x" * 2000
        return entity

    given = {"long": "x" * 2000, "nested": {"long": "x" * 2000, "list": [{"a": None}]}}
    (written,) = run_updater(mark, [given]).written
    assert written == {**given, "seen": True}
    assert written.exclude_from_indexes == {"long"}


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**63 - 1), st.text(), st.binary(),
    st.floats(allow_nan=False), st.datetimes(timezones=st.timezones()),
)  # fmt: skip


@given(st.dictionaries(st.from_regex("[a-z]{1,8}", fullmatch=True), VALUES, max_size=4))
def test_generated_properties_reach_handle_and_the_store_alike(properties: dict[str, Any]) -> None:
    @bulkup.updater(kind="Thing")
    def same(entity: Entity) -> Entity:
        entity["added"] = 1
        return entity

    expected = {**properties, "added": 1}
    assert handle(same, properties).puts == (expected,)
    assert run_updater(same, [properties]).written == [expected]


def test_an_attribute_in_place_of_a_property_is_not_lost_in_silence() -> None:
    @bulkup.updater(kind="Person")
    def moves(person: Any) -> Any:
        person.city = "Bern"
        return person

    (failure,) = run_updater(moves, [{"first": "Ada"}]).failed
    assert "write entity['city'] = ..." in failure.error
    with pytest.raises(TypeError, match="the attribute 'city' was set on an entity"):
        handle(moves, {"first": "Ada"})


def test_an_error_before_the_run_ends_at_the_line_of_the_test() -> None:
    for call, says in (
        (lambda: run_updater("nope.py"), "there is no file nope.py"),
        (lambda: handle("nope.py", {}), "there is no file nope.py"),
        (lambda: run_updater(full_name, "people.jsonl"), "with_name('people.jsonl')"),
        (lambda: crash_test(full_name, "people.jsonl"), "no file people.jsonl"),
    ):
        with pytest.raises(NotFoundError, match=re.escape(says)) as raised:
            call()
        assert _files_of(raised.value) <= {"test_run_updater.py", "own_frames.py"}
        assert raised.value.__cause__ is None


def test_an_error_of_the_handler_shows_only_the_users_lines() -> None:
    with pytest.raises(KeyError) as raised:
        handle(misspelled_read, PEOPLE[0])
    assert _files_of(raised.value) <= {"test_run_updater.py", "own_frames.py", "planted.py"}
    assert raised.traceback[-1].path.name == "planted.py"


def test_a_file_that_cannot_be_loaded_shows_where(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import bulkup\n1 / 0\n")
    with pytest.raises(BulkupError, match="ZeroDivisionError") as raised:
        run_updater(tmp_path / "broken.py")
    assert 'broken.py", line 2' in raised.value.__notes__[0]


def test_a_file_of_entities_with_a_similar_name_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("people.jsonl").touch()
    with pytest.raises(NotFoundError, match=r"did you mean people\.jsonl"):
        run_updater(full_name, "peple.jsonl")
    with pytest.raises(UsageError, match="cannot read the entities"):
        run_updater(full_name, tmp_path)


def _files_of(error: BaseException) -> set[str]:
    return {Path(frame.filename).name for frame in traceback.extract_tb(error.__traceback__)}

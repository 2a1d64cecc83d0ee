"""What a function's returned dict comes to in Datastore: a patch of the handled entity."""

from __future__ import annotations

from typing import Any

from google.cloud import datastore
from google.cloud.datastore_v1.types import datastore as types

import bulkup
from tests.cli.shell import contents
from tests.conftest import Server
from tests.engine.conftest import Run, everything, fill


def test_a_patch_keeps_other_properties_and_index_flags(embedded: Server, run: Run) -> None:
    client = embedded.client()
    thing = datastore.Entity(client.key("Thing", 1), exclude_from_indexes=["bio", "old"])
    thing.update(bio="a", n=1, old="x", home={"city": "Köln", "zip": 5}, nested=datastore.Entity())
    client.put(thing)

    @bulkup.updater(kind="Thing")
    def fix(entity: Any) -> Any:
        return {"bio": "b", "n": 2, "old": bulkup.REMOVE, "home": {"city": "Bern"}}

    assert run(embedded, fix).counts.puts == 1
    (found,) = everything(client, "Thing")
    assert dict(found) == {"bio": "b", "n": 2, "home": {"city": "Bern"}, "nested": {}}
    assert found.exclude_from_indexes == {"bio"}


def test_a_patch_that_changes_nothing_writes_nothing(embedded: Server, run: Run) -> None:
    fill(embedded, "Thing", 3, n=1)
    before = {key: found for key, found in contents(embedded).items() if b"Thing" in key}

    @bulkup.updater(kind="Thing")
    def same(entity: Any) -> Any:
        return {"n": 1, "missing": bulkup.REMOVE}

    report = run(embedded, same)
    assert (report.counts.handled, report.counts.unchanged) == (3, 3)
    after = {key: found for key, found in contents(embedded).items() if b"Thing" in key}
    assert after == before


def test_a_patch_keeps_what_python_cannot_hold(embedded: Server, run: Run) -> None:
    fill(embedded, "Thing", 1)
    commit: Any = types.CommitRequest.pb()(project_id=embedded.project)
    commit.mode = commit.NON_TRANSACTIONAL
    raw = commit.mutations.add().upsert
    raw.key.partition_id.project_id = embedded.project
    raw.key.path.add(kind="Thing", id=1)
    raw.properties["tags"].array_value.values.add(string_value="a", exclude_from_indexes=True)
    raw.properties["tags"].array_value.values.add(string_value="b")
    raw.properties["n"].integer_value = 1
    embedded.client()._datastore_api.commit(request=types.CommitRequest.wrap(commit))

    @bulkup.updater(kind="Thing")
    def fix(entity: Any) -> Any:
        return {"n": 2}

    assert run(embedded, fix).counts.puts == 1
    (stored,) = [raw for key, (_, raw) in contents(embedded).items() if b"Thing" in key]
    entity: Any = type(raw).FromString(stored)
    assert entity.properties["n"].integer_value == 2
    flags = [v.exclude_from_indexes for v in entity.properties["tags"].array_value.values]
    assert flags == [True, False]


def test_remove_inside_a_value_fails_the_entity_and_says_why(embedded: Server, run: Run) -> None:
    fill(embedded, "Thing", 1)

    @bulkup.updater(kind="Thing")
    def bad(entity: Any) -> Any:
        return {"home": {"city": bulkup.REMOVE}}

    report = run(embedded, bad)
    (failure,) = report.failures
    assert "'home'" in failure.error
    assert "bulkup.REMOVE removes properties of the entity itself" in failure.error


def test_delete_and_patches_of_others_land_together(embedded: Server, run: Run) -> None:
    client = fill(embedded, "Thing", 4)

    @bulkup.updater(kind="Thing")
    def prune(entity: Any) -> Any:
        if entity["i"] == 1:
            return bulkup.delete()
        if entity["i"] == 2:
            return {"kept": True}, bulkup.delete(bulkup.client().key("Thing", 3))
        return None

    assert run(embedded, prune, batch_size=1).success
    assert [(e["i"], e.get("kept")) for e in everything(client, "Thing")] == [(2, True), (4, None)]

"""New entities of a handler: their ids, and incomplete keys where none can be."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from google.cloud.datastore import Entity, Key

from bulkup import Updater
from bulkup.core.events import Event, WouldChange
from bulkup.testing import handle, offline_client
from tests.conftest import Server
from tests.engine.conftest import Run, everything, fill

LOOKS: dict[str, Callable[[Key], Any]] = {
    "id": lambda key: key.id,
    "id_or_name": lambda key: key.id_or_name,
    "path": lambda key: key.path[-1].get("id"),
    "flat_path": lambda key: key.flat_path[-1],
    "protobuf": lambda key: key.to_protobuf().path[-1].id,
    "copy": lambda key: copy.deepcopy(key).id,
    "pickle": lambda key: pickle.loads(pickle.dumps(key)).id,
    "partial": lambda key: None if key.is_partial else key.id,
}


class Parent(Updater):
    """Makes a child for each parent, and stores its key and id."""

    def get_query(self) -> Any:
        return self.client.query(kind="Parent")

    def handle_entity(self, entity: Entity) -> None:
        child = Entity(self.client.key("Child", parent=self.parent(entity)))
        child["of"] = entity["i"]
        self.put(child)
        entity["child"] = self.look(child.key)
        entity["key"] = child.key
        child["again"] = True
        self.put(child, entity)

    def parent(self, entity: Entity) -> Key | None:
        return None

    def look(self, key: Key) -> Any:
        return key.id


def check_children(client: Any, count: int) -> None:
    parents, children = everything(client, "Parent"), everything(client, "Child")
    assert len(children) == count
    assert all(child["again"] for child in children)
    by_key = {child.key: child for child in children}
    for parent in parents:
        assert by_key[parent["key"]]["of"] == parent["i"]
        assert parent["child"] == parent["key"].id


def test_the_id_of_a_new_entity_is_known_after_put(server: Server, run: Run) -> None:
    client = fill(server, "Parent", 12)
    report = run(server, Parent, batch_size=5)
    assert (report.reason, report.counts.puts, report.counts.failed) == ("", 24, 0)
    check_children(client, 12)


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("below", [False, True], ids=["root", "below its parent"])
def test_every_way_to_look_at_a_new_key_sees_the_id(
    embedded: Server, run: Run, look: str, below: bool
) -> None:
    class Looks(Parent):
        def look(self, key: Key) -> Any:
            return LOOKS[look](key)

        def parent(self, entity: Entity) -> Key | None:
            return entity.key if below else None

    client = fill(embedded, "Parent", 3)
    assert run(embedded, Looks).reason == ""
    check_children(client, 3)


def test_an_entity_that_is_handled_again_has_one_child(server: Server, run: Run) -> None:
    class Raced(Parent):
        def handle_entity(self, entity: Entity) -> None:
            super().handle_entity(entity)
            if not entity.get("raced"):
                other = client.get(entity.key)
                other["raced"] = True
                client.put(other)

    client = fill(server, "Parent", 4)
    report = run(server, Raced, shards=1)
    assert (report.reason, report.counts.failed) == ("", 0)
    assert report.counts.conflicts >= 4
    check_children(client, 4)
    assert all(parent["raced"] for parent in everything(client, "Parent"))


def test_nobody_looks_so_ids_come_for_a_whole_batch(embedded: Server, run: Run) -> None:
    class Makes(Parent):
        def handle_entity(self, entity: Entity) -> None:
            key = self.client.key("Child")
            for _ in range(2):
                self.put(Entity(key))
            assert key.is_partial

    client = fill(embedded, "Parent", 5)
    assert run(embedded, Makes).counts.puts == 10
    assert len(everything(client, "Child")) == 10


def test_an_id_asked_for_too_late_is_refused_in_a_sentence(embedded: Server, run: Run) -> None:
    class Late(Parent):
        before: Entity | None = None

        def handle_entity(self, entity: Entity) -> None:
            if self.before is not None:
                entity["child"] = self.before.key.id
            self.before = Entity(self.client.key("Child"))
            self.put(self.before, entity)

    fill(embedded, "Parent", 2)
    report = run(embedded, Late)
    assert report.counts.failed == 1
    assert "after the handle_entity call that put it" in report.failures[0].error


@pytest.mark.parametrize(
    "store",
    [
        lambda entity, key: entity.update(child=key),
        lambda entity, key: entity.update(children=[key]),
        lambda entity, key: entity.update(home={"child": key}),
    ],
    ids=["property", "array", "nested"],
)
def test_an_incomplete_key_as_a_value_fails_at_put(
    embedded: Server, run: Run, store: Callable[[Entity, Key], None]
) -> None:
    class Stores(Parent):
        def handle_entity(self, entity: Entity) -> None:
            store(entity, self.client.key("Child"))
            self.put(entity)

    fill(embedded, "Parent", 2)
    for options in ({}, {"dry_run": True}):
        report = run(embedded, Stores, **options)
        (failure,) = report.failures
        assert failure.step == "handle"
        assert "Key('Child') is incomplete" in failure.error
        assert "property '" in failure.error


def test_a_dry_run_allocates_nothing_and_shows_an_id(embedded: Server, run: Run) -> None:
    events: list[Event] = []
    fill(embedded, "Parent", 2)
    report = run(embedded, Parent, dry_run=True, listener=events.append)
    assert (report.reason, report.counts.puts) == ("", 4)
    keys = [event.key for event in events if isinstance(event, WouldChange)]
    assert [key for key in keys if "Child" in key] == [
        "Key('Child', 9000000000000001)", "Key('Child', 9000000000000002)",
    ]  # fmt: skip


def test_a_unit_test_sees_an_id_after_put() -> None:
    parent = Entity(offline_client().key("Parent", 1))
    parent["i"] = 1
    writes = handle(Parent, parent)
    assert parent["child"] == parent["key"].id is not None
    assert writes.puts[0].key.is_partial, "as it was put"


def test_the_handled_entity_is_put_as_a_copy_under_an_incomplete_key(
    embedded: Server, run: Run
) -> None:
    class Copies(Updater):
        kind = "Thing"

        def handle_entity(self, entity: Entity) -> None:
            entity.key = self.client.key("Thing")
            entity["copy"] = True
            self.put(entity)

    client = fill(embedded, "Thing", 2)
    report = run(embedded, Copies)
    assert (report.counts.other_puts, report.counts.unwritten) == (2, 0)
    copies = [entity for entity in everything(client, "Thing") if entity.get("copy")]
    assert sorted(entity["i"] for entity in copies) == [1, 2]
    assert len(everything(client, "Thing")) == 4

"""Moves to other keys: whole trees in one commit, refused where something would be lost."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from google.cloud import datastore
from google.cloud.datastore import Entity, Key

import bulkup
from bulkup.authoring.loader import load
from bulkup.authoring.named_successors import follow, names
from bulkup.core.errors import MismatchError
from bulkup.testing import offline_client
from bulkup.transforms import ChangeKey, SplitKind, key_from_property, move
from bulkup.transforms.moving import MAX_TREE
from tests.cli.shell import Shell, entity, of_kind, put, user_data
from tests.conftest import Server
from tests.engine.conftest import Run
from tests.runs.undoing import entities

pytestmark = pytest.mark.sampled(5)

MAIL = {"kind": "Person", "key_from": "mail"}


def everything(client: datastore.Client) -> dict[tuple[Any, ...], dict[str, Any]]:
    """What users have in the client's namespace."""
    found = client.query().fetch()
    return {e.key.flat_path: dict(e) for e in found if not e.key.kind.startswith("Bulkup")}


def people(server: Server, count: int, **options: Any) -> datastore.Client:
    client = server.client(**options)
    put(client, (entity(client, "Person", i, mail=f"p{i}@x") for i in range(1, count + 1)))
    return client


def test_each_entity_moves_once_and_is_not_met_again(embedded: Server, run: Run) -> None:
    client = people(embedded, 50)  # names come after ids, where the scan would meet them
    report = run(embedded, "change-key", params=MAIL, batch_size=7)
    assert (report.success, report.counts.handled) == (True, 50)
    assert everything(client) == {("Person", f"p{i}@x"): {"mail": f"p{i}@x"} for i in range(1, 51)}
    again = run(embedded, "change-key", params=MAIL)
    assert (again.counts.handled, again.counts.writes) == (50, 0)


def test_a_moved_entity_is_stored_as_it_was(embedded: Server, run: Run) -> None:
    client = embedded.client()
    person = Entity(client.key("Person", 1), exclude_from_indexes=["bio"])
    person.update(mail="a@x", bio="b" * 2000, tags=["x", 1], at=None)
    note = Entity(client.key("Person", 1, "Note", 5), exclude_from_indexes=["text"])
    note["text"] = "t" * 2000
    put(client, [person, note])
    before = _raw(embedded)
    assert run(embedded, "change-key", params=MAIL).success
    after = _raw(embedded)
    assert sorted(after.values()) == sorted(before.values())
    assert not after.keys() & before.keys()


def _raw(server: Server) -> dict[bytes, bytes]:
    """The serialized properties of each entity, by its key."""
    from bulkup.datastore.messages import EntityPb

    found = {}
    for key, (_, raw) in user_data(server).items():
        pb = EntityPb.FromString(raw)
        pb.ClearField("key")
        found[key] = pb.SerializeToString(deterministic=True)
    return found


def test_descendants_of_any_depth_move_along(embedded: Server, run: Run) -> None:
    client = people(embedded, 3)
    below = [
        ("Person", 1, "Note", 1), ("Person", 1, "Note", 1, "Line", "a"), ("Person", 3, "Note", 9),
    ]  # fmt: skip
    put(client, (entity(client, *path, n=1) for path in below))
    put(client, [entity(client, "Person", 12, "Note", 1, n=2), entity(client, "Note", 1, n=3)])
    report = run(embedded, "change-key", params=MAIL)
    assert (report.success, report.counts.handled) == (True, 3)
    assert everything(client) == {
        ("Person", "p1@x"): {"mail": "p1@x"}, ("Person", "p2@x"): {"mail": "p2@x"},
        ("Person", "p3@x"): {"mail": "p3@x"}, ("Person", "p1@x", "Note", 1): {"n": 1},
        ("Person", "p1@x", "Note", 1, "Line", "a"): {"n": 1},
        ("Person", "p3@x", "Note", 9): {"n": 1},
        ("Person", 12, "Note", 1): {"n": 2}, ("Note", 1): {"n": 3},
    }  # fmt: skip


def test_descendants_may_stay(embedded: Server, run: Run) -> None:
    client = people(embedded, 1)
    put(client, [entity(client, "Person", 1, "Note", 1)])
    assert run(embedded, "change-key", params={**MAIL, "descendants": "false"}).success
    assert everything(client).keys() == {("Person", "p1@x"), ("Person", 1, "Note", 1)}


def test_a_key_that_is_taken_is_refused_and_both_stay(embedded: Server, run: Run) -> None:
    client = people(embedded, 4)
    put(client, [entity(client, "Person", "p2@x", mail="p2@x", n=1)])
    put(client, [entity(client, "Person", 3, mail="p1@x")])  # as Person 1: the first moves
    put(
        client,
        [entity(client, "Person", 4, "Note", 1), entity(client, "Person", "p4@x", "Note", 1)],
    )
    report = run(embedded, "change-key", params=MAIL, max_failures=-1)
    errors = [failure.error for failure in report.failures]
    assert len(errors) == 3
    for taken, one in (("'p2@x'", 2), ("'p1@x'", 3), ("'p4@x', 'Note', 1", 4)):
        assert any(f"Key('Person', {taken}) exists already, so Key('Person', {one})" in e
                   for e in errors), errors  # fmt: skip
    assert everything(client).keys() == {
        ("Person", "p1@x"), ("Person", 2), ("Person", "p2@x"), ("Person", 3), ("Person", 4),
        ("Person", 4, "Note", 1), ("Person", "p4@x", "Note", 1),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("properties", "says"),
    [
        ({}, "has no property 'mail'"), ({"mail": ""}, "has 1 to 1,500 bytes"),
        ({"mail": "__x__"}, "__name__"), ({"mail": "ü" * 751}, "1,500 bytes"),
        ({"mail": 0}, "an integer above 0"), ({"mail": True}, "an integer above 0"),
        ({"mail": None}, "is None; a key takes a string"), ({"mail": 1.5}, "is 1.5; a key takes"),
    ],
)  # fmt: skip
def test_what_makes_no_key_fails(
    embedded: Server, run: Run, properties: dict[str, Any], says: str
) -> None:
    client = embedded.client()
    made = Entity(client.key("Person", 5), exclude_from_indexes=["mail"])
    made.update(properties)
    client.put(made)
    (failure,) = run(embedded, "change-key", params=MAIL).failures
    assert says in failure.error
    assert everything(client).keys() == {("Person", 5)}


def test_an_id_may_come_from_an_integer(embedded: Server, run: Run) -> None:
    client = people(embedded, 1)
    put(client, [entity(client, "Person", 1, number=77)])
    assert run(embedded, "change-key", params={"kind": "Person", "key_from": "number"}).success
    assert everything(client).keys() == {("Person", 77)}


def test_a_tree_that_one_commit_cannot_take_stays_whole(embedded: Server, run: Run) -> None:
    client = people(embedded, 2)
    put(client, (entity(client, "Person", 1, "Note", i) for i in range(1, MAX_TREE + 2)))
    put(client, (entity(client, "Person", 2, "Note", i) for i in range(1, MAX_TREE + 1)))
    report = run(embedded, "change-key", params=MAIL, max_failures=-1)
    (failure,) = report.failures
    assert f"Key('Person', 1) has more than {MAX_TREE} descendants" in failure.error
    paths = everything(client).keys()
    assert sum(path[1] == 1 for path in paths) == MAX_TREE + 2
    assert sum(path[1] == "p2@x" for path in paths) == MAX_TREE + 1
    assert len(paths) == 2 * MAX_TREE + 3


def test_a_descendant_of_the_same_kind_moves_first(embedded: Server, run: Run) -> None:
    client = people(embedded, 1)
    put(client, [entity(client, "Person", 1, "Note", 7, "Person", 2, mail="child@x")])
    report = run(embedded, "change-key", params=MAIL, max_failures=-1)
    (failure,) = report.failures
    child = "Key('Person', 1, 'Note', 7, 'Person', 2)"
    assert f"has a descendant of its own kind, {child}, which has to move first" in failure.error
    assert everything(client).keys() == {
        ("Person", 1), ("Person", 1, "Note", 7, "Person", "child@x")
    }  # fmt: skip
    assert run(embedded, "change-key", params=MAIL).success
    assert everything(client).keys() == {
        ("Person", "p1@x"), ("Person", "p1@x", "Note", 7, "Person", "child@x")
    }  # fmt: skip


def test_what_users_do_meanwhile_is_kept(embedded: Server, run: Run) -> None:
    client = people(embedded, 1)
    put(client, [entity(client, "Person", 1, "Note", 1, n=1)])
    live = embedded.client()

    class Raced(ChangeKey):
        calls = 0

        def handle_batch(self, people: list[Entity]) -> None:
            super().handle_batch(people)
            type(self).calls += 1
            if self.calls == 1:  # after the note was read
                live.put(entity(live, "Person", 1, "Note", 1, n=2))
            if self.calls == 2:  # after the new key was read
                live.put(entity(live, "Person", "p1@x", n=3))

    report = run(embedded, Raced, params=MAIL, max_failures=-1)
    (failure,) = report.failures
    assert "exists already" in failure.error
    assert Raced.calls >= 2
    assert everything(client) == {
        ("Person", 1): {"mail": "p1@x"}, ("Person", 1, "Note", 1): {"n": 2},
        ("Person", "p1@x"): {"n": 3},
    }  # fmt: skip


def test_a_move_is_undone_with_its_tree(embedded: Server, shell: Shell) -> None:
    client = people(embedded, 5)
    put(client, [entity(client, "Person", 1, "Note", 1, n=1)])
    before = entities(embedded)
    words = ["change-key", "--kind", "Person", "-p", "key_from=mail"]
    shown = shell.bulkup("run", "-n", *words, "--json")
    assert shown.summary["counts"]["deleted"] == 5, shown
    assert entities(embedded) == before
    assert shell.bulkup("verify", *words).code == 4
    assert shell.bulkup("run", *words).code == 0
    assert shell.bulkup("verify", *words).code == 0
    assert ("Person", "p1@x", "Note", 1) in everything(client)
    assert shell.bulkup("undo", shell.runs()[-1], "--yes").code == 0
    assert entities(embedded) == before


def test_it_works_in_a_namespace_with_shards_and_processes(embedded: Server, shell: Shell) -> None:
    client = people(embedded, 60, namespace="tenant")
    put(client, (entity(client, "Person", i, "Note", 1) for i in range(1, 61, 7)))
    result = shell.bulkup(
        "run", "change-key", "--kind", "Person", "-p", "key_from=mail", "--namespace", "tenant",
        "--shards", "3", "--processes", "2", "--json",
    )  # fmt: skip
    assert result.summary["counts"]["handled"] == 60, result
    paths = everything(client).keys()
    assert len(paths) == 69
    assert all(isinstance(path[1], str) for path in paths)


ANIMALS = {1: "dog", 2: "cat", 3: "dog", 4: "axolotl", 5: None}


def animals(server: Server) -> datastore.Client:
    client = server.client()
    put(client, (entity(client, "Animal", i, species=s, n=i) for i, s in ANIMALS.items()))
    put(client, [entity(client, "Animal", 1, "Toy", 1)])
    return client


def test_a_kind_is_split_and_merged_again(embedded: Server, run: Run) -> None:
    client = animals(embedded)
    before = everything(client)
    split = {"kind": "Animal", "by": "species", "into": "dog=Dog,cat=Cat"}
    report = run(embedded, "split-kind", params=split)
    assert (report.success, report.counts.handled) == (True, 5)
    assert everything(client).keys() == {
        ("Dog", 1), ("Cat", 2), ("Dog", 3), ("Animal", 4), ("Animal", 5), ("Dog", 1, "Toy", 1),
    }  # fmt: skip
    assert run(embedded, "split-kind", params=split).counts.writes == 0
    for kind in ("Dog", "Cat"):
        params = {"kind": kind, "to": "Animal", "origin_in": "was"}
        assert run(embedded, "merge-kind", params=params).success
    after = everything(client)
    assert {path: found.pop("was", None) for path, found in after.items()} == {
        ("Animal", 1): "Dog", ("Animal", 2): "Cat", ("Animal", 3): "Dog", ("Animal", 4): None,
        ("Animal", 5): None, ("Animal", 1, "Toy", 1): None,
    }  # fmt: skip
    assert after == before


def test_a_merge_refuses_ids_that_both_kinds_have(embedded: Server, run: Run) -> None:
    client = animals(embedded)
    put(client, [entity(client, "Cat", 2), entity(client, "Cat", 9)])
    report = run(embedded, "merge-kind", params={"kind": "Cat", "to": "Animal"}, max_failures=-1)
    (failure,) = report.failures
    assert "Key('Animal', 2) exists already, so Key('Cat', 2) cannot move there" in failure.error
    assert {("Cat", 2), ("Animal", 2), ("Animal", 9)} <= everything(client).keys()


def test_a_split_may_be_a_class_with_its_own_rule(embedded: Server, run: Run) -> None:
    client = animals(embedded)

    class Pets(SplitKind):
        kind = "Animal"
        by = "species"
        into = ("dog=Pet", "cat=Pet")

    assert run(embedded, Pets).success
    assert {("Pet", 1), ("Pet", 2), ("Pet", 3), ("Animal", 4)} <= everything(client).keys()


def test_references_to_keys_that_are_gone_are_listed(embedded: Server, shell: Shell) -> None:
    client = people(embedded, 3)
    old = [client.key("Person", i) for i in range(4)[1:]]
    nested = Entity()
    nested["buyer"] = old[1]
    put(client, [
        entity(client, "Order", 1, who=old[0], others=[old[1], client.key("Person", "p3@x")]),
        entity(client, "Order", 2, deep=nested, elsewhere=Key("Person", 1, project="other")),
        entity(client, "Order", 3, note=client.key("Person", 1, "Note", 5)),
        entity(client, "Order", 4, note=client.key("Person", 1, "Note", 6)),
        entity(client, "Person", 1, "Note", 5),
        entity(client, "Invoice", 1, who=old[2]),
    ])  # fmt: skip
    result = shell.bulkup(
        "run", "change-key", "--kind", "Person", "-p", "key_from=mail", "-p", "old_key_in=was",
        "-p", "references=Order,Invoice", "--json",
    )  # fmt: skip
    assert result.code == 0, result
    assert everything(client)["Person", "p1@x"] == {"mail": "p1@x", "was": old[0]}
    lines = {line["line"] for line in result.of_type("log")}
    gone = "which is not there"
    assert lines == {
        f"Key('Order', 1): 'who' refers to Key('Person', 1), {gone}; now Key('Person', 'p1@x')",
        f"Key('Order', 1): 'others'[0] refers to Key('Person', 2), {gone}; "
        "now Key('Person', 'p2@x')",
        f"Key('Order', 2): 'deep'.'buyer' refers to Key('Person', 2), {gone}; "
        "now Key('Person', 'p2@x')",
        f"Key('Order', 3): 'note' refers to Key('Person', 1, 'Note', 5), {gone}; "
        "now Key('Person', 'p1@x', 'Note', 5)",
        f"Key('Order', 4): 'note' refers to Key('Person', 1, 'Note', 6), {gone}",
        f"Key('Invoice', 1): 'who' refers to Key('Person', 3), {gone}; now Key('Person', 'p3@x')",
    }
    first, *more = shell.runs()
    assert more == [f"{first}+1", f"{first}+2"]
    shown = shell.bulkup("show", more[0]).out
    assert "'deep'.'buyer' refers to" in shown
    words = ["find-references", "--kind", "Order", "-p", "to=Person"]
    assert shell.bulkup("verify", *words).code == 4
    assert not any(of_kind(key, "BulkupMarker") for key in user_data(embedded))


def test_a_handler_of_ones_own_may_move(embedded: Server, run: Run) -> None:
    client = people(embedded, 6)
    put(client, [entity(client, "Person", 1, "Note", 1)])

    @bulkup.updater(kind="Person")
    def rekey(person: Any) -> Any:
        child = Entity(bulkup.client().key("Person", 6, "Note", person.key.id))
        first = person.key.id == 6
        moves = move(person, key_from_property(person, "mail"))
        return moves if first else [*moves, child]

    assert run(embedded, rekey).success
    paths = everything(client).keys()
    assert {path for path in paths if len(path) == 4} == {
        ("Person", "p1@x", "Note", 1), *(("Person", "p6@x", "Note", i) for i in range(1, 6)),
    }  # fmt: skip
    assert all(path[1] != 6 for path in paths)


def test_a_class_may_move_on_a_thread_of_its_own(embedded: Server, run: Run) -> None:
    client = people(embedded, 2)

    class OnThread(bulkup.Updater):
        def get_query(self) -> Any:
            return self.client.query(kind="Person")

        def handle_entity(self, person: Entity) -> None:
            key = key_from_property(person, "mail")
            found: list[Any] = []
            thread = threading.Thread(
                target=lambda: found.append(move(person, key, client=self.client))
            )
            thread.start()
            thread.join()
            self.put(found[0].puts)
            self.delete(found[0].deletes)

    assert run(embedded, OnThread).success
    assert everything(client).keys() == {("Person", "p1@x"), ("Person", "p2@x")}


def test_moves_that_cannot_be_are_refused() -> None:
    client = offline_client()
    person = entity(client, "Person", 1)
    for key, says in (
        (client.key("Person", 1, "Person", 2), "below itself"),
        (client.key("Person"), "two complete keys"),
        (client.key("Person", 2, namespace="x"), "another project, database or namespace"),
    ):
        with pytest.raises(ValueError, match=says):
            move(person, key, client=client)
    assert list(move(person, person.key, client=client)) == []


def test_another_process_may_resume_the_search_and_nothing_else() -> None:
    for name in ("change-key", "find-references"):
        source = load(name)
        assert names(source, "find-references")
        assert follow(source, ["find-references"]) == "find-references"
        with pytest.raises(MismatchError):
            follow(source, ["bulk-delete"])

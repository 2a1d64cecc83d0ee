"""Handlers that take models of google-cloud-ndb, compared with ndb itself."""

from __future__ import annotations

import datetime
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from google.cloud import datastore, ndb
from google.cloud.ndb import model as ndb_model
from google.cloud.ndb.polymodel import PolyModel

import bulkup
from bulkup import Updater
from bulkup.authoring.ndb_kinds import models_beside
from bulkup.core.errors import QueryError
from bulkup.testing import handle as handle_one
from tests.cli.shell import Shell
from tests.conftest import Server
from tests.engine.conftest import Run

pytestmark = [
    pytest.mark.sampled(9),
]

NOW = datetime.datetime(2024, 2, 29, 12, 30, 15, 123456)


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ndb.DateTimeProperty, "_now", staticmethod(lambda: NOW))


class Address(ndb.Model):
    city = ndb.StringProperty()
    zip = ndb.IntegerProperty(indexed=False)


class Note(ndb.Model):
    text = ndb.TextProperty()
    when = ndb.DateTimeProperty()


class Everything(ndb.Model):
    name = ndb.StringProperty("n")
    age = ndb.IntegerProperty()
    tags = ndb.StringProperty(repeated=True)
    home = ndb.StructuredProperty(Address)
    others = ndb.StructuredProperty(Address, repeated=True)
    note = ndb.LocalStructuredProperty(Note)
    notes = ndb.LocalStructuredProperty(Note, repeated=True)
    packed_note = ndb.LocalStructuredProperty(Note, compressed=True)
    data = ndb.JsonProperty()
    packed_data = ndb.JsonProperty(compressed=True)
    pickled = ndb.PickleProperty()
    blob = ndb.BlobProperty()
    blobs = ndb.BlobProperty(repeated=True, compressed=True)
    packed_blob = ndb.BlobProperty(compressed=True)
    text = ndb.TextProperty()
    packed_text = ndb.TextProperty(compressed=True)
    unindexed = ndb.IntegerProperty(indexed=False)
    boss = ndb.KeyProperty()
    bosses = ndb.KeyProperty(repeated=True)
    born = ndb.DateProperty()
    at = ndb.TimeProperty()
    seen = ndb.DateTimeProperty()
    place = ndb.GeoPtProperty()
    score = ndb.FloatProperty()
    ok = ndb.BooleanProperty()
    upper = ndb.ComputedProperty(lambda self: (self.name or "").upper())
    generic = ndb.GenericProperty()
    changed = ndb.DateTimeProperty(auto_now=True)
    made = ndb.DateTimeProperty(auto_now_add=True)


class Loose(ndb.Expando):
    name = ndb.StringProperty()


class Animal(PolyModel):
    name = ndb.StringProperty()


class Cat(Animal):
    lives = ndb.IntegerProperty()


def full(id_: int) -> Everything:
    key = ndb.Key("Everything", 99)
    return Everything(
        id=id_, name="Ada", age=36, tags=["a", "b"], home=Address(city="London", zip=1),
        others=[Address(city="Paris"), Address(zip=3)], note=Note(text="t", when=NOW),
        notes=[Note(text="1"), Note(text="2")], packed_note=Note(text="p"), data={"a": [1, None]},
        packed_data={"b": 2}, pickled={1, 2}, blob=b"\0\1", blobs=[b"x" * 99, b"y"],
        packed_blob=b"z" * 2000, text="long", packed_text="long" * 500, unindexed=7, boss=key,
        bosses=[key, key], born=NOW.date(), at=NOW.time(), seen=NOW, place=ndb.GeoPt(1, 2),
        score=1.5, ok=True, generic="g",
    )  # fmt: skip


def empty(id_: int) -> Everything:
    return Everything(id=id_)


def loose(id_: int) -> Loose:
    made = Loose(id=id_, name="Ada")
    made.number, made.things, made.home = 3, ["x", 2], Address(city="A")
    return made


def cat(id_: int) -> Cat:
    return Cat(id=id_, name="Tom", lives=9)


def change_all(one: Any) -> None:
    one.name, one.age, one.tags = "Grace", None, ["c", *one.tags]
    one.home = Address(city="New York") if one.home is None else None
    one.others = [*reversed(one.others), Address(city="Rome", zip=9)]
    one.note, one.notes = Note(text="new"), one.notes[1:]
    one.packed_note = Note(text="q" * 500)
    one.data, one.packed_data, one.pickled = {"c": 1}, [1, 2], {"deep": [1]}
    one.blob, one.blobs, one.packed_blob = b"", [b"w" * 50], b"v" * 50
    one.text, one.packed_text, one.unindexed = "x" * 2000, "y" * 2000, None
    one.bosses, one.boss = one.bosses[:1], ndb.Key("Everything", "x")
    one.born, one.at, one.seen = None, datetime.time(1, 2), datetime.datetime(2020, 1, 1)
    one.place, one.score, one.ok, one.generic = None, 2.0, False, 3


def change_inside(one: Any) -> None:
    if one.home is not None:
        one.home.city = "Bath"
        one.others[1].city = "Lyon"
        one.notes[0].text = "one"
        one.packed_note.text = "pp"
        one.data["a"].append(2)
        one.pickled.add(3)


def change_name(one: Any) -> None:
    one.name = "Grace"


def change_loose(one: Any) -> None:
    one.number = "text"
    one.things.append(3)
    del one.home
    one.more = 1.5


MODELS: list[tuple[Callable[[int], Any], Callable[[Any], None]]] = [
    (full, change_name), (full, change_all), (full, change_inside), (empty, change_name),
    (empty, change_all), (loose, change_loose), (loose, change_name), (cat, change_name),
]  # fmt: skip


@contextmanager
def ndb_on(server: Server, **options: Any) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DATASTORE_EMULATOR_HOST", server.host)
        client = ndb.Client(project=server.project)
        with client.context(**options):
            yield


def message(server: Server, kind: str, id_: int) -> Any:
    """The stored Entity message, without its key."""
    client = server.client()
    request = {"project_id": client.project, "keys": [client.key(kind, id_).to_protobuf()]}
    (found,) = client._datastore_api.lookup(request=request).found
    found.entity._pb.ClearField("key")
    return found.entity._pb


def function_of(change: Callable[[Any], None], model: Any) -> Any:
    @bulkup.updater(kind=model, filters=[("__key__", "=", datastore.Key(model._get_kind(), 1))])
    def function(one: Any) -> Any:
        assert isinstance(one, ndb.Model)
        change(one)
        return one

    return function


def check_like_ndb(
    server: Server, run: Run, make: Any, change: Any, legacy_data: bool = True
) -> None:
    with ndb_on(server, legacy_data=legacy_data):
        model = type(make(1))
        ndb.put_multi([make(1), make(2)])
        later = NOW + datetime.timedelta(seconds=1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ndb.DateTimeProperty, "_now", staticmethod(lambda: later))
            one = ndb.Key(model._get_kind(), 2).get(use_cache=False)
            change(one)
            one.put()

    class Change(Updater[Any]):
        kind = model

        def get_query(self) -> Any:
            return model.query(model.key == ndb.Key(model._get_kind(), 1))

        def handle_entity(self, one: Any) -> None:
            assert type(one) is model
            change(one)
            self.put(one)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ndb.DateTimeProperty, "_now", staticmethod(lambda: later))
        report = run(server, Change)
    assert report.counts.written == 1, report.failures[0]
    kind = model._get_kind()
    ours, theirs = (message(server, kind, i).properties for i in (1, 2))
    assert sorted(ours) == sorted(theirs)
    assert [n for n in ours if ours[n] != theirs[n]] == []


@pytest.mark.parametrize(("make", "change"), MODELS)
def test_a_put_writes_what_ndb_writes(embedded: Server, run: Run, make: Any, change: Any) -> None:
    check_like_ndb(embedded, run, make, change)


@pytest.mark.slow
@pytest.mark.parametrize(("make", "change"), MODELS)
@pytest.mark.parametrize("legacy_data", [True, False])
def test_a_put_writes_what_ndb_writes_on_every_server(
    server: Server, run: Run, make: Any, change: Any, legacy_data: bool
) -> None:
    check_like_ndb(server, run, make, change, legacy_data)


# --- what is written ---


class Person(ndb.Model):
    name = ndb.StringProperty()
    friend = ndb.KeyProperty()
    count = ndb.IntegerProperty(default=0)
    changed = ndb.DateTimeProperty(auto_now=True)

    hooks: list[str] = []  # noqa: RUF012 - of the class

    def _pre_put_hook(self) -> None:
        self.hooks.append(str(self.name))


class Invoice(ndb.Model):
    total = ndb.IntegerProperty()


@pytest.fixture(autouse=True)
def models_of_this_file() -> Iterator[None]:
    """Other tests define a `Person`, too, and ndb knows only the last one."""
    with models_beside(Person):
        yield


@pytest.fixture
def people(embedded: Server) -> datastore.Client:
    """1 to 4; each has a property that the model does not declare."""
    client = embedded.client()
    with ndb_on(embedded):
        for i in range(1, 5):
            Person(id=i, name=f"p{i}", friend=ndb.Key("Person", i % 4 + 1)).put()
    for entity in client.query(kind="Person").fetch():
        entity["bio"] = "undeclared"
        entity.exclude_from_indexes.add("bio")
        client.put(entity)
    Person.hooks.clear()
    return client


def stored(client: datastore.Client, kind: str = "Person") -> dict[Any, datastore.Entity]:
    return {entity.key.id_or_name: entity for entity in client.query(kind=kind).fetch()}


def updater(handle: Callable[..., Any], **options: Any) -> Any:
    """An updater of all people, as a class."""
    made = {"kind": Person, "handle_entity": handle, **options}
    return type("Made", (Updater,), made)


def test_properties_that_ndb_does_not_see_survive(
    embedded: Server, people: datastore.Client, run: Run
) -> None:
    @bulkup.updater(kind=Person, filters=[("name", "=", "p1")])
    def rename(person: Person) -> Person:
        person.name = "Ada"
        return person

    before = message(embedded, "Person", 1).properties["bio"]
    assert run(embedded, rename).counts.written == 1
    after = message(embedded, "Person", 1).properties
    assert (after["bio"], after["name"].string_value) == (before, "Ada")
    assert Person.hooks == ["Ada"]


class Home(ndb.Model):
    city = ndb.StringProperty()


class Housed(ndb.Model):
    home = ndb.StructuredProperty(Home)
    others = ndb.StructuredProperty(Home, repeated=True)
    note = ndb.LocalStructuredProperty(Home)
    changed = ndb.DateTimeProperty(auto_now=True)


def seen_by_another(server: Server, *, embedded: bool) -> datastore.Client:
    """Two Housed, with what Home does not declare inside all of its properties."""

    def home(city: str, note: str) -> datastore.Entity:
        made = datastore.Entity(exclude_from_indexes=["note"])
        made.update(city=city, note=note)
        return made

    client = server.client()
    for i in (1, 2):
        entity = datastore.Entity(client.key("Housed", i), exclude_from_indexes=["note"])
        entity.update({"note": home("N", "n"), "changed": NOW})
        if embedded:
            entity["home"] = home("A", "a")
            entity["others"] = [home("B", "b"), home("C", "c"), home("D", "d")]
        else:
            entity.update({"home.city": "A", "home.note": "a"})
            entity.update({"others.city": ["B", "C", "D"], "others.note": ["b", "c", "d"]})
            entity.exclude_from_indexes.add("home.note")
        client.put(entity)
    return client


def homes(entity: datastore.Entity) -> list[Any]:
    """[(city, note), ...] of home, of others and of note"""
    if "others" in entity:
        single, several = [entity.get("home") or {}], entity["others"]
    else:
        single = [{n: entity.get(f"home.{n}") for n in ("city", "note")}]
        several = [
            {"city": city, "note": note}
            for city, note in zip(
                entity["others.city"], entity.get("others.note", [None] * 9), strict=False
            )
        ]
    return [(one.get("city"), one.get("note")) for one in (*single, *several, entity["note"])]


@pytest.mark.parametrize("embedded_form", [True, False])
@pytest.mark.parametrize("by_ndb", [True, False])
def test_what_ndb_does_not_see_inside_a_structured_property_survives(
    embedded: Server, run: Run, embedded_form: bool, by_ndb: bool
) -> None:
    client = seen_by_another(embedded, embedded=embedded_form)

    class Change(Updater[Housed]):
        def handle_entity(self, one: Housed) -> None:
            if one.key.id() == 1:
                one.home.city = "A2"
                one.others = [one.others[2], Home(city="new"), one.others[0]]
                one.note.city = "N2"
            if by_ndb:
                one.changed = NOW
                one.put()
            else:
                self.put(one)

    report = run(embedded, Change)
    assert (report.counts.written, report.counts.unchanged) == (1, 1), report.failures
    one, two = (client.get(client.key("Housed", i)) for i in (1, 2))
    assert homes(one) == [("A2", "a"), ("D", "d"), ("new", None), ("B", "b"), ("N2", "n")]
    assert homes(two) == [("A", "a"), ("B", "b"), ("C", "c"), ("D", "d"), ("N", "n")]
    nested = one["home"] if embedded_form else one
    assert ("note" if embedded_form else "home.note") in nested.exclude_from_indexes

    class Forget(Updater[Housed]):
        def handle_entity(self, one: Housed) -> None:
            one.home = None
            self.put(one)

    run(embedded, Forget)
    one = client.get(client.key("Housed", 1))
    assert one.get("home", 0) is None
    assert "home.note" not in one


def test_an_unchanged_put_costs_no_write_and_moves_no_time(
    embedded: Server, people: datastore.Client, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = NOW + datetime.timedelta(days=1)
    monkeypatch.setattr(ndb.DateTimeProperty, "_now", staticmethod(lambda: later))

    def handle(self: Any, person: Person) -> None:
        if person.name == "p2":
            person.count += 1
        self.put(person)

    report = run(embedded, updater(handle))
    assert (report.counts.written, report.counts.unchanged) == (1, 3)
    days = {i: one["changed"].day for i, one in stored(people).items()}
    assert days == {1: NOW.day, 2: later.day, 3: NOW.day, 4: NOW.day}


def test_a_change_that_is_not_put_stops_the_run(
    embedded: Server, people: datastore.Client, run: Run
) -> None:
    def forgets(self: Any, person: Person) -> None:
        person.name = "x"

    def looks(self: Any, person: Person) -> None:
        assert person.name
        assert person.friend.id()

    def late(self: Any, person: Person) -> None:
        person.count += 1
        self.put(person)
        person.count += 1

    assert run(embedded, updater(forgets)).counts.unwritten == 4
    assert run(embedded, updater(looks)).counts.unwritten == 0
    assert run(embedded, updater(late)).counts.unwritten == 4


@pytest.mark.parametrize("put_first", [False, True])
def test_a_change_deep_inside_that_is_not_put_is_seen(
    embedded: Server, run: Run, put_first: bool
) -> None:
    with ndb_on(embedded):
        full(1).put()
    changes: list[Callable[[Any], Any]] = [
        lambda one: one.data["a"].append(9), lambda one: one.pickled.add(9),
        lambda one: setattr(one.home, "city", "x"), lambda one: setattr(one.notes[1], "text", "x"),
        lambda one: one.tags.append("x"), lambda one: None,
    ]  # fmt: skip
    for change in changes:

        def handle(self: Any, one: Any, change: Any = change) -> None:
            if put_first:
                one.age += 1
                self.put(one)
            change(one)

        report = run(
            embedded, type("Deep", (Updater,), {"kind": Everything, "handle_entity": handle})
        )
        assert report.counts.unwritten == int(change is not changes[-1]), changes.index(change)


def test_new_models_and_models_of_other_keys_are_put(
    embedded: Server, people: datastore.Client, run: Run
) -> None:
    ids = []

    def handle(self: Any, person: Person) -> None:
        invoice = Invoice(total=5)
        self.put(invoice, Invoice(id=f"of {person.key.id()}", total=1))
        ids.append(invoice.key.id())
        self.delete(person.key)

    assert run(embedded, updater(handle)).counts.failed == 0
    assert stored(people) == {}
    invoices = stored(people, "Invoice")
    assert {i for i, one in invoices.items() if one["total"] == 5} == set(ids)
    assert len(invoices) == 8


def test_a_model_without_its_key_is_a_copy(
    embedded: Server, people: datastore.Client, run: Run
) -> None:
    def copies(self: Any, person: Person) -> None:
        person.key = None
        person.name = "copy"
        self.put(person)
        assert person.key.id() > 4

    def renames(self: Any, person: Person) -> None:
        person.key = ndb.Key(Person, "new")
        self.put(person)

    report = run(embedded, updater(copies, get_query=_first))
    assert (report.counts.other_puts, report.failures) == (1, ()), report.counts
    report = run(embedded, updater(renames, get_query=_first))
    assert (report.counts.other_puts, report.failures) == (1, ()), report.counts
    after = stored(people)
    assert len(after) == 6, list(after)
    (copy,) = [one for i, one in after.items() if i not in (1, 2, 3, 4, "new")]
    assert (after[1]["name"], copy["name"], after["new"]["name"]) == ("p1", "copy", "p1")


# --- what a handler does with ndb itself ---


def test_what_a_handler_reads_with_ndb_guards_what_it_writes(
    embedded: Server, people: datastore.Client, run: Run
) -> None:
    seen: list[tuple[int, int]] = []

    def handle(self: Any, person: Person) -> None:
        friend = person.friend.get()
        missing = ndb.Key("Person", 77).get()
        (found,) = Person.query(Person.name == friend.name).fetch()
        assert (missing, found) == (None, friend)
        seen.append((person.key.id(), friend.count))
        if len(seen) == 1:  # somebody else is faster
            entity = people.get(people.key("Person", friend.key.id()))
            entity["count"], entity["bio"] = 10, "newer"
            people.put(entity)
        friend.count += 1
        self.put(friend)

    report = run(embedded, updater(handle, get_query=_first))
    assert (report.counts.conflicts, report.counts.failed) == (1, 0)
    assert seen == [(1, 0), (1, 10)]
    friend = stored(people)[2]
    assert (friend["count"], friend["bio"]) == (11, "newer")


def _first(self: Any) -> Any:
    return Person.query(Person.key == ndb.Key(Person, 1))


def test_a_put_of_ndbs_own_is_queued_like_one_of_bulkup(
    embedded: Server, people: datastore.Client, run: Run
) -> None:
    def handle(self: Any, person: Person) -> None:
        person.name = "own"
        assert person.put() == person.key
        friend = person.friend.get()
        friend.name = "friend"
        friend.put_async()  # nobody waits for it
        assert Invoice(total=3).put().id() > 0
        ndb.Key(Person, 4).delete()
        assert ndb.Key(Person, 4).get() is None
        assert stored(people)[1]["name"] == "p1"
        if self.fails:
            raise ValueError("never mind")

    made = updater(handle, get_query=_first, fails=True)
    assert run(embedded, made).counts.failed == 1
    assert {one["name"] for one in stored(people).values()} == {"p1", "p2", "p3", "p4"}
    assert stored(people, "Invoice") == {}
    made.fails = False
    report = run(embedded, made)
    assert (report.counts.written, report.counts.failed) == (1, 0)
    after = stored(people)
    assert {i: one["name"] for i, one in after.items()} == {1: "own", 2: "friend", 3: "p3"}
    assert {one["bio"] for one in after.values()} == {"undeclared"}
    assert [one["total"] for one in stored(people, "Invoice").values()] == [3]


def test_a_second_object_of_the_same_entity_may_be_put(
    embedded: Server, people: datastore.Client, run: Run
) -> None:
    def handle(self: Any, person: Person) -> None:
        again = person.key.get()
        again.count = 5
        again.put()

    def with_bulkup(self: Any, person: Person) -> None:
        again = person.key.get()
        again.count = 6
        self.put(again)

    for count, method in ((5, handle), (6, with_bulkup)):
        report = run(embedded, updater(method))
        assert (report.counts.written, report.counts.unwritten) == (4, 0)
        assert {one["count"] for one in stored(people).values()} == {count}
        assert {one["bio"] for one in stored(people).values()} == {"undeclared"}


def test_a_namespace_is_that_of_the_run(
    embedded: Server, people: datastore.Client, run: Run
) -> None:
    with ndb_on(embedded, namespace="tenant"):
        Person(id=1, name="of tenant", friend=ndb.Key("Person", 1)).put()

    def handle(self: Any, person: Person) -> None:
        assert ndb.Key(Person, 1).get() == person.friend.get() == person
        assert Person.query().count() == 1
        person.name += "!"
        self.put(person)
        Invoice(id=1, total=1).put()

    report = run(embedded, updater(handle), namespace="tenant")
    assert (report.counts.handled, report.counts.failed) == (1, 0)
    with ndb_on(embedded, namespace="tenant"):
        assert Person.get_by_id(1).name == "of tenant!"
        assert Invoice.get_by_id(1).total == 1
    assert stored(people)[1]["name"] == "p1"


def test_a_dry_run_writes_nothing_with_ndb_either(
    embedded: Server, people: datastore.Client, run: Run
) -> None:
    def handle(self: Any, person: Person) -> None:
        person.count = 1
        person.put()

    def in_transaction(self: Any, person: Person) -> None:
        ndb.transaction(person.put)

    report = run(embedded, updater(handle), dry_run=True)
    assert (report.counts.written, report.counts.failed) == (4, 0)
    report = run(embedded, updater(in_transaction), dry_run=True)
    assert "this is a dry run" in report.failures[0].error
    assert {one["count"] for one in stored(people).values()} == {0}


def test_a_transaction_of_ndbs_own_is_one_of_the_runs_target(
    embedded: Server, people: datastore.Client, run: Run
) -> None:
    def handle(self: Any, person: Person) -> None:
        def count() -> None:
            invoice = ndb.Key(Invoice, "all").get() or Invoice(id="all", total=0)
            invoice.total += 1
            invoice.put()

        ndb.transaction(count)

    assert run(embedded, updater(handle)).counts.failed == 0
    assert stored(people, "Invoice")["all"]["total"] == 4


def test_nothing_reaches_another_target(
    embedded: Server, people: datastore.Client, run: Run
) -> None:
    def other_project(self: Any, person: Person) -> None:
        ndb.Key("Person", 1, project="elsewhere").get()

    def other_client(self: Any, person: Person) -> None:
        with ndb.Client(project="elsewhere").context():
            pass

    for handle in (other_project, other_client):
        report = run(embedded, updater(handle, get_query=_first))
        assert report.counts.failed == 1
    with ndb_on(embedded, namespace="theirs"):  # a program's own context is left alone
        report = run(embedded, updater(lambda self, person: self.delete(person)))
        assert ndb.get_context().get_namespace() == "theirs"
    assert (report.counts.deleted, stored(people)) == (4, {})


def test_one_call_sees_nothing_that_another_has_cached(
    embedded: Server, people: datastore.Client, run: Run
) -> None:
    counts = []

    def handle(self: Any, person: Person) -> None:
        shared = ndb.Key(Person, 4).get()
        counts.append(shared.count)
        entity = people.get(people.key("Person", 4))
        entity["count"] += 1
        people.put(entity)

    made = updater(handle, get_query=lambda self: Person.query(Person.name < "p4"))
    assert run(embedded, made).counts.failed == 0
    assert counts == [0, 1, 2]


# --- queries ---


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        (lambda: Person.query(), [1, 2, 3, 4]),
        (lambda: Person.query(Person.name == "p1"), [1]),
        (lambda: Person.query(Person.name >= "p2", Person.name < "p4"), [2, 3]),
        (lambda: Person.query(Person.name.IN(["p1", "p3"])), [1, 3]),
        (lambda: Person.query(ndb.OR(Person.name == "p1", Person.friend == ndb.Key("Person", 1))),
         [1, 4]),
        (lambda: Person.query().order(-Person.name), [4, 3, 2, 1]),
        (lambda: Person.query(ancestor=ndb.Key("Person", 3)), [3]),
        (lambda: Person.gql("WHERE name = 'p2'"), [2]),
    ],
)  # fmt: skip
def test_queries_of_ndb_select_what_ndb_would(
    embedded: Server, people: datastore.Client, run: Run, query: Any, ids: list[int]
) -> None:
    handled = []
    report = run(
        embedded,
        updater(
            lambda self, person: handled.append(person.key.id()), get_query=lambda self: query()
        ),
        shards=1,
    )
    assert (handled, report.counts.failed) == (ids, 0)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        (lambda: Person.query().fetch, "get_query returned a method"),
        (lambda: Person.query(projection=["name"]), "a projection query returns parts"),
        (
            lambda: ndb.Query(kind="Person", keys_only=True),
            "a query of keys alone has no properties",
        ),
        (lambda: ndb.Query(kind="Person", limit=3), "has a limit, and a run handles all entities"),
        (lambda: Person.query(namespace="other"), "the query is for namespace 'other'"),
        (lambda: Person.gql("WHERE name = :1"), "which Datastore does not evaluate by itself"),
    ],
)
def test_queries_that_a_run_cannot_read_are_refused(
    embedded: Server, people: datastore.Client, run: Run, query: Any, sentence: str
) -> None:
    with pytest.raises(QueryError, match=sentence):
        run(embedded, updater(lambda self, person: None, get_query=lambda self: query()))


def test_a_class_below_a_polymodel_selects_its_own(embedded: Server, run: Run) -> None:
    with ndb_on(embedded):
        ndb.put_multi([Animal(id=1, name="a"), Cat(id=2, name="b", lives=9)])
    seen: list[type] = []

    @bulkup.updater(kind=Cat)
    def cats(one: Cat) -> Cat:
        seen.append(type(one))
        one.lives -= 1
        return one

    class All(Updater[Animal]):
        def handle_entity(self, one: Animal) -> None:
            seen.append(type(one))

    assert run(embedded, cats).counts.written == 1
    assert run(embedded, All).counts.handled == 2
    assert seen == [Cat, Animal, Cat]
    assert stored(embedded.client(), "Animal")[2]["lives"] == 8


# --- hooks ---


def test_every_method_of_an_updater_may_use_ndb(
    embedded: Server, people: datastore.Client, run: Run
) -> None:
    called = []

    class Uses(Updater[Person]):
        def check_before(self, client: Any) -> None:
            called.append(Person.query().count())

        def handle_entity(self, person: Person) -> None:
            self.put(person)

        def check_after(self, client: Any) -> None:
            called.append(ndb.Key(Person, 1).get().name)

        def finish(self, success: bool, report: Any) -> None:
            Invoice(id="done", total=1).put()

    assert run(embedded, Uses).exit_code == 0
    assert called == [4, "p1"]
    assert stored(people, "Invoice")["done"]["total"] == 1


def test_what_a_check_writes_with_ndb_is_refused(
    embedded: Server, people: datastore.Client, run: Run
) -> None:
    def writes(self: Any, client: Any) -> None:
        Invoice(total=1).put()

    with pytest.raises(bulkup.BulkupError, match="a check only reads"):
        run(embedded, updater(lambda self, person: None, check_before=writes))
    assert stored(people, "Invoice") == {}


TWO = """
import bulkup
from google.cloud import ndb

class Person(ndb.Model):
    name = ndb.StringProperty()

    def shown(self):
        return "{shown} " + self.name

@bulkup.updater(kind=Person)
def show(person: Person):
    person.name = person.shown() + ndb.Key(Person, 2).get().shown()
    return person
"""


def test_two_files_may_each_have_a_model_of_the_same_kind(
    embedded: Server, people: datastore.Client, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ndb itself knows only the one that was defined last."""
    updaters = []
    for shown in "F", "S":
        module = ModuleType(f"models_{shown}")
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(TWO.format(shown=shown), vars(module))
        updaters.append(module.show)
    last = ndb.Model._lookup_model("Person")
    for show in updaters:
        report = run(embedded, show)
        assert (report.counts.written, report.failures) == (4, ()), report
    assert stored(people)[1]["name"] == "S F p1F p2S F p2F p2"
    assert ndb.Model._lookup_model("Person") is last


FILE = """
    from google.cloud import ndb

    import bulkup


    class Person(ndb.Model):
        name = ndb.StringProperty()
        full_name = ndb.StringProperty()
        changed = ndb.DateTimeProperty(auto_now=True)


    @bulkup.updater(kind=Person)
    def full_name(person: Person, *, title: str = "Dr") -> Person:
        other = ndb.Key(Person, 1).get()
        person.full_name = f"{title} {person.name} {other.name}"
        return person
"""


def test_a_dry_run_a_plan_worker_processes_and_verify(
    embedded: Server, people: datastore.Client, tmp_path: Path
) -> None:
    shell = Shell(tmp_path, embedded)
    shell.write("up.py", FILE)
    assert "full_name" in shell.bulkup("run", "up.py", "--dry-run").out
    plan = shell.bulkup("plan", "up.py", "--full", "--json")
    (line,) = plan.of_type("plan")
    assert line["predicted"]["written"]["count"] == 4
    run = shell.bulkup("run", "up.py", "--processes=2", "--json")
    assert (run.code, run.summary["counts"]["written"]) == (0, 4), run
    assert stored(people)[2]["full_name"] == "Dr p2 p1"
    assert stored(people)[2]["bio"] == "undeclared"
    assert shell.bulkup("verify", "up.py").code == 0


def test_a_handler_is_tested_without_a_datastore() -> None:
    @bulkup.updater(kind=Person, is_done=lambda person: person.count > 0)
    def count(person: Person) -> Any:
        assert bulkup.key_of(person).id == 1
        person.count += 1
        return [person, Invoice(total=person.count), bulkup.delete(ndb.Key(Person, 7))]

    writes = handle_one(count, {"__key__": ["Person", 1], "name": "Ada", "bio": "b"})
    first, second = writes.puts
    assert (first["count"], first["bio"], first["changed"]) == (1, "b", NOW)
    assert (second.kind, second["total"]) == ("Invoice", 1)
    assert [key.id for key in writes.deletes] == [7]


WITHOUT = """
import sys
from importlib.abc import MetaPathFinder

class NotInstalled(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name in ("google.cloud.ndb", "pydantic"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NotInstalled())
from bulkup.cli import main
main(["run", "up.py", "--local", "x.db"])
"""


@pytest.mark.parametrize(
    ("line", "extra"),
    [
        ("from google.cloud import ndb", "ndb"),
        ("import google.cloud.ndb as ndb", "ndb"),
        ("import pydantic", "pydantic"),
    ],
)
def test_without_the_library_one_sentence_says_what_to_install(
    tmp_path: Path, line: str, extra: str
) -> None:
    (tmp_path / "up.py").write_text(line)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    (sentence, *_) = done.stderr.splitlines()
    assert "up.py cannot be loaded" in sentence
    assert sentence.endswith(f"pip install 'bulkup[{extra}]'")


def test_ndb_is_as_these_tests_expect() -> None:
    """The private interfaces of ndb that bulkup depends on."""
    for name in ("_entity_from_ds_entity", "_entity_to_ds_entity"):
        assert callable(getattr(ndb_model, name)), f"ndb has no {name} any more"

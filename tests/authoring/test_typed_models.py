"""Handlers that take a dataclass, an attrs class, a TypedDict or a pydantic model."""

from __future__ import annotations

import enum
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sized
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timezone
from decimal import Decimal
from functools import cached_property
from typing import Any, Generic, Literal, NewType, NotRequired, TypedDict, TypeVar

import attrs
import pydantic
import pytest
from google.cloud.datastore import Entity, Key
from google.cloud.datastore.helpers import GeoPoint

import bulkup
from bulkup import EntityKey, Unindexed, Updater
from bulkup.core.errors import UsageError
from bulkup.datastore.lazy_entity import LazyEntity
from bulkup.datastore.messages import EntityPb
from bulkup.datastore.pages import page_result
from bulkup.engine.call_setup import CallSetup
from bulkup.engine.handle import Handler
from bulkup.engine.handled import Handled, written
from bulkup.engine.scan import QueryPlan
from bulkup.testing import handle, offline_client, query
from tests.engine.test_puts import EntityResult

WHEN = datetime(2024, 1, 31, 12, tzinfo=timezone.utc)


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Address:
    city: str
    zip: int | None = None


@dataclass
class Person:
    name: str
    age: int = 0
    color: Color = Color.RED
    size: Literal["s", "m"] = "s"
    score: float = 0.0
    home: Address | None = None
    others: list[Address] = field(default_factory=list)
    tags: tuple[str, ...] = ()
    numbers: dict[str, int] = field(default_factory=dict)
    either: int | str | None = None
    anything: Any = None
    seen: datetime | None = None
    boss: Key | None = None
    place: GeoPoint | None = None


@attrs.define
class AttrsPerson:
    name: str
    age: int = 0
    home: Address | None = None


class PersonDict(TypedDict):
    name: str
    age: NotRequired[int]
    home: NotRequired[Address]


class HomeModel(pydantic.BaseModel):
    city: str
    zip: int | None = None


class PersonModel(pydantic.BaseModel):
    name: str
    age: int = 0
    home: HomeModel | None = None


@dataclass(frozen=True)
class Keyed:
    key: EntityKey
    name: str
    age: int = 0


class KeyedModel(pydantic.BaseModel):
    key: EntityKey
    name: str


def sub(**properties: Any) -> Entity:
    entity = Entity()
    entity.update(properties)
    return entity


def person(**properties: Any) -> Entity:
    entity = Entity(offline_client().key("Person", 1))
    entity.update(properties)
    return entity


def updater_of(function: Callable[..., Any], model: Any) -> Any:
    function.__annotations__ = {next(iter(function.__code__.co_varnames)): model}
    return bulkup.updater(kind="Person")(function)


def put(function: Callable[..., Any], model: Any, **properties: Any) -> Any:
    (entity,) = handle(updater_of(function, model), person(**properties)).puts
    return dict(entity)


def handled(updater: Any, pb: Any) -> Handled:
    """By the engine, as it is read from Datastore."""
    from bulkup.authoring.loader import describe, make

    result = EntityResult(version=7, cursor=b"c")
    result.entity.CopyFrom(pb)
    result = page_result(result)
    query = QueryPlan(None, "", False, False, frozenset())
    handler = Handler(CallSetup(make(describe(updater), {}), query))
    with handler.open():
        return handler.handle(result, result.entity.key, b"c")


def stored() -> Any:
    """With everything that no model names: other properties, flags, meanings, nanoseconds."""
    pb = EntityPb()
    pb.key.partition_id.project_id = "test"
    pb.key.path.add(kind="Person", id=1)
    properties = pb.properties
    properties["name"].string_value = "Ada"
    properties["name"].exclude_from_indexes = True
    properties["age"].integer_value = 36
    properties["age"].meaning = 99
    properties["bio"].string_value = "long"
    properties["bio"].exclude_from_indexes = True
    properties["seen"].timestamp_value.nanos = 123456789
    home = properties["home"].entity_value.properties
    home["city"].string_value = "London"
    home["street"].string_value = "12 St James's Square"
    home["street"].exclude_from_indexes = True
    for city, note in (("Paris", "a"), ("Turin", "b")):
        element = properties["others"].array_value.values.add()
        element.entity_value.properties["city"].string_value = city
        element.entity_value.properties["note"].string_value = note
    return pb


MODELS = [Person, AttrsPerson, PersonDict, PersonModel]


def attribute(model: Any, name: str) -> Any:
    return model[name] if isinstance(model, dict) else getattr(model, name)


def set_attribute(model: Any, name: str, value: Any) -> None:
    if isinstance(model, dict):
        model[name] = value
    else:
        setattr(model, name, value)


@pytest.mark.parametrize("model", MODELS)
def test_a_put_changes_what_the_handler_changed_and_not_a_byte_more(model: Any) -> None:
    def birthday(one: Any) -> Any:
        assert isinstance(one, dict if model is PersonDict else model)
        set_attribute(one, "age", attribute(one, "age") + 1)
        set_attribute(attribute(one, "home"), "city", "Marylebone")
        return one

    item = handled(updater_of(birthday, model), stored())
    expected = stored()
    expected.properties["age"].ClearField("meaning")
    expected.properties["age"].integer_value = 37
    home = expected.properties["home"].entity_value.properties
    home["city"].string_value = "Marylebone"
    assert item.failure is None
    (write,) = item.writes
    assert written(write) == expected


@pytest.mark.parametrize("model", MODELS)
def test_an_unchanged_put_costs_no_write(model: Any) -> None:
    item = handled(updater_of(lambda one: one, model), stored())
    assert (item.failure, item.writes, item.unchanged) == (None, (), 1)


@pytest.mark.parametrize("model", MODELS)
def test_a_change_that_is_not_put_is_seen(model: Any) -> None:
    def forgets(one: Any) -> None:
        set_attribute(one, "age", 5)

    item = handled(updater_of(forgets, model), stored())
    assert item.unwritten
    assert not handled(updater_of(lambda one: None, model), stored()).unwritten


def test_a_change_after_the_put_is_seen() -> None:
    class Late(Updater[Person]):
        kind = "Person"

        def handle_entity(self, person: Person) -> None:
            person.age += 1
            self.put(person)
            person.age += 1

    item = handled(Late, stored())
    assert (item.unwritten, len(item.writes)) == (True, 1)


def test_values_of_every_type_come_and_go() -> None:
    boss = offline_client().key("Person", 2)
    given = {
        "name": "Ada", "age": 3, "color": "blue", "size": "m", "score": 2, "home": sub(city="A"),
        "others": [sub(city="B", zip=1)], "tags": ["x"], "numbers": sub(n=1), "either": "e",
        "anything": sub(deep=[1, "a"]), "seen": WHEN, "boss": boss, "place": GeoPoint(1, 2),
    }  # fmt: skip
    got: list[Person] = []

    def change(one: Person) -> Person:
        got.append(replace(one))
        one.color, one.tags, one.numbers["m"] = Color.RED, ("x", "y"), 2
        one.others.append(Address("C"))
        return one

    after = put(change, Person, **given)
    assert got[0].color is Color.BLUE
    assert got[0].tags == ("x",)
    assert (got[0].seen, got[0].boss, got[0].place) == (WHEN, boss, GeoPoint(1, 2))
    changed = {
        "color": "red", "tags": ["x", "y"], "numbers": sub(n=1, m=2),
        "others": [sub(city="B", zip=1), sub(city="C", zip=None)],
    }  # fmt: skip
    assert after == {**given, **changed}
    assert type(after["score"]) is int  # 2 is a float to a type checker, and stays what it is


def test_a_default_is_not_written_for_a_property_that_is_not_there() -> None:
    def rename(one: Person) -> Person:
        one.name = "Grace"
        return one

    assert put(rename, Person, name="Ada") == {"name": "Grace"}


def test_elements_keep_what_their_type_does_not_name_wherever_they_go() -> None:
    def elements(*names: str) -> list[Entity]:
        return [sub(city=name, note=name.lower()) for name in names]

    def reorder(one: Person) -> Person:
        a, _, c = one.others
        c.city = "C2"
        one.others = [c, Address("new"), a]
        return one

    def replace_one(one: Person) -> Person:
        one.others = [one.others[0], replace(one.others[1], city="B2"), one.others[2]]
        return one

    def replace_and_drop(one: Person) -> Person:
        one.others = [replace(one.others[2], city="C2")]
        return one

    before = elements("A", "B", "C")
    assert put(reorder, Person, name="x", others=before)["others"] == [
        sub(city="C2", note="c"), sub(city="new", zip=None), sub(city="A", note="a"),
    ]  # fmt: skip
    assert put(replace_one, Person, name="x", others=elements("A", "B", "C"))["others"][1] == sub(
        city="B2", note="b"
    )
    # Nothing says which of the three it was, so it gets no note of another.
    assert put(replace_and_drop, Person, name="x", others=elements("A", "B", "C"))["others"] == [
        sub(city="C2", zip=None)
    ]


def test_a_key_removed_from_a_typeddict_is_removed_from_the_entity() -> None:
    def forget(one: dict[str, Any]) -> Any:
        del one["age"]
        return one

    assert put(forget, PersonDict, name="Ada", age=3, bio="b") == {"name": "Ada", "bio": "b"}


@pytest.mark.parametrize(
    ("properties", "sentence"),
    [
        ({"name": 3}, "property 'name' is an int, but Person wants str"),
        ({"name": "x", "age": True}, "property 'age' is a bool, but Person wants int"),
        ({}, "property 'name' is missing, and Person has no default for it"),
        ({"name": None, "age": "x"}, "property 'name' is None, but Person wants str (and another"),
        ({"name": "x", "color": "re\nd"}, "property 'color' is 're\\nd', but Person wants Color"),
        ({"name": "x", "size": "l"}, "property 'size' is l, but Person wants Literal['s', 'm']"),
        ({"name": "x", "home": 1}, "property 'home' is an int, but Person wants Address | None"),
        ({"name": "x", "home": sub(zip=1)}, "property 'home.city' is missing, and Person has no"),
        (
            {"name": "x", "others": [sub(city="a"), sub(city=1)]},
            "property 'others[1].city' is an int, but Person wants str",
        ),
        ({"name": "x", "tags": "abc"}, "property 'tags' is a str, but Person wants tuple[str, "),
        ({"name": "x", "either": 1.5}, "property 'either' is a float, but Person wants int | str"),
    ],
)
def test_a_property_of_another_type_is_named(properties: Any, sentence: str) -> None:
    with pytest.raises(ValueError) as raised:
        put(lambda one: one, Person, **properties)
    assert str(raised.value).startswith(sentence), raised.value


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda one: setattr(one, "nmae", "x"), "the attribute 'nmae' was set, but Person has no"),
        (lambda one: setattr(one.home, "ctiy", "x"), "the attribute 'ctiy' was set, but Address "),
        (lambda one: setattr(one, "name", 3), "property 'name' is an int, but Person wants str"),
        (lambda one: setattr(one, "home", 3), "property 'home' is an int, but Person wants Addr"),
        (lambda one: setattr(one.home, "city", 3), "property 'home.city' is an int, but Person"),
        (lambda one: one.others.append(Address(2)), "property 'others[0].city' is an int, but P"),  # type: ignore[arg-type]
    ],
)
def test_a_change_that_does_not_match_the_type_fails_when_it_is_put(
    change: Any, sentence: str
) -> None:
    def fix(one: Person) -> Person:
        change(one)
        return one

    with pytest.raises((TypeError, ValueError)) as raised:
        put(fix, Person, name="Ada", home=sub(city="London"))
    assert str(raised.value).startswith(sentence), raised.value


@pytest.mark.parametrize("model", [AttrsPerson, PersonDict, PersonModel])
def test_every_kind_of_type_checks_what_is_put(model: Any) -> None:
    def fix(one: Any) -> Any:
        set_attribute(one, "name", 3)
        return one

    with pytest.raises(ValueError, match=f"^property 'name' is .*{model.__name__} wants"):
        put(fix, model, name="Ada")


def test_an_object_that_a_handler_makes_is_checked() -> None:
    def fix(one: Keyed) -> Any:
        return Keyed(offline_client().key("Person", 2), 3)  # type: ignore[arg-type]

    with pytest.raises(ValueError, match=r"^property 'name' is an int, but Keyed wants str$"):
        put(fix, Keyed, name="Ada")


def test_a_class_may_have_attributes_of_its_own() -> None:
    @dataclass
    class Own:
        name: str

        def __post_init__(self) -> None:
            self.upper = self.name.upper()

        @cached_property
        def lower(self) -> str:
            return self.name.lower()

    def fix(one: Own) -> Own:
        one.name = one.upper + one.lower
        one._mine = 1  # type: ignore[attr-defined]
        return one

    assert put(fix, Own, name="Ada") == {"name": "ADAada"}


def test_a_pydantic_error_names_the_property() -> None:
    with pytest.raises(ValueError, match=r"^property 'home\.zip' is not what PersonModel wants: "):
        put(lambda one: one, PersonModel, name="x", home=sub(city="a", zip="b"))
    with pytest.raises(ValueError, match=r"^property 'name' is missing, and PersonModel has no"):
        put(lambda one: one, PersonModel)


def test_a_class_that_refuses_its_values_fails_the_entity() -> None:
    @dataclass
    class Picky:
        age: int

        def __post_init__(self) -> None:
            raise ValueError("too young")

    with pytest.raises(ValueError, match="no Picky can be made of it: ValueError: too young"):
        put(lambda one: one, Picky, age=1)


def test_a_patch_may_hold_objects() -> None:
    def patch(one: Person) -> Any:
        return {"home": Address("A"), "color": Color.BLUE, "bio": bulkup.REMOVE, "age": 3}

    after = {"name": "x", "home": sub(city="A", zip=None), "color": "blue", "age": 3}
    assert put(patch, Person, name="x", bio="b") == after
    model = {"name": "x", "home": sub(city="A", zip=None), "bio": "b"}
    assert put(lambda one: {"home": HomeModel(city="A")}, PersonModel, name="x", bio="b") == model
    assert put(lambda one: {"age": 3}, PersonDict, name="x", bio="b") == {
        "name": "x", "bio": "b", "age": 3,
    }  # fmt: skip


@dataclass
class House:
    street: str
    history: Unindexed[str] = ""


@dataclass
class Owner:
    name: str
    bio: Unindexed[str] = ""
    cv: Unindexed[str | None] = None
    house: House | None = None


class OwnerModel(pydantic.BaseModel):
    name: str
    bio: Unindexed[str] = ""
    cv: Unindexed[str] = pydantic.Field("", alias="the-cv")


class OwnerDict(TypedDict):
    name: str
    bio: NotRequired[Unindexed[str]]
    cv: NotRequired[Unindexed[str]]


@pytest.mark.parametrize("model", [Owner, OwnerModel, OwnerDict])
def test_a_new_property_may_be_unindexed_and_one_that_is_there_keeps_its_flag(model: Any) -> None:
    long = "x" * 2000

    def fill(one: Any) -> Any:
        set_attribute(one, "bio", "new")
        set_attribute(one, "cv", long)
        if model is Owner:
            one.house = House("s", long)
        return one

    pb = stored()
    for name in ("home", "others", "seen"):
        del pb.properties[name]
    item = handled(updater_of(fill, model), pb)
    assert item.failure is None, item.failure
    (write,) = item.writes
    after = LazyEntity(written(write))
    cv = "the-cv" if model is OwnerModel else "cv"
    assert (after["bio"], after[cv], after["age"]) == ("new", long, 36)
    assert after.exclude_from_indexes == {"name", "bio", cv}
    if model is Owner:
        assert after["house"].exclude_from_indexes == {"history"}
    indexed = stored()
    indexed.properties["bio"].exclude_from_indexes = False
    for name in ("home", "others", "seen"):
        del indexed.properties[name]
    (write,) = handled(updater_of(fill, model), indexed).writes
    assert LazyEntity(written(write)).exclude_from_indexes == {"name", cv}


def test_what_datastore_does_not_have_is_written_as_in_pydantics_json() -> None:
    class Account(pydantic.BaseModel):
        id: uuid.UUID
        balance: Decimal
        opened: date
        tags: set[str] = set()
        secret: pydantic.SecretStr = pydantic.SecretStr("")

    before = {
        "id": str(uuid.UUID(int=7)), "balance": "1.50", "opened": "2024-01-31", "secret": "old",
        "more": 1,
    }  # fmt: skip

    def change(one: Account) -> Account:
        assert (one.id, one.balance) == (uuid.UUID(int=7), Decimal("1.50"))
        one.balance += 1
        one.opened = date(2024, 2, 1)
        one.tags = {"new"}
        one.secret = pydantic.SecretStr("new")
        return one

    changed = {"balance": "2.50", "opened": "2024-02-01", "tags": ["new"], "secret": "new"}
    assert put(change, Account, **before) == {**before, **changed}
    assert put(lambda one: one, Account, **before) == before


# --- keys ---


def test_a_frozen_object_is_put_as_a_copy_with_its_key_and_may_be_new() -> None:
    def copies(one: Keyed) -> Iterator[Any]:
        yield replace(one, age=one.age + 1)
        yield Keyed(offline_client().key("Person", 2), "new")

    before = person(name="Ada", age=1, bio="b")
    first, second = handle(updater_of(copies, Keyed), before).puts
    assert (first.key, dict(first)) == (before.key, {"name": "Ada", "age": 2, "bio": "b"})
    assert (second.key.id, dict(second)) == (2, {"name": "new", "age": 0})


def test_a_new_object_learns_its_id() -> None:
    class Split(Updater[Keyed]):
        kind = "Person"

        def handle_entity(self, person: Keyed) -> None:
            new = Keyed(self.client.key("Person"), "new")
            self.put(new)
            self.log(f"{new.key.id > 0} {bulkup.key_of(new).id == new.key.id}")
            self.delete(person)

    writes = handle(Split, person(name="Ada"))
    assert writes.logs == ("True True",)
    assert [key.id for key in writes.deletes] == [1]


@pytest.mark.parametrize("model", MODELS)
def test_the_key_of_what_a_handler_was_given_is_known(model: Any) -> None:
    def remove(one: Any) -> Any:
        assert bulkup.key_of(one).id == 1
        return bulkup.delete(one)

    assert [key.id for key in handle(updater_of(remove, model), person(name="x")).deletes] == [1]


def test_a_function_that_returns_one_new_object_returns_what_the_entity_becomes() -> None:
    @dataclass(frozen=True)
    class Frozen:
        name: str

    def rename(one: Frozen) -> Frozen:
        return replace(one, name="Grace")

    assert put(rename, Frozen, name="Ada", bio="b") == {"name": "Grace", "bio": "b"}


def test_an_object_whose_key_was_changed_is_put_under_that_key() -> None:
    @dataclass
    class Mutable:
        key: EntityKey
        name: str

    class Copies(Updater[Mutable]):
        kind = "Person"

        def handle_entity(self, person: Mutable) -> None:
            person.key = self.client.key("Person")
            self.put(person)
            self.log(person.key.id > 1)

    writes = handle(Copies, person(name="Ada", bio="b"))
    (put_,) = writes.puts
    assert (put_.key.is_partial, dict(put_)) == (True, {"name": "Ada", "bio": "b"})
    assert writes.logs == ("True",)


def test_an_object_of_unknown_key_is_not_put() -> None:
    with pytest.raises(TypeError, match=r"the key of this Person is not known: .*EntityKey"):
        put(lambda one: [one, Person("new")], Person, name="Ada")
    with pytest.raises(TypeError, match=r"bulkup\.testing\.handle"):
        bulkup.key_of(Person("new"))


def test_a_pydantic_model_may_have_its_key_as_a_field() -> None:
    def copies(one: KeyedModel) -> list[KeyedModel]:
        other = one.model_copy(update={"key": offline_client().key("Person", 7)})
        return [one.model_copy(update={"name": "Grace"}), other]

    first, second = handle(updater_of(copies, KeyedModel), person(name="Ada", bio="b")).puts
    assert (first.key.id, dict(first)) == (1, {"name": "Grace", "bio": "b"})
    assert (second.key.id, dict(second)) == (7, {"name": "Ada"})


def test_an_aliased_pydantic_field_is_the_property_of_that_name() -> None:
    class Aliased(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="allow")
        first: str = pydantic.Field(alias="first-name")

    def rename(one: Aliased) -> Aliased:
        assert one.model_extra == {"age": 3}
        one.first = "Grace"
        return one

    assert put(rename, Aliased, **{"first-name": "Ada", "age": 3}) == {
        "first-name": "Grace", "age": 3,
    }  # fmt: skip


# --- batches ---


@bulkup.updater(kind="Person", batch=True)
def older(people: list[Keyed]) -> list[Any]:
    assert [one.age for one in people] == [1, 2]
    return [replace(people[0], age=2), ValueError("not this one")]


@bulkup.updater(kind="Person", batch=True)
def patches(people: list[Person]) -> list[Any]:
    return [{"age": one.age + 1} for one in people]


class Batches(Updater[Person]):
    kind = "Person"

    def handle_batch(self, people: list[Person]) -> None:
        for one in people:
            one.age += 1
            self.put(one)
            self.put(Keyed(Key("Log", one.age, project="test"), one.name), owner=one)
            self.log(one.name, owner=one)
        self.fail(people[1], "never")


@pytest.mark.parametrize("updater", [older, patches, Batches])
def test_a_batch_is_of_models_and_one_that_cannot_be_made_fails_alone(updater: Any) -> None:
    client = offline_client()
    batch = []
    for number, properties in enumerate([{"age": 1}, {"name": 3}, {"age": 2}], 1):
        entity = Entity(client.key("Person", number))
        entity.update({"name": "x", "bio": "b", **properties})
        batch.append(entity)
    writes = handle(updater, batch)
    put_first = next(entity for entity in writes.puts if entity.key.id == 1)
    assert dict(put_first) == {"name": "x", "bio": "b", "age": 2}
    failed = {key.id: str(error) for key, error in writes.failures.items()}
    assert "property 'name' is an int" in failed.pop(2)
    assert failed == {older: {3: "not this one"}, patches: {}, Batches: {3: "never"}}[updater]
    if updater is Batches:
        assert sorted(e.key.id for e in writes.puts if e.key.kind == "Log") == [2, 3]
        assert writes.logs == ("x", "x")


# --- which type ---


T = TypeVar("T")


class Base(Updater[T], Generic[T]):
    kind = "Person"

    def handle_entity(self, entity: T) -> None:
        assert isinstance(entity, (Person, PersonModel))
        entity.name += "!"
        self.put(entity)

    def is_done(self, entity: T) -> bool:
        return isinstance(entity, (Person, PersonModel)) and entity.name.endswith("!")


class OfPerson(Base[Person]):
    pass


class OfModel(Base["PersonModel"]):
    pass


class ByAnnotation(Updater):
    kind = "Person"

    def handle_entity(self, entity: Person) -> None:  # type: ignore[override]
        entity.name += "!"
        self.put(entity)


@pytest.mark.parametrize("updater", [OfPerson, OfModel, ByAnnotation, OfPerson()])
def test_a_class_says_its_type(updater: Any) -> None:
    assert dict(handle(updater, person(name="Ada")).puts[0]) == {"name": "Ada!"}
    assert query(updater).kind == "Person"


def test_a_handler_without_a_type_gets_the_entity_itself() -> None:
    entity = person(name="Ada")

    @bulkup.updater(kind="Person")
    def same(one: Any) -> None:
        assert one is entity

    @bulkup.updater(kind="Person")
    def annotated(one: Entity) -> None:
        assert one is entity

    for updater in (same, annotated):
        assert handle(updater, entity).puts == ()


def test_a_type_that_cannot_be_made_of_an_entity_is_refused() -> None:
    class Strange(Updater[int]):
        kind = "Person"

        def handle_entity(self, entity: int) -> None: ...

    @dataclass
    class Complex:
        number: complex

    with pytest.raises(UsageError, match="Strange is for int, and an entity is not one; name a"):
        handle(Strange, person())
    with pytest.raises(UsageError, match="Complex has a field of the type complex, which no prop"):
        put(lambda one: one, Complex)
    with pytest.raises(UsageError, match=r"Sets has a field of the type set\[int\], which no prop"):
        put(lambda one: one, dataclass(type("Sets", (), {"__annotations__": {"s": set[int]}})))


class Plain:
    name: str


@dataclass
class Box(Generic[T]):
    content: T


@pytest.mark.parametrize("annotation", [Plain, str, Person | None, list[Person], Box[int]])
def test_an_annotation_that_an_entity_is_not_is_refused(annotation: Any) -> None:
    with pytest.raises(
        UsageError, match=r"^one in rename is annotated as .*(Plain|str|Person|Box)"
    ):
        handle(updater_of(rename, annotation), person())
    with pytest.raises(UsageError, match=r"; write one: Entity, or name a dataclass, an attrs cl"):
        handle(updater_of(rename, annotation), person())


def test_an_annotation_that_an_entity_is_not_is_refused_in_a_class_and_a_batch() -> None:
    class Fix(Updater):
        kind = "Person"

        def handle_entity(self, who: Plain) -> None: ...

    @bulkup.updater(kind="Person", batch=True)
    def batch(people: list[Plain]) -> None: ...

    with pytest.raises(UsageError, match=r"who in Fix is annotated as Plain, .* write who: Enti"):
        handle(Fix, person())
    with pytest.raises(
        UsageError, match=r"people in batch .* Plain, .* people: list\[Entity\], or"
    ):
        handle(batch, [person()])


def test_an_annotation_that_is_not_known_is_refused() -> None:
    says = "the type {} is not known when the updater runs; import it at the top of the file, outs"
    with pytest.raises(UsageError, match=says.format("Nope of one in rename")):
        handle(updater_of(rename, "Nope"), person())

    class Fix(Updater["Nope"]):  # type: ignore[name-defined]
        kind = "Person"

        def handle_entity(self, one: Any) -> None: ...

    with pytest.raises(UsageError, match=says.format(r"Nope of Updater\[...\] of Fix")):
        handle(Fix, person())


@pytest.mark.parametrize(
    "annotation",
    [
        Any, object, dict, Entity, Entity | None, Mapping, Mapping[str, Any], MutableMapping,
        dict[str, Any], TypeVar("E"), NewType("Loan", Entity), type("Sub", (Entity,), {}), Sized,
        "NotThere.Entity", "Entity | Nope",
    ],
)  # fmt: skip
def test_an_annotation_that_an_entity_is_gets_one(annotation: Any) -> None:
    (entity,) = handle(updater_of(rename, annotation), person(name="Ada")).puts
    assert entity["name"] == "Bo"


def rename(one: Any) -> Any:
    one["name"] = "Bo"
    return one


def test_without_cattrs_one_sentence_says_what_to_install(tmp_path: Any) -> None:
    (tmp_path / "up.py").write_text(
        "import bulkup, dataclasses\n"
        "@dataclasses.dataclass\nclass Person:\n    name: str\n"
        "@bulkup.updater(kind='Person')\ndef fix(person: Person): return person\n"
    )
    program = (
        "import sys; sys.modules['cattrs'] = None\n"
        "from bulkup.cli import main; main(['run', 'up.py', '--local', 'x.db'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "bulkup needs cattrs to make a Person of an entity: pip install 'bulkup[typed]'" in (
        done.stderr
    )
    assert "Traceback" not in done.stderr


def test_copies_of_entities_are_not_models() -> None:
    assert isinstance(handled(updater_of(lambda one: one, Person), stored()), Handled)
    assert isinstance(LazyEntity(stored()), dict)

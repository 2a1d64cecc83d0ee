"""Changes of properties: what they do to an entity, whether it is a run's or a plain one."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from google.cloud.datastore import Entity, Key
from hypothesis import assume, given

import bulkup
from bulkup.core.errors import UsageError
from bulkup.datastore.entity_patch import encode_put
from bulkup.datastore.lazy_entity import LazyEntity
from bulkup.datastore.messages import EntityPb
from bulkup.testing import handle
from bulkup.transforms import compose, drop, embed, index, rename, set_default, unindex
from tests.datastore.test_lazy_entity import entity_pbs

KEY = Key("Person", 1, project="p")


def plain(excluded: tuple[str, ...] = (), **properties: Any) -> Entity:
    made = Entity(KEY, exclude_from_indexes=excluded)
    made.update(properties)
    return made


def lazy(excluded: tuple[str, ...] = (), **properties: Any) -> Entity:
    """The same, as a run reads it."""
    return LazyEntity(encode_put(plain(excluded, **properties)))


def stored(entity: Entity) -> Any:
    """What putting it stores."""
    return encode_put(entity, rewrite=True)


either = pytest.mark.parametrize("entity", [plain, lazy])
Make = Callable[..., Entity]


@either
def test_rename_keeps_value_and_index_flag(entity: Make) -> None:
    renamed = rename("a", "b")(entity(("a",), a=1, c=2))
    assert (dict(renamed), set(renamed.exclude_from_indexes)) == ({"b": 1, "c": 2}, {"b"})


@either
def test_rename_refuses_to_overwrite_unless_it_is_allowed(entity: Make) -> None:
    both = entity(("a",), a=1, b=2)
    with pytest.raises(ValueError, match="'b' exists already, so 'a' was not renamed"):
        rename("a", "b")(both)
    assert both == entity(("a",), a=1, b=2)
    renamed = rename("a", "b", overwrite=True)(both)
    assert (dict(renamed), set(renamed.exclude_from_indexes)) == ({"b": 1}, {"b"})


@given(entity_pbs())
def test_a_renamed_property_is_stored_as_it_was(pb: Any) -> None:
    assume("new name" not in pb.properties)
    expected = EntityPb()
    expected.CopyFrom(pb)
    entity = LazyEntity(pb)
    for name in list(pb.properties)[:1]:
        try:
            rename(name, "new name")(entity)
        except ValueError:
            return  # a value of a type from the future, which can be written back only in place
        expected.properties["new name"].CopyFrom(expected.properties[name])
        del expected.properties[name]
    assert stored(entity) == expected
    assert stored(copy.deepcopy(entity)) == expected


@given(entity_pbs())
def test_an_embedded_property_is_stored_as_it_was(pb: Any) -> None:
    assume("home" not in pb.properties)
    expected = EntityPb()
    expected.CopyFrom(pb)
    entity = LazyEntity(pb)
    for name in list(pb.properties)[:2]:
        try:
            embed(name, into="home")(entity)
        except ValueError:
            return
        home = expected.properties["home"].entity_value
        home.properties[name].CopyFrom(expected.properties[name])
        del expected.properties[name]
    assert stored(entity) == expected


def test_a_property_may_be_renamed_twice_and_changed_between() -> None:
    entity = lazy(("a",), a=["x", "y"])
    rename("b", "c")(rename("a", "b")(entity))
    entity["c"].append("z")
    assert stored(entity) == stored(plain(("c",), c=["x", "y", "z"]))
    entity["c"] = 5
    assert stored(entity) == stored(plain(("c",), c=5))


def test_a_new_value_under_the_new_name_is_written() -> None:
    entity = rename("a", "b")(lazy(a=1))
    entity["b"] = 2
    entity["a"] = 3
    assert stored(entity) == stored(plain(a=3, b=2))


@either
def test_drop_removes_what_is_there(entity: Make) -> None:
    assert dict(drop("a", "z")(entity(a=1, b=2))) == {"b": 2}


@either
@pytest.mark.parametrize(
    ("when", "absent", "null"), [("absent", 5, None), ("null", None, 5), ("both", 5, 5)]
)
def test_a_default_is_set_where_it_was_asked_for(
    entity: Make, when: Any, absent: Any, null: Any
) -> None:
    default = set_default("a", 5, when=when)
    assert default(entity()).get("a") == absent
    assert default(entity(a=None))["a"] == null
    assert default(entity(a=0))["a"] == 0


@either
def test_a_default_need_not_be_indexed(entity: Make) -> None:
    changed = set_default("a", "x", indexed=False)(entity())
    assert stored(changed) == stored(plain(("a",), a="x"))
    there = set_default("a", "x", when="null", indexed=False)(entity(a=None))
    assert stored(there) == stored(plain(a="x"))  # it keeps its flag


def test_entities_do_not_share_a_default_list() -> None:
    default = set_default("tags", ["a"])
    one, two = default(plain()), default(plain())
    one["tags"].append("b")
    assert two["tags"] == ["a"]


@either
def test_embed_makes_or_extends_an_embedded_entity(entity: Make) -> None:
    made = embed("street", "city", into="home")(entity(("city",), street="s", city="c", n=1))
    assert (dict(made), made["home"].exclude_from_indexes) == (
        {"home": {"street": "s", "city": "c"}, "n": 1}, {"city"},
    )  # fmt: skip
    home = Entity()
    home["zip"] = 5
    assert dict(embed("city", into="home")(entity(home=home, city="c"))) == {
        "home": {"zip": 5, "city": "c"}
    }
    assert dict(embed("city", into="home")(entity(home=None, city="c"))) == {"home": {"city": "c"}}
    assert dict(embed("city", into="home")(entity(n=1))) == {"n": 1}


@either
def test_embed_refuses_what_it_would_lose(entity: Make) -> None:
    with pytest.raises(ValueError, match="'home' is 'x' and not an embedded entity"):
        embed("city", into="home")(entity(home="x", city="c"))
    home = Entity()
    home["city"] = "b"
    with pytest.raises(ValueError, match="'home' has 'city' already"):
        embed("city", into="home")(entity(home=home, city="c"))
    assert embed("city", into="home", overwrite=True)(entity(home=home, city="c"))["home"] == {
        "city": "c"
    }


@either
def test_index_flags_are_changed(entity: Make) -> None:
    made = entity(("b", "tags"), a=1, b=2, tags=["x"], none=[])
    changed = compose(unindex("a", "none", "missing"), index("b", "tags"))(made)
    assert stored(changed) == stored(plain(("a",), a=1, b=2, tags=["x"], none=[]))


CHANGES = [
    rename("a", "b"), drop("a"), set_default("a", 1, when="both"), embed("a", into="e"),
    unindex("a"), index("a"), compose(rename("a", "b"), drop("b")),
]  # fmt: skip


@either
@pytest.mark.parametrize("change", CHANGES, ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("excluded", [(), ("a",)])
def test_what_was_changed_is_done_and_not_changed_again(
    entity: Make, change: Any, excluded: tuple[str, ...]
) -> None:
    for made in (entity(excluded, a="x", c=1), entity(c=1), entity(a=[]), entity(a=None)):
        was_done, before = change.is_done(made), stored(copy.deepcopy(made))
        once = stored(change(made))
        assert was_done == (once == before)
        assert change.is_done(made)
        assert stored(change(made)) == once


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: rename("a", "a"), "from and to are both a"),
        (lambda: rename("", "a"), "from='' cannot be a property"),
        (lambda: rename("a", "__key__"), "to=__key__ cannot be a property.*reserved"),
        (lambda: rename("a", 5), "to is the name of a property, not a int"),  # type: ignore[arg-type]
        (lambda: drop(), "properties is empty"),
        (lambda: drop("a", "b", "a"), "properties has a twice"),
        (lambda: embed("a", into="a"), "a cannot move into itself"),
        (lambda: set_default("a", None, when="null"), "so is what it would replace"),
        (lambda: set_default("a", 1, when="often"), "when='often' is not one of"),  # type: ignore[arg-type]
        (lambda: compose(len), "compose takes changes"),  # type: ignore[arg-type]
    ],
)
def test_what_makes_no_sense_is_refused_before_any_entity(make: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        make()


def test_changes_are_used_in_a_handler_of_ones_own() -> None:
    tidy = compose(rename("fullname", "full_name"), drop("tmp"))

    @bulkup.updater(kind="Person", is_done=tidy.is_done)
    def clean(person: Any) -> Any:
        return tidy(person)

    (put,) = handle(clean, plain(fullname="Ada", tmp=1)).puts
    assert dict(put) == {"full_name": "Ada"}

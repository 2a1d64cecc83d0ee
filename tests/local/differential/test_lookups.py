"""Found and missing entities, and what an entity looks like when it is read back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.local.differential.answers import say_entity, say_key
from tests.local.differential.budget import examples
from tests.local.differential.build import Place, Time, Unindexed, value
from tests.local.differential.compare import Judge
from tests.local.differential.strategies import KEY_PATHS, relocate, worlds
from tests.local.differential.wire import REQUESTS, Entity


def _say(response: Any) -> tuple[str, ...]:
    return (
        *sorted(f"found {say_entity(r.entity)}" for r in response.found),
        *sorted(f"missing {say_entity(r.entity)}" for r in response.missing),
        *sorted(f"deferred {say_key(key)}" for key in response.deferred),
    )


def _same(judge: Judge, place: Place, keys: list[Any], mask: list[str] | None = None) -> bool:
    request = REQUESTS["Lookup"](project_id=place.project, keys=keys)
    if mask is not None:
        request.property_mask.paths.extend(mask)
        request.property_mask.SetInParent()
    return judge.same(place, "Lookup", request, _say)


MASKS = st.one_of(
    st.none(),
    st.lists(
        st.sampled_from(("p", "q", "n", "n.x", "n.n", "n.n.x", "nothing", "__key__")), max_size=3
    ),
)


@given(st.data())
@examples(35)
def test_a_stored_entity_comes_back(
    beside_fs: Judge, fresh: Callable[[], Place], data: st.DataObject
) -> None:
    place = fresh()
    world = data.draw(worlds())
    beside_fs.store(place, [relocate(place, entity) for entity in world])
    keys = [place.key(*path) for path in KEY_PATHS]
    for _ in range(3):
        wanted = data.draw(st.lists(st.sampled_from(keys), max_size=6, unique_by=say_key))
        _same(beside_fs, place, wanted, data.draw(MASKS))


def test_any_value_that_protobuf_can_carry_comes_back(
    beside_fs: Judge, fresh: Callable[[], Place]
) -> None:
    place = fresh()
    meant = value(1)
    meant.meaning = 14
    text = value("long")
    text.meaning = 15
    text.exclude_from_indexes = True
    mixed = value([1, Unindexed(2), Unindexed("x"), None])
    outer = value([1, 2])
    outer.exclude_from_indexes = True
    empty = value(Unindexed([]))
    keyed = value({"x": 1})
    keyed.entity_value.key.CopyFrom(place.key("Z", "z"))
    half = value({"x": 1})
    half.entity_value.key.CopyFrom(place.key("Z", None))
    for odd in (
        meant, text, mixed, outer, empty, keyed, half, value(Time(0, 999)), value(Time(1, 1999)),
        value(Unindexed({"x": 1})), value({"x": Unindexed("y" * 3000)}),
        value(Unindexed("x" * 3000)),
        value({"": 1}), value({"a.b": 1}), value({"x": [{"y": 1}, {"y": 2}]}),
        value([{"x": [1]}]), value(float("nan")), value(-0.0), value("\0"), value(b"\0"),
    ):  # fmt: skip
        entity = Entity(key=place.key("K", 1))
        entity.properties["p"].CopyFrom(odd)
        request = REQUESTS["Commit"](project_id=place.project, mode=2)
        request.mutations.add().upsert.CopyFrom(entity)
        beside_fs.same(place, "Commit", request, lambda _: ("written",))
        _same(beside_fs, place, [place.key("K", 1)])


def test_unusual_lookups(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    place = fresh()
    elsewhere = Place("another-project", place.namespace)
    other = Place(place.project, "other")
    beside_fs.store(place, [place.entity(("K", i), {"p": i}) for i in range(1, 4)])
    beside_fs.store(other, [other.entity(("K", 1), {"p": "other"})])
    for keys in (
        [],
        [place.key("K", 1), place.key("K", 1)],
        [place.key("K", 9), place.key("K", 9)],
        [place.key("K", None)],
        [place.key("K", 0)],
        [place.key("K", "")],
        [place.key("K", None, "L", 1)],
        [place.key("", 1)],
        [place.key()],
        [elsewhere.key("K", 1)],
        [place.key("K", 1), other.key("K", 1)],
        [place.key("__K__", 1)],
        [place.key("K", "__n__")],
        [place.key("K", "x" * 1500)],
        [place.key("K", "x" * 1501)],
        [place.key("x" * 1500, 1)],
        [place.key("x" * 1501, 1)],
        [place.key("K", -1)],
        [place.key(*("K", 1) * 100)],
        [place.key(*("K", 1) * 101)],
        [place.key("K", i) for i in range(1, 1001)],
    ):
        _same(beside_fs, place, keys)
    for mask in ([], [""], ["p"], ["p", "p"], ["p.x"], ["__key__"], ["__x__"], ["p."], ["`p`"]):
        _same(beside_fs, place, [place.key("K", 1)], mask)

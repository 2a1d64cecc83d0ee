"""Whatever is stored and whatever the query: the same entities in the same order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.local.differential.budget import examples
from tests.local.differential.build import OPERATORS, Place, all_of, any_of, query, where
from tests.local.differential.compare import Judge
from tests.local.differential.strategies import (
    KEY_PATHS,
    SCALARS,
    plain_queries,
    queries,
    relocate,
    worlds,
)

QUERIES_A_WORLD = 8
"""A world costs a commit on each server; several questions share it."""


@given(st.data())
@examples(60)
def test_a_generated_query_is_answered_as_by_the_firestore_emulator(
    beside_fs: Judge, fresh: Callable[[], Place], data: st.DataObject
) -> None:
    _ask(beside_fs, fresh(), data, arrays=False)


@given(st.data())
@examples(40)
def test_a_generated_query_over_arrays_is_answered_as_by_the_firestore_emulator(
    beside_fs: Judge, fresh: Callable[[], Place], data: st.DataObject
) -> None:
    _ask(beside_fs, fresh(), data, arrays=True)


@given(st.data())
@examples(25)
def test_a_generated_query_is_answered_as_by_the_datastore_emulator(
    beside_lf: Judge, fresh: Callable[[], Place], data: st.DataObject
) -> None:
    _ask(beside_lf, fresh(), data, arrays=True, plain=True)


def _ask(
    judge: Judge, place: Place, data: st.DataObject, *, arrays: bool, plain: bool = False
) -> None:
    world = data.draw(worlds(arrays=arrays))
    judge.store(place, [relocate(place, entity) for entity in world])
    one = plain_queries(world) if plain else queries(world)
    for asked in data.draw(st.lists(one, min_size=QUERIES_A_WORLD, max_size=QUERIES_A_WORLD)):
        judge.same_scan(place, relocate(place, asked))


def _everything(place: Place) -> list[Any]:
    """One entity for each unusual value, of one kind."""
    plain = [*SCALARS, *(place.key(*path) for path in KEY_PATHS)]
    return [place.entity(("K", i + 1), {"p": v, "n": {"x": v}}) for i, v in enumerate(plain)]


def test_values_of_all_types_have_one_order(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    place = fresh()
    beside_fs.store(place, _everything(place))
    for order in ("p", "-p", "n.x", "-n.x"):
        beside_fs.same_scan(place, query("K", order=(order,)))
        beside_fs.same_scan(place, query("K", order=(order, "-__key__")))
    for projection in ("p", "n.x"):
        beside_fs.same_scan(place, query("K", projection=(projection,)))
        beside_fs.same_scan(place, query("K", projection=(projection,), distinct=(projection,)))


@pytest.mark.chaos
def test_each_operator_with_each_value(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    place = fresh()
    beside_fs.store(place, _everything(place))
    plain = [*SCALARS, *(place.key(*path) for path in KEY_PATHS)]
    for number, value in enumerate(plain):
        # The other operators follow from these, so some of the values are enough for them.
        for operator in ("<", ">=", "=", "!=", *(("<=", ">", "in", "not in") * (number % 3 == 0))):
            meant = [value, 1] if operator in ("in", "not in") else value
            beside_fs.same_scan(place, query("K", filter=where("p", operator, meant)))


@pytest.mark.chaos
def test_each_operator_with_each_key(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    place = fresh()
    keys = [place.key(*path) for path in KEY_PATHS]
    beside_fs.store(place, [place.entity(path, {"p": 1}) for path in KEY_PATHS])
    for kind in ("A", None):
        for key in keys:
            for operator in OPERATORS:
                meant = [key, keys[0]] if operator in ("in", "not in") else key
                beside_fs.same_scan(place, query(kind, filter=where("__key__", operator, meant)))
            beside_fs.same_scan(
                place, query(kind, filter=where("__key__", "<", key), order=("-__key__",))
            )


def test_an_or_of_many_filters(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    place = fresh()
    beside_fs.store(
        place, [place.entity(("K", i), {"p": i, "q": i % 3, "r": -i}) for i in range(1, 40)]
    )
    for size in (1, 2, 10, 29, 30, 31, 40):
        either = any_of(*(where("p", "=", i) for i in range(size)))
        beside_fs.same_scan(place, query("K", filter=either))
        beside_fs.same_scan(place, query("K", filter=either, order=("-r",), limit=7))
        beside_fs.same_scan(place, query("K", filter=where("p", "in", list(range(size)))))
        beside_fs.same_scan(place, query("K", filter=where("p", "not in", list(range(size)))))


def test_a_projection_under_a_condition_on_keys(
    beside_fs: Judge, fresh: Callable[[], Place]
) -> None:
    """Compared properties come first in the order, and so does the key; projected ones follow."""
    place = fresh()
    beside_fs.store(
        place,
        [
            place.entity(("K", i), {"p": p, "q": q, "r": i % 2})
            for i, p, q in ((1, 3, 9), (2, 2, 5), (3, 1, 9), (4, 0, 7), (5, -1, 5))
        ],
    )
    key = place.key("K", 2)
    for filtered in (
        where("__key__", "!=", key),
        where("__key__", ">", key),
        where("__key__", "in", [place.key("K", 5), key, place.key("K", 1)]),
        any_of(where("__key__", "<", key), where("__key__", ">", key)),
        any_of(where("q", "=", 9), where("__key__", "=", key)),
        any_of(where("q", "=", 9), all_of(where("r", ">=", 0), where("__key__", ">", key))),
        all_of(where("r", ">=", 0), where("__key__", ">", place.key("K", 1))),
    ):
        for order in ((), ("r",), ("-r",), ("p",), ("-q",)):
            for projection, distinct in (
                (("p",), ()), (("p", "r"), ()), (("q", "p"), ()), (("p",), ("p",)),
                (("q", "r"), ("r",)), ((), ()),
            ):  # fmt: skip
                beside_fs.same_scan(
                    place,
                    query(
                        "K", filter=filtered, order=order, projection=projection, distinct=distinct
                    ),
                )

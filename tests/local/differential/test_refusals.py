"""Invalid requests: every server refuses them with the same status."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.local.differential.build import (
    Geo,
    Place,
    Time,
    Unindexed,
    all_of,
    any_of,
    delete,
    insert,
    query,
    update,
    upsert,
    value,
    where,
)
from tests.local.differential.compare import Judge
from tests.local.differential.wire import METHODS, REQUESTS, Entity, Filter, Mutation, Query


def _nothing(_: Any) -> tuple[str, ...]:
    return ()


def _meant(plain: Any, meaning: int) -> Any:
    one = value(plain)
    one.meaning = meaning
    return one


def test_invalid_queries(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    place = fresh()
    beside_fs.store(place, [place.entity(("K", i), {"p": i, "q": [i, i]}) for i in range(1, 4)])
    elsewhere = Place("another-project", place.namespace)
    two_kinds = query("K")
    two_kinds.kind.add(name="L")
    unspecified = query("K", filter=where("p", "=", 1))
    unspecified.filter.property_filter.op = 0
    no_value = query("K")
    no_value.filter.property_filter.property.name = "p"
    no_value.filter.property_filter.op = 5
    unsorted = query("K", order=("p",))
    unsorted.order[0].direction = 0
    empty_filter = query("K")
    empty_filter.filter.SetInParent()
    no_operator = query("K")
    no_operator.filter.composite_filter.filters.add().CopyFrom(where("p", "=", 1))
    for asked in (
        two_kinds, unspecified, no_value, unsorted, empty_filter, no_operator,
        query(""), query("__K__"), query("x" * 1501), query("K", limit=-1), query("K", offset=-1),
        query("K", order=("",)), query("K", order=("__x__",)), query("K", order=("p", "-p")),
        query("K", filter=where("", "=", 1)), query("K", filter=where("__x__", "=", 1)),
        query("K", filter=where("p", "=", [1])), query("K", filter=where("p", ">", [1])),
        query("K", filter=where("p", "=", {"x": 1})), query("K", filter=where("p", "<", {"x": 1})),
        query("K", filter=where("p", "in", 1)), query("K", filter=where("p", "in", [])),
        query("K", filter=where("p", "not in", 1)), query("K", filter=where("p", "not in", [])),
        query("K", filter=where("p", "in", [[1]])), query("K", filter=where("p", "in", [1] * 30)),
        query("K", filter=where("p", "in", list(range(31)))),
        query("K", filter=where("p", "not in", list(range(10)))),
        query("K", filter=where("p", "not in", list(range(11)))),
        query("K", filter=where("p", "=", "x" * 1500)),
        query("K", filter=where("p", "=", "x" * 1501)),
        query("K", filter=where("p", "=", Unindexed(1))),
        query("K", filter=where("p", "in", [1, Unindexed(2)])),
        query("K", filter=where("p", "in", Unindexed([1]))),
        query("K", filter=where("p", "=", b"x" * 1501)),
        query("K", filter=where("p", ">", "é" * 751)),
        query("K", filter=where("p", "in", ["x" * 1501])),
        *(query("K", filter=where("p", "=", odd)) for odd in (
            place.key("K", None), place.key(), place.key("K", 0), elsewhere.key("K", 1),
            Geo(91.0, 0.0), Time(-62135596801), Time(0, 10**9),
        )),
        *(query("K", filter=where("p", "=", _meant(1, meaning))) for meaning in (7, 15, 18, 99)),
        query("K", filter=where("x" * 1501, "=", 1)), query("K", order=("x" * 1501,)),
        query("K", projection=("x" * 1501,)), query("K", distinct=("x" * 1501,)),
        query("K", distinct=("__x__",)), query("K", distinct=("",)),
        query("K", order=("__key__", "p")), query("K", order=("__key__", "-missing")),
        query(order=("__key__", "p")),
        query("K", filter=any_of(where("p", ">", 0), where("missing", ">", 0)), order=("__key__",)),
        query("K", filter=any_of(
            where("__key__", "under", place.key("K", 1)), where("p", "=", 2),
        )),
        query("K", filter=all_of(
            where("__key__", "under", place.key("K", 1)),
            any_of(where("p", "=", 1), where("p", "=", 2)),
        )),
        query("K", filter=any_of(
            all_of(where("__key__", "under", place.key("K", 1)), where("p", "=", 1)),
            all_of(where("__key__", "under", place.key("K", 1)), where("p", ">", 2)),
        )),
        query("K", filter=where("p", "under", place.key("K", 1))),
        query("K", filter=where("p", "under", 1)),
        query("K", filter=where("__key__", "under", 1)),
        query("K", filter=where("__key__", "under", place.key("K", None))),
        query("K", filter=where("__key__", "=", 1)),
        query("K", filter=where("__key__", "=", place.key("K", None))),
        query("K", filter=where("__key__", ">", place.key("K", None))),
        query("K", filter=where("__key__", "=", place.key())),
        query("K", filter=where("__key__", "=", elsewhere.key("K", 1))),
        query("K", filter=where("__key__", ">", Place(place.project, "x").key("K", 1))),
        query("K", filter=where("__key__", "under", Place(place.project, "x").key("K", 1))),
        query("K", filter=all_of(
            where("__key__", "under", place.key("K", 1)),
            where("__key__", "under", place.key("K", 2)),
        )),
        query("K", filter=any_of(
            where("__key__", "under", place.key("K", 1)),
            where("__key__", "under", place.key("K", 2)),
        )),
        query("K", filter=any_of(
            where("__key__", "under", place.key("K", 1)),
            where("__key__", "under", place.key("K", 1)),
        )),
        query("K", filter=all_of(where("p", "<", 1), where("p", ">", 2))),
        query(filter=all_of(where("p", "<", 1), where("p", ">", 2))),
        query("K", filter=any_of(
            all_of(where("missing", "<", 1), where("missing", ">", 2)), where("p", ">", 1),
        )),
        query("K", filter=all_of()), query("K", filter=any_of()),
        query("K", filter=all_of(where("p", "!=", 1), where("p", "!=", 2))),
        query("K", filter=all_of(where("p", "not in", [1]), where("q", "not in", [2]))),
        query("K", filter=all_of(where("p", "not in", [1]), where("p", "!=", 2))),
        query("K", filter=all_of(where("p", "not in", [1]), where("p", "in", [2]))),
        query("K", filter=any_of(where("p", "not in", [1]), where("q", "=", 2))),
        query("K", filter=all_of(where("p", "in", [1, 2]), where("q", "in", [1, 2]))),
        query("K", filter=where("p", ">", 1), order=("q",)),
        query("K", filter=where("p", ">", 1), order=("q", "p")),
        query("K", filter=where("p", "=", 1), order=("p", "q")),
        query("K", filter=all_of(where("p", ">", 1), where("q", "<", 9)), order=("q", "p")),
        query("K", projection=("",)), query("K", projection=("p", "p")),
        query("K", projection=("__key__", "p")), query("K", projection=("__x__",)),
        query("K", projection=("p",), distinct=("q",)), query("K", distinct=("p",)),
        query("K", distinct=("__key__",)), query("K", projection=("p",), distinct=("__key__",)),
        query("K", projection=("p",), distinct=("p", "p")),
        query("K", projection=("p", "q"), distinct=("p",), order=("q",)),
        query("K", projection=("p", "q"), distinct=("p",), order=("p", "q")),
        query("K", projection=("p", "q"), distinct=("p", "q"), order=("q", "p")),
        query("K", projection=("p",), filter=where("p", "=", 1)),
        query("K", projection=("p",), filter=where("p", "in", [1, 2])),
        query("K", projection=("p",), filter=where("p", ">", 1)),
        query("K", projection=("p",), filter=where("p", "!=", 1)),
        query(projection=("p",)), query(projection=("__key__",)), query(order=("p",)),
        query(order=("-__key__",)), query(order=("__key__",)), query(filter=where("p", "=", 1)),
        query(filter=where("__key__", "!=", place.key("K", 1))),
        query(filter=where("__key__", "in", [place.key("K", 1), place.key("L", 1)])),
        Query(), Query(filter=Filter()),
    ):  # fmt: skip
        beside_fs.same_scan(place, asked)


def test_invalid_writes(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    place = fresh()
    elsewhere = Place("another-project", place.namespace)
    nameless = Entity()
    nameless.properties["p"].integer_value = 1
    typeless = Entity(key=place.key("K", 1))
    typeless.properties["p"].SetInParent()
    meaningful = Entity(key=place.key("K", 1))
    meaningful.properties["p"].integer_value = 1
    meaningful.properties["p"].meaning = 15
    nested: Any = 1
    for _ in range(20):
        nested = {"x": nested}
    incomplete = place.entity(("K", None), {})
    without_ids = (insert(incomplete), upsert(incomplete))
    for mutation in (
        Mutation(), upsert(nameless), upsert(typeless), upsert(meaningful), upsert(Entity()),
        upsert(elsewhere.entity(("K", 1), {})), delete(elsewhere.key("K", 1)),
        update(place.entity(("K", None), {})), delete(place.key("K", None)), delete(place.key()),
        upsert(place.entity(("K", 0), {})), upsert(place.entity(("K", ""), {})),
        upsert(place.entity(("", 1), {})), upsert(place.entity(("__K__", 1), {})),
        upsert(place.entity(("K", "__n__"), {})), upsert(place.entity(("K", None, "L", 1), {})),
        upsert(place.entity(("K", -5), {})), upsert(place.entity(("K", "x" * 1501), {})),
        upsert(place.entity(("x" * 1501, 1), {})), upsert(place.entity(("K", 1) * 100, {})),
        upsert(place.entity(("K", 1) * 101, {})),
        *(upsert(place.entity(("K", 1), {name: 1})) for name in (
            "", ".", "a.b", "a.", "__p__", "__key__", "_", "__", "___", "x" * 1500,
            "x" * 1501, "é", "a b", "`", "\0",
        )),
        *(upsert(place.entity(("K", 1), {"p": bad})) for bad in (
            "x" * 1500, "x" * 1501, "é" * 751, b"x" * 1500, b"x" * 1501, ["x" * 1501],
            {"x": "x" * 1501}, Unindexed("x" * 1501), Unindexed(["x" * 1501]),
            Unindexed({"x": "x" * 1501}), [[1]], [Unindexed([1])], {"x": [[1]]}, [{"x": [1]}],
            Geo(90.0, 180.0), Geo(90.1, 0.0), Geo(0.0, 180.1), Geo(float("nan"), 0.0),
            Time(-62135596801), Time(253402300800), Time(0, -1), Time(0, 10**9),
            place.key("K", None), place.key(), elsewhere.key("K", 1), place.key("K", 0),
            Place(place.project, "other").key("K", 1), place.key("__K__", 1),
            {"": 1}, {"__x__": 1}, nested, {"x": nested}, list(range(1000)),
        )),
        *without_ids,
    ):  # fmt: skip
        for mode in (0, 1, 2):
            request = REQUESTS["Commit"](project_id=place.project, mode=mode, mutations=[mutation])
            if mode == 1:
                request.single_use_transaction.read_write.SetInParent()
            beside_fs.same(place, "Commit", request, _nothing)
            mutated = mutation.WhichOneof("operation")
            # The last ones get ids, which differ between servers.
            given = mutation not in without_ids
            if mutated in ("insert", "upsert") and mode == 2 and given:
                beside_fs.same_scan(place, query())


MEANINGS = (*range(1, 25), 29, 30, 31, 99)
MEANT: tuple[Any, ...] = (
    None, True, 5, 2**60, 1.5, "s", b"b", Time(1), Geo(1.0, 1.0), {"x": 1}, [1], [1.0, 2.0], [],
    {"email": Unindexed("a@b"), "auth_domain": Unindexed("b")},
)  # fmt: skip


@pytest.mark.chaos
def test_meanings_of_values(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    place = fresh()
    for plain in MEANT:
        for meaning in MEANINGS:
            for excluded in (False, True):
                one = _meant(plain, meaning)
                one.exclude_from_indexes = excluded
                if isinstance(plain, list) and meaning != 31 and excluded:
                    continue
                entity = Entity(key=place.key("K", 1))
                entity.properties["p"].CopyFrom(one)
                request = REQUESTS["Commit"](
                    project_id=place.project, mode=2, mutations=[upsert(entity)]
                )
                beside_fs.same(place, "Commit", request, _nothing)


def test_nested_values(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    """Excluded values are checked like indexed ones, except for their length."""
    place = fresh()
    odd_key = value({"x": 1})
    odd_key.entity_value.key.CopyFrom(place.key("Z", 0))
    no_key = value({"x": 1})
    no_key.entity_value.key.SetInParent()
    half_key = value({"x": 1})
    half_key.entity_value.key.CopyFrom(place.key("Z", None, "Y", 1))
    bad_place = value(place.key("K", 1))
    bad_place.key_value.partition_id.namespace_id = "a b"
    text, packed = _meant("s", 15), _meant(b"z", 22)
    for inner in (
        "x" * 1501, b"x" * 1501, ["x" * 1501], Unindexed("x" * 1501), [Unindexed("x" * 1501)],
        place.key("K", None), [place.key("K", None)], place.key("x" * 1501, 1),
        place.key(*("K", 1) * 101), place.key("K", "__x__"), odd_key, no_key, half_key, bad_place,
        text, packed, [text], [packed], Geo(91.0, 0.0), [Time(0, 10**9)], _meant([1.0], 31),
        Unindexed(text), Unindexed(packed), Unindexed(_meant([1.0], 31)),
    ):  # fmt: skip
        for whole in ({"p": {"x": inner}}, {"p": Unindexed({"x": inner})}):
            request = REQUESTS["Commit"](
                project_id=place.project, mode=2, mutations=[upsert(place.entity(("K", 1), whole))]
            )
            beside_fs.same(place, "Commit", request, _nothing)


def test_mutations_that_exclude_each_other(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    place = fresh()
    entity = place.entity(("K", 1), {"p": 1})
    other = place.entity(("K", 1), {"p": 2})
    writes: tuple[Callable[[Any], Any], ...] = (insert, update, upsert, lambda e: delete(e.key))
    for exists in (True, False):
        for first in writes:
            for second in writes:
                for mode in (1, 2):
                    request = REQUESTS["Commit"](
                        project_id=place.project,
                        mode=mode,
                        mutations=[first(entity), second(other)],
                    )
                    if mode == 1:
                        request.single_use_transaction.read_write.SetInParent()
                    if exists:
                        beside_fs.store(place, [place.entity(("K", 1), {"p": 0})])
                    else:
                        for wire in beside_fs.both():
                            wire.call("Commit", REQUESTS["Commit"](
                                project_id=place.project, mode=2, mutations=[delete(entity.key)]
                            ))  # fmt: skip
                    beside_fs.same(place, "Commit", request, _nothing)
                    beside_fs.same_scan(place, query())


def test_invalid_requests(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    place = fresh()
    for method in METHODS:
        beside_fs.same(place, method, REQUESTS[method](), _nothing)
        beside_fs.same(place, method, REQUESTS[method](project_id=place.project), _nothing)
        beside_fs.same(place, method, REQUESTS[method](project_id="No such name!"), _nothing)


def test_commits_without_a_mode(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    place = fresh()
    write = upsert(place.entity(("K", 1), {"p": 1}))
    for mode in (0, 1, 2):
        for transaction in (b"", b"no transaction", b"\0" * 40):
            for single in (False, True):
                request = REQUESTS["Commit"](project_id=place.project, mode=mode, mutations=[write])
                if transaction:
                    request.transaction = transaction
                if single:
                    request.single_use_transaction.read_write.SetInParent()
                beside_fs.same(place, "Commit", request, _nothing)
    read_only = REQUESTS["Commit"](project_id=place.project, mode=1, mutations=[write])
    read_only.single_use_transaction.read_only.SetInParent()
    beside_fs.same(place, "Commit", read_only, _nothing)


def test_bytes_that_are_not_a_message(beside_fs: Judge) -> None:
    for method in METHODS:
        codes = [
            wire.send(method, b"\xff\xff\xff\xff not protobuf").code for wire in beside_fs.both()
        ]
        assert "OK" not in codes


def test_sizes(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    place = fresh()
    for properties in (
        {"p": Unindexed("x" * 1_048_487)},
        {"p": Unindexed("x" * 1_048_488)},
        {"p": Unindexed("x" * 600_000), "q": Unindexed(b"y" * 600_000)},
        {f"p{i}": Unindexed("x" * 300_000) for i in range(4)},
        {"p": list(range(19_990))},
        {"p": list(range(20_001))},
        {f"p{i}": i for i in range(5_000)},
    ):
        request = REQUESTS["Commit"](
            project_id=place.project, mode=2, mutations=[upsert(place.entity(("K", 1), properties))]
        )
        beside_fs.same(place, "Commit", request, _nothing)
    many = REQUESTS["Commit"](project_id=place.project, mode=2)
    many.mutations.extend(upsert(place.entity(("K", i + 1), {})) for i in range(600))
    beside_fs.same(place, "Commit", many, _nothing)

"""COUNT, SUM and AVG over whatever a query finds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.local.differential.answers import say_aggregation
from tests.local.differential.budget import examples
from tests.local.differential.build import Place, query, where
from tests.local.differential.compare import Judge
from tests.local.differential.strategies import queries, relocate, worlds
from tests.local.differential.wire import REQUESTS, AggregationQuery

NUMBERS: tuple[Any, ...] = (
    0, 1, -1, 2**62, 2**63 - 1, -(2**63), 2**53 + 1, 0.0, -0.0, 1.5, -1.5, 1e308, 5e-324,
    float("inf"), float("-inf"), float("nan"), None, True, "1", [1, 2], [], {"x": 1},
)  # fmt: skip


def _count(alias: str = "", up_to: int | None = None) -> Any:
    message = AggregationQuery.Aggregation(alias=alias)
    message.count.SetInParent()
    if up_to is not None:
        message.count.up_to.value = up_to
    return message


def _sum(name: str, alias: str = "") -> Any:
    message = AggregationQuery.Aggregation(alias=alias)
    message.sum.property.name = name
    return message


def _avg(name: str, alias: str = "") -> Any:
    message = AggregationQuery.Aggregation(alias=alias)
    message.avg.property.name = name
    return message


AGGREGATIONS = st.lists(
    st.one_of(
        st.builds(_count, up_to=st.sampled_from((None, None, 1, 3, 1000))),
        st.builds(_sum, st.sampled_from(("p", "q", "n.x", "__key__"))),
        st.builds(_avg, st.sampled_from(("p", "q", "n.x"))),
    ),
    min_size=1,
    max_size=5,
)


def _same(judge: Judge, place: Place, asked: Any, aggregations: list[Any]) -> bool:
    request = REQUESTS["RunAggregationQuery"](
        project_id=place.project, partition_id=place.partition()
    )
    request.aggregation_query.nested_query.CopyFrom(asked)
    request.aggregation_query.aggregations.extend(aggregations)
    return judge.same(place, "RunAggregationQuery", request, say_aggregation)


@given(st.data())
@examples(30)
def test_a_generated_aggregation(
    beside_fs: Judge, fresh: Callable[[], Place], data: st.DataObject
) -> None:
    place = fresh()
    world = data.draw(worlds(arrays=False))
    beside_fs.store(place, [relocate(place, entity) for entity in world])
    for asked in data.draw(st.lists(queries(world), min_size=4, max_size=4)):
        _same(beside_fs, place, relocate(place, asked), data.draw(AGGREGATIONS))


@given(st.lists(st.sampled_from(NUMBERS), max_size=6))
@examples(40)
def test_sums_and_averages_of_odd_numbers(
    beside_fs: Judge, fresh: Callable[[], Place], numbers: list[Any]
) -> None:
    place = fresh()
    beside_fs.store(place, [place.entity(("K", i + 1), {"p": n}) for i, n in enumerate(numbers)])
    _same(beside_fs, place, query("K"), [_count("n"), _sum("p", "s"), _avg("p", "a")])


def test_aliases(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    place = fresh()
    beside_fs.store(place, [place.entity(("K", i), {"p": i}) for i in range(1, 6)])
    for asked in (
        [_count(), _count(), _sum("p")],
        [_count("a"), _count("a")],
        [_count("property_1"), _count()],
        [_count(), _count("property_1")],
        [_count("é")],
        [_count("__x__")],
        [_count("a b")],
        [_count("x" * 1501)],
        [],
        [_count()] * 6,
        [AggregationQuery.Aggregation(alias="nothing")],
        [_sum("")],
        [_count(up_to=0)],
        [_count(up_to=-1)],
    ):
        _same(beside_fs, place, query("K"), asked)


def test_a_count_of_a_limited_query(beside_fs: Judge, fresh: Callable[[], Place]) -> None:
    place = fresh()
    beside_fs.store(place, [place.entity(("K", i), {"p": i % 4, "q": i}) for i in range(1, 20)])
    all_three = [_count("n"), _sum("q", "s"), _avg("q", "a")]
    for asked in (
        query("K", limit=7),
        query("K", limit=0),
        query("K", offset=3),
        query("K", offset=3, limit=4),
        query("K", offset=100),
        query("K", order=("-q",), limit=5),
        query("K", filter=where("p", "in", [1, 2])),
        query("K", filter=where("q", ">", 10), order=("q",)),
        query("K", filter=where("q", "!=", 10)),
        query("K", projection=("__key__",)),
        query("K", projection=("p",)),
        query("K", projection=("p",), distinct=("p",)),
        query("K", filter=where("__key__", ">", place.key("K", 5))),
        query(),
        query("Nothing"),
    ):
        for one in (*([a] for a in all_three), all_three):
            _same(beside_fs, place, asked, one)


def test_offset_and_limit_count_only_entities_with_every_aggregated_property(
    beside_fs: Judge, fresh: Callable[[], Place]
) -> None:
    place = fresh()
    beside_fs.store(
        place,
        [
            place.entity(
                ("K", i),
                {"p": i, "r": -i, **({"q": i} if i % 2 else {}), **({"s": -i} if i % 3 else {})},
            )
            for i in range(1, 13)
        ],
    )
    for asked in (
        query("K", offset=3),
        query("K", limit=3),
        query("K", limit=3, offset=2),
        query("K", order=("r",), limit=3, offset=2),
        query("K", order=("-__key__",), limit=2),
        query("K", filter=where("p", ">", 3), order=("-p",), limit=2, offset=1),
        query("K", filter=where("q", "=", 5), limit=2),
        query("K", filter=where("q", "in", [3, 4, 5, 7]), limit=2, offset=1),
        query("K", filter=where("q", ">", 3), limit=2, offset=1),
        query("K", projection=("q", "s"), limit=2, offset=1),
        query("K", distinct=("q",), limit=2, offset=1),
    ):
        for counted in (_count("n"), _count("n", 2)):
            _same(beside_fs, place, asked, [counted, _sum("q", "s")])
            _same(beside_fs, place, asked, [counted, _avg("q", "a"), _sum("s", "s")])

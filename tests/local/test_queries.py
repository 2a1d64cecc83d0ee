"""Queries of the embedded Datastore, compared with a model and one by one."""

from __future__ import annotations

import itertools
import uuid
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulkup.local import messages as m
from bulkup.local.encoding import encode_value
from tests.local.differential.budget import examples
from tests.local.rpc import (
    NOT_FINISHED,
    Rpc,
    both,
    either,
    idents,
    query,
    refused,
    to_value,
    unindexed,
    where,
)

# -- the model ---------------------------------------------------------------------------------

Leaf = tuple[str, str, Any]
"""(property, operator, value or values)"""


def encoded(one: Any) -> bytes:
    found = encode_value(to_value(one))
    assert found is not None
    return found


def values_of(entity: dict[str, Any], name: str) -> set[bytes]:
    if name not in entity:
        return set()
    one = entity[name]
    return {encoded(each) for each in (one if isinstance(one, list) else [one])}


def holds(value: bytes, op: str, operand: Any) -> bool:
    if op == "in":
        return value in {encoded(each) for each in operand}
    if op == "not in":
        return value not in {encoded(each) for each in operand}
    other = encoded(operand)
    return {
        "=": value == other,
        "!=": value != other,
        "<": value < other,
        "<=": value <= other,
        ">": value > other,
        ">=": value >= other,
    }[op]


class Model:
    """Alternatives (an OR of ANDs of leaves) and orders, evaluated entity by entity."""

    def __init__(self, alternatives: list[list[Leaf]], order: list[str]) -> None:
        self.alternatives = [
            list(choice)
            for one in alternatives
            for choice in itertools.product(
                *(
                    [(name, "=", each) for each in operand] if op == "in" else [(name, op, operand)]
                    for name, op, operand in one
                )
            )
        ]
        sorts: dict[str, bool] = {}
        descending = False
        for name in order:
            descending = name.startswith("-")
            sorts.setdefault(name.lstrip("-"), descending)
        fixed = set.intersection(
            *(
                {(name, encoded(operand)) for name, op, operand in one if op == "="}
                for one in self.alternatives
            )
        )
        ranged = {name for one in self.alternatives for name, op, _ in one if op != "="}
        for name, _ in fixed:
            if name not in ranged:
                sorts.pop(name, None)
        for name in sorted(ranged):
            sorts.setdefault(name, descending)
        self.sorts = list(sorts.items())
        # A property with the same value in every result sorts nothing.
        self.key_descending = self.sorts[-1][1] if self.sorts else False

    def place(self, entity: dict[str, Any], leaves: list[Leaf]) -> tuple[bytes, ...] | None:
        """The sort position of an entity in one alternative; None when it does not match."""
        for name, op, operand in leaves:
            if op == "=" and encoded(operand) not in values_of(entity, name):
                return None
        allowed: dict[str, list[bytes]] = {}
        for name in {name for name, op, _ in leaves if op != "="}:
            conditions = [(op, operand) for n, op, operand in leaves if n == name and op != "="]
            allowed[name] = [
                value
                for value in values_of(entity, name)
                if all(holds(value, op, operand) for op, operand in conditions)
            ]
            if not allowed[name]:
                return None
        out = []
        for name, descending in self.sorts:
            constants = [encoded(x) for n, op, x in leaves if n == name and op == "="]
            if constants and name not in allowed:
                out.append(min(constants))
                continue
            candidates = allowed.get(name, list(values_of(entity, name)))
            if not candidates:
                return None
            out.append(max(candidates) if descending else min(candidates))
        return tuple(out)

    def run(self, entities: dict[int, dict[str, Any]]) -> list[int]:
        directions = [*(descending for _, descending in self.sorts), self.key_descending]

        def rank(place: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(
                _Reversed(one) if descending else one
                for one, descending in zip(place, directions, strict=True)
            )

        found = []
        for ident, entity in entities.items():
            places = [self.place(entity, leaves) for leaves in self.alternatives]
            ranks = [rank((*place, ident)) for place in places if place is not None]
            if ranks:
                found.append((min(ranks), ident))
        return [ident for _, ident in sorted(found)]


class _Reversed:
    def __init__(self, one: Any) -> None:
        self.one = one

    def __lt__(self, other: _Reversed) -> bool:
        return bool(other.one < self.one)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Reversed) and bool(self.one == other.one)

    __hash__ = None  # type: ignore[assignment]


scalars = st.sampled_from([0, 1, 2, 3, 2.5, "a", "b", None, True, b"a"])
properties = st.sampled_from("abc")
stored = st.dictionaries(
    properties, st.one_of(scalars, st.lists(scalars, min_size=1, max_size=3)), max_size=3
)
leaves = st.one_of(
    st.tuples(properties, st.sampled_from(["=", "<", "<=", ">", ">="]), scalars),
    st.tuples(properties, st.just("in"), st.lists(scalars, min_size=1, max_size=3)),
)


@st.composite
def questions(draw: st.DrawFn) -> tuple[list[list[Leaf]], list[str]]:
    alternatives = draw(st.lists(st.lists(leaves, max_size=3), min_size=1, max_size=3))
    if len(alternatives) == 1:
        extra = draw(
            st.one_of(
                st.none(),
                st.tuples(properties, st.just("!="), scalars),
                st.tuples(properties, st.just("not in"), st.lists(scalars, min_size=1, max_size=3)),
            )
        )
        if extra is not None:
            alternatives = [[leaf for leaf in alternatives[0] if leaf[1] != "in"] + [extra]]
    order = draw(
        st.lists(
            st.sampled_from(["a", "-a", "b", "-b", "c", "-c"]),
            max_size=2,
            unique_by=lambda name: name[-1],
        )
    )
    return alternatives, order


def filter_of(alternatives: list[list[Leaf]]) -> Any:
    ands = [both(*(where(*leaf) for leaf in one)) for one in alternatives if one]
    if not ands or len(ands) < len(alternatives):
        return None
    return ands[0] if len(ands) == 1 else either(*ands)


@given(st.lists(stored, min_size=1, max_size=12), questions(), st.integers(1, 4))
@examples(120)
def test_a_query_finds_what_the_model_finds(
    host: str, population: list[dict[str, Any]], question: Any, step: int
) -> None:
    alternatives, order = question
    filter_ = filter_of(alternatives)
    model = Model(alternatives if filter_ is not None else [[]], order)
    if len(model.alternatives) > 30:
        return
    entities = dict(enumerate(population, 1))
    rpc = Rpc(host, project=f"t-{uuid.uuid4().hex[:12]}")
    try:
        rpc.put(*(rpc.entity("K", ident, **entity) for ident, entity in entities.items()))
        expected = model.run(entities)
        results = rpc.all(query("K", filter_, order))
        assert idents(results) == expected
        # A few at a time, each query resumed after the last result of the one before.
        found: list[int] = []
        cursor = b""
        while True:
            batch = rpc.run(query("K", filter_, order, limit=step, start=cursor))
            found += idents(batch.entity_results)
            if len(batch.entity_results) < step:
                break
            cursor = batch.entity_results[-1].cursor
        assert found == expected
        # The window between two cursors, and an offset.
        if len(results) > 2:
            window = query("K", filter_, order, start=results[0].cursor, end=results[-2].cursor)
            assert idents(rpc.all(window)) == expected[1:-1]
            assert idents(rpc.all(query("K", filter_, order, offset=2, limit=2))) == expected[2:4]
        counted = m.RunAggregationQueryRequest()
        counted.partition_id.project_id = rpc.project
        counted.aggregation_query.nested_query.CopyFrom(query("K", filter_, order))
        counted.aggregation_query.aggregations.add(alias="n").count.SetInParent()
        answer = rpc.call("RunAggregationQuery", counted).batch.aggregation_results[0]
        assert answer.aggregate_properties["n"].integer_value == len(expected)
    finally:
        rpc.close()


@given(
    st.lists(stored, min_size=1, max_size=8),
    st.lists(st.tuples(st.integers(1, 10), st.one_of(st.none(), stored)), max_size=8),
    questions(),
)
@examples(40)
def test_a_read_time_shows_exactly_that_moment(
    host: str, population: list[dict[str, Any]], changes: Any, question: Any
) -> None:
    alternatives, order = question
    filter_ = filter_of(alternatives)
    model = Model(alternatives if filter_ is not None else [[]], order)
    if len(model.alternatives) > 30:
        return
    rpc = Rpc(host, project=f"t-{uuid.uuid4().hex[:12]}")
    try:
        entities = dict(enumerate(population, 1))
        rpc.put(*(rpc.entity("K", ident, **entity) for ident, entity in entities.items()))
        moments = []
        for ident, change in changes:
            batch = rpc.run(query("K"))
            moments.append((batch.read_time, dict(entities)))
            if change is None:
                rpc.delete(rpc.key("K", ident))
                entities.pop(ident, None)
            else:
                rpc.put(rpc.entity("K", ident, **change))
                entities[ident] = change
        for moment, then in moments:
            request = m.ReadOptions(read_time=moment)
            for asked, expected in (
                (query("K", filter_, order), model.run(then)),
                (query("K"), sorted(then)),
            ):
                assert idents(rpc.run(asked, read_options=request).entity_results) == expected
            found = rpc.lookup(*(rpc.key("K", i) for i in range(1, 11)), read_options=request)
            assert sorted(idents(found.found)) == sorted(then)
            for one in found.found:
                ident = one.entity.key.path[0].id
                assert one.entity == rpc.entity("K", ident, **then[ident])
    finally:
        rpc.close()


# -- one by one --------------------------------------------------------------------------------


def test_an_unlimited_query_is_split_into_pages_that_a_client_accepts(rpc: Rpc) -> None:
    blob = unindexed("x" * 100_000)
    for start in range(0, 60, 20):
        rpc.put(*(rpc.entity("K", i + 1, blob=blob) for i in range(start, start + 20)))
    cursor, found, sizes = b"", 0, []
    while True:
        batch = rpc.run(query("K", start=cursor))
        sizes.append(batch.ByteSize())
        found += len(batch.entity_results)
        if batch.more_results != NOT_FINISHED:
            break
        cursor = batch.end_cursor
    assert found == 60
    assert len(sizes) > 2
    assert max(sizes) < 3 << 20


def test_a_lookup_defers_keys_beyond_the_response_size(rpc: Rpc) -> None:
    blob = unindexed("x" * 1_000_000)
    for ident in range(1, 7):
        rpc.put(rpc.entity("K", ident, blob=blob))
    wanted = [rpc.key("K", i) for i in range(1, 8)]
    found: list[int] = []
    rounds = 0
    while wanted:
        answer = rpc.lookup(*wanted)
        assert answer.ByteSize() < 4 << 20
        found += idents([*answer.found, *answer.missing])
        wanted = list(answer.deferred)
        rounds += 1
    assert sorted(found) == list(range(1, 8))
    assert rounds > 1


def test_a_lookup_of_many_small_and_some_large_entities_answers_in_the_order_asked(
    rpc: Rpc,
) -> None:
    there = list(range(3, 400, 3))
    rpc.put(
        *(rpc.entity("K", n, s=unindexed("x" * (20_000 if n % 15 == 0 else 10))) for n in there)
    )
    asked = [n for n in range(399, 0, -1) if n % 7]
    answer = rpc.lookup(*(rpc.key("K", n) for n in asked))
    assert not answer.deferred
    assert [one.entity.key.path[-1].id for one in answer.found] == [n for n in asked if n % 3 == 0]
    for one in answer.found:
        length = 20_000 if one.entity.key.path[-1].id % 15 == 0 else 10
        assert one.entity.properties["s"].string_value == "x" * length
    missing = [one.entity.key.path[-1].id for one in answer.missing]
    assert missing == [n for n in asked if n % 3]


def test_a_lookup_takes_a_thousand_keys(rpc: Rpc) -> None:
    keys = [rpc.key("K", i + 1) for i in range(1000)]
    assert len(rpc.lookup(*keys).missing) == 1000
    code, text = refused(rpc.lookup, *keys, rpc.key("K", 5000))
    assert (code, "more than 1000 keys" in text) == (grpc.StatusCode.INVALID_ARGUMENT, True)


def test_the_end_of_a_query_is_reported(rpc: Rpc) -> None:
    rpc.put(*(rpc.entity("K", i) for i in range(1, 4)))
    batch = m.QueryResultBatch
    assert rpc.run(query()).more_results == batch.NO_MORE_RESULTS
    assert rpc.run(query(limit=2)).more_results == batch.MORE_RESULTS_AFTER_LIMIT
    end = rpc.run(query(limit=2)).end_cursor
    assert rpc.run(query(end=end)).more_results == batch.MORE_RESULTS_AFTER_CURSOR
    empty = rpc.run(query(limit=0))
    assert empty.more_results == batch.MORE_RESULTS_AFTER_LIMIT
    assert idents(rpc.all(query(start=empty.end_cursor))) == [1, 2, 3]


def test_a_cursor_keeps_its_position_when_its_entity_is_deleted(rpc: Rpc) -> None:
    rpc.put(*(rpc.entity("K", i, a=i % 2) for i in range(1, 7)))
    for order in ([], ["a"], ["-a"]):
        results = rpc.all(query(order=order))
        rpc.delete(results[2].entity.key)
        rest = rpc.all(query(order=order, start=results[2].cursor))
        assert idents(rest) == idents(results)[3:]
        rpc.put(results[2].entity)


def test_a_cursor_works_backwards_on_the_reversed_query(rpc: Rpc) -> None:
    rpc.put(*(rpc.entity("K", i, a=i // 2) for i in range(1, 7)))
    results = rpc.all(query(order=["a"]))
    back = rpc.all(query(order=["-a"], start=results[3].cursor))
    assert idents(back) == [4, 3, 2, 1]


def test_a_damaged_cursor_or_one_of_another_query_is_refused(rpc: Rpc) -> None:
    rpc.put(rpc.entity("K", 1, a=1), rpc.entity("L", 1, a=1))
    cursor = rpc.run(query(order=["a"])).end_cursor
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    for bad in (b"garbage", b"b1", cursor[:-1], cursor[:-9] + b"x" + cursor[-8:], b"\x00" * 40):
        code, text = refused(rpc.run, query(order=["a"], start=bad))
        assert (code, "damaged" in text) == (invalid, True)
    for other in (query("L", order=["a"]), query(order=["b"]), query()):
        other.start_cursor = cursor
        code, text = refused(rpc.run, other)
        assert (code, "another query" in text) == (invalid, True)


def test_a_query_ordered_by_key_and_one_without_order_share_cursors(rpc: Rpc) -> None:
    rpc.put(*(rpc.entity("K", i, a=1) for i in range(1, 5)))
    cursor = rpc.run(query(limit=2)).end_cursor
    for other in (
        query(order=["__key__"]),
        query("K", where("a", "=", 1)),
        query("K", where("__key__", ">", rpc.key("K", 1))),
        query(project=["__key__"]),
    ):
        other.start_cursor = cursor
        assert idents(rpc.all(other)) == [3, 4]


def test_ancestor_queries_find_the_ancestor_and_its_descendants(rpc: Rpc) -> None:
    rpc.put(
        rpc.entity("A", 1, x=1),
        rpc.entity("A", 1, "B", 1, x=2),
        rpc.entity("A", 1, "B", "n", x=1),
        rpc.entity("A", 1, "B", 1, "C", 1, x=1),
        rpc.entity("A", 2, x=1),
        rpc.entity("A", 12, "B", 1, x=1),
    )
    under = where("__key__", "under", rpc.key("A", 1))
    paths = [
        [(e.kind, e.id or e.name) for e in one.entity.key.path]
        for one in rpc.all(query(None, under))
    ]
    assert paths == [
        [("A", 1)],
        [("A", 1), ("B", 1)],
        [("A", 1), ("B", 1), ("C", 1)],
        [("A", 1), ("B", "n")],
    ]
    assert idents(rpc.all(query("B", under))) == [1, "n"]
    assert idents(rpc.all(query("B", both(under, where("x", "=", 1))))) == ["n"]
    assert idents(rpc.all(query("B", under, ["-x"]))) == [1, "n"]


def test_key_filters_are_ranges(rpc: Rpc) -> None:
    rpc.put(*(rpc.entity("K", i, a=1) for i in (1, 2, 3, 4, "x", "y")))
    key = rpc.key

    def found(*filters: Any, order: Any = ()) -> list[Any]:
        return idents(rpc.all(query("K", both(*filters), order)))

    assert found(where("__key__", ">", key("K", 2))) == [3, 4, "x", "y"]
    assert found(where("__key__", ">=", key("K", 2)), where("__key__", "<", key("K", "x"))) == [
        2,
        3,
        4,
    ]
    assert found(where("__key__", "=", key("K", "y"))) == ["y"]
    assert found(where("__key__", "!=", key("K", 3))) == [1, 2, 4, "x", "y"]
    assert found(where("__key__", "in", [key("K", "x"), key("K", 1), key("K", 9)])) == [1, "x"]
    assert found(where("__key__", "not in", [key("K", 1), key("K", 2)])) == [3, 4, "x", "y"]
    assert found(where("__key__", ">", key("K", 1)), where("__key__", "<", key("K", 4))) == [2, 3]
    assert found(where("__key__", "<=", key("K", 3)), order=["-__key__"]) == [3, 2, 1]


def test_unindexed_values_and_empty_arrays_do_not_match(rpc: Rpc) -> None:
    rpc.put(
        rpc.entity("K", 1, a=unindexed(1)),
        rpc.entity("K", 2, a=1),
        rpc.entity("K", 3, a=[]),
        rpc.entity("K", 4),
        rpc.entity("K", 5, a=[unindexed(1), 2]),
    )
    assert idents(rpc.all(query("K", where("a", "=", 1)))) == [2]
    assert idents(rpc.all(query("K", order=["a"]))) == [2, 5]
    assert idents(rpc.all(query("K", where("a", "!=", 7)))) == [2, 5]


def test_nested_properties_are_found_by_their_path(rpc: Rpc) -> None:
    rpc.put(
        rpc.entity("K", 1, a={"b": {"c": 5}, "d": 1}),
        rpc.entity("K", 2, a=[{"b": {"c": 6}}, {"b": {"c": 7}}]),
        rpc.entity("K", 3, a=unindexed({"b": {"c": 5}})),
    )
    assert idents(rpc.all(query("K", where("a.b.c", ">=", 5)))) == [1, 2]
    assert idents(rpc.all(query("K", where("a.b.c", "=", 7)))) == [2]
    assert idents(rpc.all(query("K", where("a.d", "=", 1), ["-a.b.c"]))) == [1]


def test_a_projection_returns_index_values_with_one_result_per_combination(rpc: Rpc) -> None:
    moment = m.Value()
    moment.timestamp_value.seconds = 7
    rpc.put(
        rpc.entity("K", 1, a=[2, 1], b=["x", "y"], t=moment),
        rpc.entity("K", 2, a=3, b="z", t=moment),
        rpc.entity("K", 3, a=3),
    )

    def rows(asked: Any) -> list[tuple[Any, ...]]:
        names = [one.property.name for one in asked.projection]
        return [
            (
                one.entity.key.path[0].id,
                *(
                    getattr(p := one.entity.properties[n], p.WhichOneof("value_type"))
                    for n in names
                ),
            )
            for one in rpc.all(asked)
        ]

    assert rows(query(project=["a", "b"])) == [
        (1, 1, "x"),
        (1, 1, "y"),
        (1, 2, "x"),
        (1, 2, "y"),
        (2, 3, "z"),
    ]
    assert rows(query("K", where("a", ">", 1), ["-a"], project=["a"])) == [
        (3, 3),
        (2, 3),
        (1, 2),
    ]
    assert rows(query(project=["t"])) == [(1, 7_000_000), (2, 7_000_000)]
    assert rows(query(order=["-__key__"], project=["a"], limit=2)) == [(3, 3), (2, 3)]
    result = rpc.run(query(project=["a"])).entity_results[0]
    assert (result.version, result.cursor != b"") == (0, True)
    assert refused(rpc.run, query("K", where("a", "=", 1), project=["a"])) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "Cannot use projection on a property with an equality filter.",
    )


def test_distinct_returns_the_first_of_each_combination(rpc: Rpc) -> None:
    rpc.put(*(rpc.entity("K", i + 1, a=i // 2, b=i % 3) for i in range(6)))
    distinct = query(project=["a"], distinct=["a"])
    assert idents(rpc.all(distinct)) == [1, 3, 5]
    assert idents(rpc.all(query(distinct=["a"], order=["a", "-b"]))) == [2, 3, 6]
    first = rpc.run(query(project=["a"], distinct=["a"], limit=1))
    rest = query(project=["a"], distinct=["a"], start=first.end_cursor)
    assert idents(rpc.all(rest)) == [3, 5]
    assert idents(rpc.all(query(project=["a"], distinct=["a"], offset=2))) == [5]
    code, text = refused(rpc.run, query(project=["a", "b"], distinct=["b"], order=["a"]))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert "group by" in text


def test_offsets_are_counted_and_have_a_cursor(rpc: Rpc) -> None:
    rpc.put(*(rpc.entity("K", i, a=i) for i in range(1, 6)))
    batch = rpc.run(query(order=["-a"], offset=2, limit=2))
    assert (batch.skipped_results, idents(batch.entity_results)) == (2, [3, 2])
    skipped = rpc.all(query(order=["-a"], start=batch.skipped_cursor))
    assert idents(skipped) == [3, 2, 1]
    beyond = rpc.run(query(offset=9))
    assert (beyond.skipped_results, len(beyond.entity_results)) == (5, 0)


def test_keys_only_results_have_no_properties(rpc: Rpc) -> None:
    rpc.put(rpc.entity("K", "é\x00", a=1))
    (result,) = rpc.all(query(project=["__key__"]))
    assert result.entity == m.Entity(key=rpc.key("K", "é\x00"))


def test_namespaces_and_databases_are_separate(host: str, rpc: Rpc) -> None:
    places = [
        Rpc(host, rpc.project, "", ""),
        Rpc(host, rpc.project, "n", ""),
        Rpc(host, rpc.project, "", "d"),
        Rpc(host, rpc.project, "n", "d"),
    ]
    for number, place in enumerate(places, 1):
        place.put(place.entity("K", number, a=1))
    for number, place in enumerate(places, 1):
        assert idents(place.all(query())) == [number]
        assert idents(place.all(query("K", where("a", "=", 1)))) == [number]
        (result,) = place.all(query(project=["__key__"]))
        assert result.entity.key == place.key("K", number)
        place.close()


def test_metadata_kinds_list_what_is_stored(host: str, rpc: Rpc) -> None:
    other = Rpc(host, rpc.project, "other")
    other.put(other.entity("Z", 1))
    other.close()
    rpc.put(rpc.entity("B", 1, s="x", n=1), rpc.entity("A", 1, n=[1, None], u=unindexed(1)))
    assert idents(rpc.all(query("__namespace__"))) == [1, "other"]
    assert idents(rpc.all(query("__kind__"))) == ["A", "B"]
    above = where("__key__", ">", rpc.key("__kind__", "A"))
    assert idents(rpc.all(query("__kind__", above, project=["__key__"]))) == ["B"]
    found = rpc.all(query("__property__"))
    assert [(one.entity.key.path[0].name, one.entity.key.path[1].name) for one in found] == [
        ("A", "n"),
        ("B", "n"),
        ("B", "s"),
    ]
    shown = [
        [
            v.string_value
            for v in one.entity.properties["property_representation"].array_value.values
        ]
        for one in found
    ]
    assert shown == [["INT64", "NULL"], ["INT64"], ["STRING"]]
    under = where("__key__", "under", rpc.key("__kind__", "B"))
    first = rpc.run(query("__property__", under, limit=1))
    assert idents(first.entity_results) == ["n"]
    rest = query("__property__", under, start=first.end_cursor)
    assert idents(rpc.all(rest)) == ["s"]
    rpc.delete(rpc.key("B", 1))
    assert idents(rpc.all(query("__kind__"))) == ["A"]


def test_scatter_lists_a_stable_sample(rpc: Rpc) -> None:
    for start in range(0, 2000, 500):
        rpc.put(*(rpc.entity("K", start + i + 1) for i in range(500)))
    sample = idents(rpc.all(query(order=["__scatter__"])))
    assert 60 < len(sample) < 200
    assert sample != sorted(sample)
    rpc.put(*(rpc.entity("K", ident, a=1) for ident in sample))
    assert idents(rpc.all(query(order=["__scatter__"]))) == sample
    assert "__scatter__" not in [
        one.entity.key.path[1].name for one in rpc.all(query("__property__"))
    ]


def test_a_property_mask_reduces_results(rpc: Rpc) -> None:
    rpc.put(rpc.entity("K", 1, a=1, b=2, c={"d": 1, "e": 2}))
    mask = {"paths": ["a", "c.d"]}
    (result,) = rpc.run(query(), property_mask=mask).entity_results
    assert result.entity == rpc.entity("K", 1, a=1, c={"d": 1})
    nothing = {"paths": ["a.x", "z", "c.y"]}
    (result,) = rpc.run(query(), property_mask=nothing).entity_results
    assert result.entity == rpc.entity("K", 1)
    reserved = {"paths": ["__x__"]}
    assert refused(rpc.run, query(), property_mask=reserved)[0] == grpc.StatusCode.INVALID_ARGUMENT
    (found,) = rpc.lookup(rpc.key("K", 1), property_mask=mask).found
    assert found.entity == rpc.entity("K", 1, a=1, c={"d": 1})


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (query(None, where("a", "=", 1)), "kind is required"),
        (query(None, order=["a"]), "kind is required"),
        (query(None, order=["-__key__"]), "kind is required"),
        (query("K", where("__key__", "=", 1)), "must be a Key"),
        (query("K", where("a", "=", [1])), "list value is not allowed"),
        (query("K", where("a", "=", {"b": 1})), "entity value is not allowed"),
        (query("K", where("a", "in", list(range(31)))), "up to 30 values"),
        (query("K", where("a", "not in", list(range(11)))), "up to 10 values"),
        (query("K", both(where("a", "!=", 1), where("b", "!=", 1))), "NOT_EQUAL"),
        (query("K", both(where("a", "not in", [1]), where("b", "in", [1]))), "NOT_IN"),
        (
            query("K", both(*(where(n, "in", list(range(4))) for n in "abc"))),
            "at most 30",
        ),
        (query(limit=-1), "Limit"),
        (query(offset=-1), "Offset"),
        (query(""), "must not be empty"),
        (query("K" * 1501), "longer than 1500 bytes"),
        (query("K", both()), "at least one sub-filter"),
        (query("K", m.Filter()), "exactly one of its fields"),
        (query("K", both(m.Filter())), "exactly one of its fields"),
    ],
)
def test_an_invalid_query_is_refused_with_a_reason(rpc: Rpc, asked: Any, words: str) -> None:
    code, text = refused(rpc.run, asked)
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert words in text


def test_gql_is_refused_with_a_reason(rpc: Rpc) -> None:
    request = m.RunQueryRequest()
    request.gql_query.query_string = "SELECT * FROM K"
    code, text = refused(rpc.call, "RunQuery", request)
    assert code == grpc.StatusCode.UNIMPLEMENTED
    assert "GQL" in text


def test_sums_and_averages(rpc: Rpc) -> None:
    moment = m.Value()
    moment.timestamp_value.seconds = 7
    rpc.put(
        rpc.entity("K", 1, a=1, b=2),
        rpc.entity("K", 2, a=2.5),
        rpc.entity("K", 3, a="x", b=3),
        rpc.entity("K", 4, b=7),
        rpc.entity("K", 5, a=[5]),
        rpc.entity("K", 6, a=moment),
        rpc.entity("K", 7, a=unindexed(100)),
        rpc.entity("L", 1, a=2**62),
        rpc.entity("L", 2, a=2**62),
    )

    def ask(asked: Any, **operators: tuple[str, Any]) -> dict[str, Any]:
        request = m.RunAggregationQueryRequest()
        request.partition_id.project_id = rpc.project
        request.aggregation_query.nested_query.CopyFrom(asked)
        for alias, (operator, operand) in operators.items():
            one = request.aggregation_query.aggregations.add(alias=alias)
            getattr(one, operator).SetInParent()
            if operator == "count" and operand is not None:
                one.count.up_to.value = operand
            elif operator != "count":
                getattr(one, operator).property.name = operand
        batch = rpc.call("RunAggregationQuery", request).batch
        return {
            alias: getattr(v, v.WhichOneof("value_type"))
            for alias, v in batch.aggregation_results[0].aggregate_properties.items()
        }

    assert ask(query(), n=("count", None)) == {"n": 7}
    assert ask(query(), n=("count", 3), z=("count", 0)) == {"n": 3, "z": 0}
    assert ask(query(limit=2), n=("count", None)) == {"n": 2}
    assert ask(query(), s=("sum", "a")) == {"s": 3.5}
    assert ask(query(), v=("avg", "a")) == {"v": 1.75}
    assert ask(query(), s=("sum", "b")) == {"s": 12}
    # Only entities that have all the aggregated properties.
    assert ask(query(), n=("count", None), s=("sum", "a"), t=("sum", "b")) == {
        "n": 2,
        "s": 1,
        "t": 5,
    }
    assert ask(query("K", where("b", ">", 2)), s=("sum", "b")) == {"s": 10}
    assert ask(query(), s=("sum", "none"), v=("avg", "none")) == {"s": 0, "v": 0}
    assert ask(query("L"), s=("sum", "a")) == {"s": float(2**63)}
    assert ask(query("None"), n=("count", None)) == {"n": 0}
    code, text = refused(ask, query(), **{f"n{i}": ("count", None) for i in range(6)})
    assert (code, "at most 5" in text) == (grpc.StatusCode.INVALID_ARGUMENT, True)
    for bad in (query(None), query(project=["__key__"]), query(project=["b"])):
        assert refused(ask, bad, s=("sum", "a"))[0] == grpc.StatusCode.INVALID_ARGUMENT
    assert refused(ask, query(), s=("sum", "__key__"))[0] == grpc.StatusCode.INVALID_ARGUMENT

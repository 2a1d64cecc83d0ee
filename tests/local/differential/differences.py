"""The table of every deliberate difference between the embedded Datastore and the emulators.

Nothing else may differ: not the results, their order, where a cursor resumes, nor the status of a
refusal. (Versions, times, cursors, transaction ids and the wording of messages are each server's
own, and are compared by their meaning.) test_differences.py demonstrates each row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.local.differential import restate
from tests.local.differential.answers import say_aggregation, scan
from tests.local.differential.build import (
    Geo,
    Place,
    Time,
    Unindexed,
    all_of,
    query,
    upsert,
    value,
    where,
)
from tests.local.differential.compare import Difference, Exchange, Judge
from tests.local.differential.story import CURRENT, ZERO, Step, Write, story
from tests.local.differential.wire import REQUESTS

# -- exchanges that show a difference ------------------------------------------------------------


def _numbers(judge: Judge, place: Place) -> None:
    judge.store(place, [place.entity(("K", i), {"p": i % 2, "q": [i, -i]}) for i in range(1, 5)])


def _example(asked: Any) -> Callable[[Judge, Place], Exchange]:
    def run(judge: Judge, place: Place) -> Exchange:
        _numbers(judge, place)
        return judge.scans(place, asked)[0]

    return run


def _until_second(judge: Judge, place: Place) -> Exchange:
    _numbers(judge, place)
    answers = []
    for wire in judge.both():
        window = query("K")
        window.end_cursor = scan(wire, place, window).cursors[1]
        answers.append(scan(wire, place, window).answer())
    return Exchange(judge.ours, judge.theirs, place, "RunQuery", window, answers[0], answers[1])


def _story(*steps: Step) -> Callable[[Judge, Place], Exchange]:
    """The last step of a story."""

    def run(judge: Judge, place: Place) -> Exchange:
        return story(judge, place, steps, (("K", 1), ("K", 2)))[-1]

    return run


def _aggregation(
    counts: int, asked: Any = None, summed: str = ""
) -> Callable[[Judge, Place], Exchange]:
    def run(judge: Judge, place: Place) -> Exchange:
        _numbers(judge, place)
        request = REQUESTS["RunAggregationQuery"](
            project_id=place.project, partition_id=place.partition()
        )
        request.aggregation_query.nested_query.CopyFrom(asked or query("K"))
        for _ in range(counts):
            request.aggregation_query.aggregations.add().count.SetInParent()
        if summed:
            request.aggregation_query.aggregations.add().sum.property.name = summed
        return judge.exchange(place, "RunAggregationQuery", request, say_aggregation)

    return run


def _sum(asked: Any) -> Callable[[Judge, Place], Exchange]:
    return _aggregation(0, asked, "q")


def _ended_read_only(judge: Judge, place: Place) -> Exchange:
    said = []
    for wire in judge.both():
        begun = wire.call(
            "BeginTransaction",
            REQUESTS["BeginTransaction"](
                project_id=place.project, transaction_options={"read_only": {}}
            ),
        )
        ended = wire.call(
            "Commit",
            REQUESTS["Commit"](
                project_id=place.project, mode=1, transaction=begun.body.transaction
            ),
        )
        said.append((f"end: {ended.code}",))
    return Exchange(judge.ours, judge.theirs, place, "Story", "end", said[0], said[1])


def _greatest_reserved(judge: Judge, place: Place) -> Exchange:
    request = REQUESTS["ReserveIds"](project_id=place.project, keys=[place.key("K", 2**63 - 1)])
    return judge.exchange(place, "ReserveIds", request, lambda _: ())


def _resumed(judge: Judge, place: Place) -> Exchange:
    _numbers(judge, place)
    answers = []
    for wire in judge.both():
        asked = query("K", filter=where("p", ">=", 0), order=("-__key__",))
        asked.start_cursor = scan(wire, place, asked).cursors[0]
        answers.append(scan(wire, place, asked).answer())
    return Exchange(judge.ours, judge.theirs, place, "RunQuery", asked, answers[0], answers[1])


def _asked_in_gql(judge: Judge, place: Place) -> Exchange:
    _numbers(judge, place)
    request = REQUESTS["RunQuery"](project_id=place.project, partition_id=place.partition())
    request.gql_query.query_string = "SELECT * FROM K"
    return judge.exchange(place, "RunQuery", request, lambda r: (str(len(r.batch.entity_results)),))


def _nearest(judge: Judge, place: Place) -> Exchange:
    near = query("K")
    near.find_nearest.vector_property.name = "p"
    near.find_nearest.query_vector.array_value.values.add().double_value = 1.0
    near.find_nearest.distance_measure = 1
    near.find_nearest.limit.value = 3
    return _example(near)(judge, place)


def _four_underscores(judge: Judge, place: Place) -> Exchange:
    write = upsert(place.entity(("K", 1), {"____": 1}))
    request = REQUESTS["Commit"](project_id=place.project, mode=2, mutations=[write])
    return judge.exchange(place, "Commit", request, lambda _: ())


def _masked_keys(judge: Judge, place: Place) -> Exchange:
    _numbers(judge, place)
    request = REQUESTS["RunQuery"](
        project_id=place.project, partition_id=place.partition(),
        query=query("K", projection=("__key__",)), property_mask={"paths": ["p"]},
    )  # fmt: skip
    return judge.exchange(place, "RunQuery", request, lambda r: (str(len(r.batch.entity_results)),))


def _summed_times(judge: Judge, place: Place) -> Exchange:
    judge.store(place, [place.entity(("K", 1), {"p": Time(1)})])
    request = REQUESTS["RunAggregationQuery"](
        project_id=place.project, partition_id=place.partition()
    )
    request.aggregation_query.nested_query.CopyFrom(query("K", projection=("p",)))
    request.aggregation_query.aggregations.add().sum.property.name = "p"
    return judge.exchange(place, "RunAggregationQuery", request, say_aggregation)


def _sums_of_two(judge: Judge, place: Place) -> Exchange:
    judge.store(place, [place.entity(("K", i), {"p": -i}) for i in range(1, 5)])
    request = REQUESTS["RunAggregationQuery"](
        project_id=place.project, partition_id=place.partition()
    )
    request.aggregation_query.nested_query.CopyFrom(query("K", limit=2))
    request.aggregation_query.aggregations.add().sum.property.name = "p"
    return judge.exchange(place, "RunAggregationQuery", request, say_aggregation)


def _put(*properties: Any) -> Callable[[Judge, Place], Exchange]:
    def run(judge: Judge, place: Place) -> Exchange:
        request = REQUESTS["Commit"](project_id=place.project, mode=2)
        for number, one in enumerate(properties, 1):
            request.mutations.append(upsert(place.entity(("K", number), {"p": one})))
        return judge.exchange(place, "Commit", request, lambda _: ())

    return run


def _arrays_in_entities(depth: int) -> Any:
    nested: Any = 1
    for _ in range(depth):
        nested = [{"x": nested}]
    return nested


def _marked_point() -> Any:
    point = value(Geo(1.0, 1.0))
    point.meaning = 23
    return point


# -- the table ----------------------------------------------------------------------------------

_PUT = Write("upsert", ("K", 1), (("p", 1),))

DIFFERENCES: tuple[Difference, ...] = (
    # Those that send further requests or replace the answer come first; the rest restate that.
    Difference(
        "one version for a commit",
        "FS, LF",
        "all writes of a non-transactional commit have one version; the emulators give each "
        "mutation its own",
        "a commit is one transaction of the file, whatever its mode",
        restate.one_moment,
        _story(Step("NT", (_PUT, replace(_PUT, path=("K", 2))))),
    ),
    Difference(
        "orders after the key",
        "LF",
        "an entity without a property that is ordered by is not a result, even when the order "
        "comes after __key__; LF ignores orders there",
        "one rule for all orders; FS does the same",
        restate.order_after_key,
        _example(query("K", order=("__key__", "missing"))),
    ),
    Difference(
        "an entity once",
        "FS",
        "an entity with several values of a sort property is found once, at the first of its "
        "places; FS finds it once for each value",
        "the documentation says once, and an updater must not handle an entity twice",
        restate.repeated,
        _example(query("K", order=("q",))),
    ),
    Difference(
        "a cursor that is not taken back",
        "FS",
        "each result's cursor can be resumed from; FS returns cursors of a query with an "
        "inequality and an order by __key__ alone that it then refuses",
        "nothing can be resumed from a refusal; the embedded server is compared with itself there",
        restate.broken_cursor,
        _resumed,
    ),
    Difference(
        "the end by a cursor",
        "FS, LF",
        "a page that reaches its end_cursor says MORE_RESULTS_AFTER_CURSOR; FS says that there are "
        "no more, LF that the limit was reached",
        "the reference says so",
        restate.end_cursor,
        _until_second,
    ),
    Difference(
        "the end by a limit",
        "FS",
        "a page with as many results as the limit says MORE_RESULTS_AFTER_LIMIT; FS checks whether "
        "there is one more",
        "the reference only says that there may be more; checking would cost every page a row",
        restate.exact_limit,
        _example(query("K", limit=4)),
    ),
    Difference(
        "the end of a query",
        "LF",
        "the last page says NO_MORE_RESULTS; LF always says that a limit was reached",
        "the reference says so, and clients stop there",
        restate.never_ends,
        _example(query("K")),
    ),
    Difference(
        "projections without a kind",
        "FS",
        "a projection without a kind is refused; FS lets some pass, with distinct_on or a filter "
        "of keys, and refuses others",
        "there is no index over all kinds, and the reference asks for a kind",
        restate.kindless_projection,
        _example(query(projection=("p",), distinct=("p",))),
    ),
    Difference(
        "mutations that do not go together",
        "LF",
        "an insert after another write of the same entity is refused as INVALID_ARGUMENT; LF "
        "checks first whether the entity is there, and may say ALREADY_EXISTS or NOT_FOUND",
        "the reference forbids the sequence whatever is stored; FS does the same",
        restate.checked_first,
        _story(Step("SU", (_PUT, replace(_PUT, operation="insert")))),
    ),
    Difference(
        "a condition before existence",
        "LF",
        "a version that does not match is FAILED_PRECONDITION, also for an update of a missing "
        "entity and an insert of an existing one; LF answers NOT_FOUND and ALREADY_EXISTS",
        "the condition is the stronger requirement; FS does the same",
        restate.existence_first,
        _story(Step("SU", (replace(_PUT, operation="update", base_version=CURRENT, strategy=3),))),
    ),
    Difference(
        "version 0 of what was deleted",
        "FS",
        "a write with version 0 succeeds where an entity was deleted; FS compares with the version "
        "of the deletion and refuses",
        "version 0 means that there is no entity; LF accepts it",
        restate.zero_of_deleted,
        _story(
            Step("NT", (_PUT,)),
            Step("NT", (Write("delete", _PUT.path),)),
            Step("SU", (replace(_PUT, operation="insert", base_version=ZERO, strategy=3),)),
        ),
    ),
    Difference(
        "the end of an aggregation",
        "FS",
        "more_results is NO_MORE_RESULTS; FS leaves it out",
        "the reference says so",
        restate.more_aggregations,
        _aggregation(1),
    ),
    Difference(
        "too many aggregations",
        "FS",
        "a sixth aggregation is INVALID_ARGUMENT; FS fails with UNKNOWN",
        "such a request can never be valid",
        restate.too_many_aggregations,
        _aggregation(6),
    ),
    Difference(
        "GQL",
        "FS",
        "a query in GQL is UNIMPLEMENTED; FS answers it",
        "the official clients send structured queries, and bulkup needs no GQL",
        restate.not_ours("gql_query"),
        _asked_in_gql,
    ),
    Difference(
        "vectors",
        "FS",
        "find_nearest is UNIMPLEMENTED; FS searches vectors",
        "a nearest-neighbour search has no cursors, so that no updater can page through one",
        restate.not_ours("find_nearest"),
        _nearest,
    ),
    Difference(
        "the query below an aggregation",
        "FS",
        "a query that RunQuery refuses is also refused below an aggregation; FS aggregates over it",
        "one query has one meaning",
        restate.unchecked_base,
        _aggregation(1, query("K", filter=all_of(where("p", "!=", 1), where("q", "!=", 1)))),
    ),
    Difference(
        "sums over all kinds",
        "FS",
        "SUM and AVG require a kind; FS sums over all kinds",
        "there is no index of a property over all kinds, and RunQuery refuses such filters too",
        restate.sum_of_all_kinds,
        _sum(query()),
    ),
    Difference(
        "sums over arrays",
        "FS",
        "SUM and AVG ignore arrays and COUNT beside them counts an entity once; FS takes each "
        "element as if it were an entity",
        "the reference says that values that are not numbers are ignored",
        restate.arrays_in_sums,
        _aggregation(1, None, "q"),
    ),
    Difference(
        "what a sum under a limit takes",
        "FS",
        "SUM and AVG over a limited query take the results that the query itself has, in key "
        "order if it names none; FS takes the smallest values first",
        "one query has one order; FS agrees once the query orders by key",
        restate.order_of_sums,
        _sums_of_two,
    ),
    Difference(
        "sums over times",
        "FS",
        "SUM and AVG ignore timestamps; FS takes them for integers when it sums over an index, as "
        "with a projection or several properties",
        "the reference says that values that are not numbers are ignored; FS does so elsewhere",
        restate.times_in_sums,
        _summed_times,
    ),
    Difference(
        "the end of a read-only transaction",
        "FS",
        "a commit without mutations ends a read-only transaction; FS refuses it",
        "clients end every transaction with a commit; LF accepts it",
        restate.empty_read_only,
        _ended_read_only,
    ),
    Difference(
        "the greatest id",
        "FS",
        "the greatest id can be reserved; FS fails with UNKNOWN",
        "it is an id like any other; LF accepts it",
        restate.reserved,
        _greatest_reserved,
    ),
    Difference(
        "a name of four underscores",
        "FS",
        "____ is refused as the name of a property; FS accepts it",
        "the documentation reserves __.*__; LF refuses it too",
        restate.reserved_underscores,
        _four_underscores,
    ),
    Difference(
        "a mask for keys",
        "FS",
        "a property mask with a projection of the key alone is refused; FS ignores the mask",
        "the reference says that a mask must not be set for a projection",
        restate.masked_keys,
        _masked_keys,
    ),
    Difference(
        "many indexed values",
        "FS",
        "an entity may have 20,000 indexed values; FS takes 5,000 at most",
        "20,000 is the documented limit; LF has none",
        restate.many_values,
        _put(list(range(5_001))),
    ),
    Difference(
        "arrays in entities",
        "FS",
        "20 entities may be nested, whatever arrays are between them; FS also counts arrays",
        "the documentation and LF count entities only",
        restate.nested_arrays,
        _put(_arrays_in_entities(11)),
    ),
    Difference(
        "the meaning of a point",
        "FS",
        "a point may have the meaning 23, as old clients wrote it; FS refuses it",
        "LF stores it, and nothing speaks against it",
        restate.point_meaning,
        _put(_marked_point()),
    ),
    Difference(
        "filters that FS fails at",
        "FS",
        "an excluded value in the list of IN is INVALID_ARGUMENT; a value with a projection's "
        "meaning and the same ancestor twice are accepted; FS fails with UNKNOWN at all three",
        "excluded values are refused elsewhere in a filter; LF does the same",
        restate.broken_filter,
        _example(query("K", filter=where("p", "in", [1, Unindexed(2)]))),
    ),
)

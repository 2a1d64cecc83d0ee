"""The table of every deliberate difference between the embedded Datastore and the emulators.

Nothing else may differ: neither what is found, nor its order, nor where a cursor continues, nor
the status of a refusal. (Versions, times, cursors, transaction ids and the wording of messages are
each server's own and compared by what they mean.) test_differences.py shows each row.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.local.differential.answers import Refusal, say_aggregation, scan
from tests.local.differential.build import Place, all_of, query, where
from tests.local.differential.compare import Answer, Difference, Exchange, Judge
from tests.local.differential.story import CURRENT, ZERO, Step, Write, story
from tests.local.differential.wire import REQUESTS, Query, QueryResultBatch

LIMIT, CURSOR, END = "MORE_RESULTS_AFTER_LIMIT", "MORE_RESULTS_AFTER_CURSOR", "NO_MORE_RESULTS"


def _is_query(exchange: Exchange) -> bool:
    return exchange.method == "RunQuery" and isinstance(exchange.request, Query)


def _ended(answer: Answer, by: str) -> Answer:
    """The same answer with another reason for its end."""
    return (answer[0].rsplit(" ", 1)[0] + f" {by}", *answer[1:])


def _words(answer: Answer) -> str:
    return answer[0].words if isinstance(answer[0], Refusal) else ""


def _found(answer: Answer) -> bool:
    return answer[0].startswith("OK ")


# -- why a page ended --------------------------------------------------------------------------


def _end_cursor(exchange: Exchange, answer: Answer) -> Answer:
    if not (_is_query(exchange) and _found(answer) and exchange.request.end_cursor):
        return answer
    ours = exchange.our_answer[0]
    if answer[0].endswith((END, LIMIT)) and ours.endswith((END, CURSOR)):
        return _ended(answer, ours.rsplit(" ", 1)[1])
    return answer


def _exact_limit(exchange: Exchange, answer: Answer) -> Answer:
    if not (_is_query(exchange) and _found(answer) and exchange.request.HasField("limit")):
        return answer
    if answer[0].endswith(END) and len(answer) - 1 == exchange.request.limit.value:
        return _ended(answer, LIMIT)
    return answer


def _never_ends(exchange: Exchange, answer: Answer) -> Answer:
    if not (_is_query(exchange) and _found(answer) and answer[0].endswith(LIMIT)):
        return answer
    request = exchange.request
    if request.HasField("limit") and len(answer) - 1 == request.limit.value:
        return answer
    return _ended(answer, CURSOR if request.end_cursor else END)


# -- orders ------------------------------------------------------------------------------------


def _asked_again(exchange: Exchange, asked: Any) -> Answer:
    return scan(exchange.theirs, exchange.place, asked).answer()


def _order_after_key(exchange: Exchange, answer: Answer) -> Answer:
    if not (_is_query(exchange) and _found(answer)):
        return answer
    names = [order.property.name for order in exchange.request.order]
    if "__key__" not in names[:-1] or exchange.request.start_cursor or exchange.request.end_cursor:
        return answer
    shorter = Query()
    shorter.CopyFrom(exchange.request)
    del shorter.order[names.index("__key__") + 1 :]
    return _asked_again(exchange, shorter)


def _repeated(exchange: Exchange, answer: Answer) -> Answer:
    """What FS would find if it gave each entity once, at the first of its places."""
    if not (_is_query(exchange) and _found(answer)):
        return answer
    request = exchange.request
    exploded = any(p.property.name != "__key__" for p in request.projection)
    if exploded or request.start_cursor or request.end_cursor:
        return answer
    whole = Query()
    whole.CopyFrom(request)
    whole.ClearField("limit")
    whole.offset = 0
    places = _asked_again(exchange, whole)[1:]
    once = list(dict.fromkeys(places))
    if len(once) == len(places):
        return answer
    rows = once[request.offset :]
    end = END
    if request.HasField("limit") and len(rows) >= request.limit.value:
        rows, end = rows[: request.limit.value], LIMIT
    skipped = min(request.offset, len(once))
    return (f"{' '.join(answer[0].split()[:2])} skipped={skipped} {end}", *rows)


# -- commits -----------------------------------------------------------------------------------


def _one_moment(exchange: Exchange, answer: Answer) -> Answer:
    if exchange.their_moments is None or answer != exchange.their_answer:
        return answer
    return exchange.their_moments


def _checked_first(exchange: Exchange, answer: Answer) -> Answer:
    """LF looks at what is stored before it looks whether two mutations go together."""
    refused = answer[0] in ("ALREADY_EXISTS", "NOT_FOUND")
    if exchange.method == "Commit" and refused and exchange.our_answer[0] == "INVALID_ARGUMENT":
        in_order = re.search(r"Cannot \w+ then \w+ an entity", _words(exchange.our_answer))
        return ("INVALID_ARGUMENT", *answer[1:]) if in_order else answer
    return answer


def _existence_first(exchange: Exchange, answer: Answer) -> Answer:
    ours = exchange.our_answer[0]
    if exchange.method != "Commit" or ours != "FAILED_PRECONDITION":
        return answer
    return (ours, *answer[1:]) if answer[0] in ("NOT_FOUND", "ALREADY_EXISTS") else answer


def _insert_of_deleted(exchange: Exchange, answer: Answer) -> Answer:
    """FS remembers the version at which an entity was deleted, and compares with that."""
    if exchange.method != "Commit" or answer[0] != "FAILED_PRECONDITION":
        return answer
    insert = "insert" in str(exchange.request).rsplit(", then ", 1)[-1]
    zero = _words(answer).endswith("does not match the required base version (0)")
    return exchange.our_answer if insert and zero and exchange.our_answer[0] == "OK" else answer


# -- aggregations ------------------------------------------------------------------------------


def _more_aggregations(exchange: Exchange, answer: Answer) -> Answer:
    if exchange.method == "RunAggregationQuery" and answer[:2] == ("OK", "0"):
        return ("OK", str(QueryResultBatch.NO_MORE_RESULTS), *answer[2:])
    return answer


def _too_many_aggregations(exchange: Exchange, answer: Answer) -> Answer:
    if exchange.method != "RunAggregationQuery" or answer != ("UNKNOWN",):
        return answer
    many = len(exchange.request.aggregation_query.aggregations) > 5
    return ("INVALID_ARGUMENT",) if many else answer


def _of_base(exchange: Exchange) -> Any:
    return exchange.request.aggregation_query.nested_query


def _unchecked_base(exchange: Exchange, answer: Answer) -> Answer:
    """FS aggregates over queries that it would not run."""
    if exchange.method != "RunAggregationQuery" or answer[0] != "OK":
        return answer
    base = _asked_again(exchange, _of_base(exchange))
    return ("INVALID_ARGUMENT",) if base == ("INVALID_ARGUMENT",) else answer


def _sum_of_all_kinds(exchange: Exchange, answer: Answer) -> Answer:
    if exchange.method != "RunAggregationQuery" or answer[0] != "OK" or _of_base(exchange).kind:
        return answer
    counted = all(a.HasField("count") for a in exchange.request.aggregation_query.aggregations)
    return answer if counted else ("INVALID_ARGUMENT",)


def _arrays_in_sums(exchange: Exchange, answer: Answer) -> Answer:
    """Which numbers FS takes is said in the row; that only arrays make it differ is asked here."""
    if exchange.method != "RunAggregationQuery" or answer[0] != "OK":
        return answer
    aggregated = {
        getattr(a, which).property.name
        for a in exchange.request.aggregation_query.aggregations
        if (which := a.WhichOneof("operator")) != "count"
    }
    rows = _asked_again(exchange, _of_base(exchange))[1:]
    arrays = any(f"{name}=[" in row for name in aggregated for row in rows)
    return exchange.our_answer if arrays else answer


# -- refusals ----------------------------------------------------------------------------------


def _kindless_projection(exchange: Exchange, answer: Answer) -> Answer:
    if not (_is_query(exchange) and _found(answer)):
        return answer
    request = exchange.request
    names = {p.property.name for p in request.projection} - {"__key__"}
    return ("INVALID_ARGUMENT",) if names and not request.kind else answer


def _broken_cursor(exchange: Exchange, answer: Answer) -> Answer:
    """FS gives out a cursor that it does not take back. Ours is compared with itself elsewhere."""
    request = exchange.request
    if _is_query(exchange) and answer == ("INVALID_ARGUMENT",):
        broken = _words(answer) == "index data should not include primary key"
        if broken and (request.start_cursor or request.end_cursor):
            return exchange.our_answer
    return answer


def _empty_read_only(exchange: Exchange, answer: Answer) -> Answer:
    if exchange.method != "Story":
        return answer
    return tuple("end: OK" if line == "end: INVALID_ARGUMENT" else line for line in answer)


def _reserved(exchange: Exchange, answer: Answer) -> Answer:
    if exchange.method != "ReserveIds" or answer[0] not in ("FAILED_PRECONDITION", "UNKNOWN"):
        return answer
    keys = exchange.request.keys
    odd = not keys or any(key.path[-1].id == 2**63 - 1 for key in keys)
    return ("OK",) if odd else answer


def _not_ours(field: str) -> Callable[[Exchange, Answer], Answer]:
    """What the embedded server says that it does not understand."""

    def restate(exchange: Exchange, answer: Answer) -> Answer:
        if exchange.method != "RunQuery" or exchange.our_answer != ("UNIMPLEMENTED",):
            return answer
        request = exchange.request
        parts = (
            (request, request.query) if isinstance(request, REQUESTS["RunQuery"]) else (request,)
        )
        named = (name.name for part in parts for name, _ in part.ListFields())
        return exchange.our_answer if field in named else answer

    return restate


# -- the table ---------------------------------------------------------------------------------


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


def _nothing_reserved(judge: Judge, place: Place) -> Exchange:
    request = REQUESTS["ReserveIds"](project_id=place.project)
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


_PUT = Write("upsert", ("K", 1), (("p", 1),))

DIFFERENCES: tuple[Difference, ...] = (
    # Those that ask again or give another answer altogether come first: the rest restate that.
    Difference(
        "one version for a commit",
        "FS, LF",
        "what a non-transactional commit writes has one version; the emulators give each mutation "
        "its own",
        "a commit is one transaction of the file, whatever its mode",
        _one_moment,
        _story(Step("NT", (_PUT, replace(_PUT, path=("K", 2))))),
    ),
    Difference(
        "orders after the key",
        "FS",
        "orders after __key__ are ignored; FS leaves out entities without those properties",
        "no two entities have one key, so that nothing is left to order; LF ignores them too",
        _order_after_key,
        _example(query("K", order=("__key__", "missing"))),
    ),
    Difference(
        "an entity once",
        "FS",
        "an entity with several values of a sort property is found once, at the first of its "
        "places; FS finds it once for each value",
        "the documentation says once, and an updater must not handle an entity twice",
        _repeated,
        _example(query("K", order=("q",))),
    ),
    Difference(
        "a cursor that is not taken back",
        "FS",
        "each result's cursor can be resumed from; FS gives cursors of a query with an inequality "
        "and an order by __key__ alone that it then refuses",
        "nothing can be resumed from a refusal; the embedded server is compared with itself there",
        _broken_cursor,
        _resumed,
    ),
    Difference(
        "the end by a cursor",
        "FS, LF",
        "a page that reaches its end_cursor says MORE_RESULTS_AFTER_CURSOR; FS says that there are "
        "no more, LF that the limit was reached",
        "it is what the reference says of that value",
        _end_cursor,
        _until_second,
    ),
    Difference(
        "the end by a limit",
        "FS",
        "a page with as many results as the limit says MORE_RESULTS_AFTER_LIMIT; FS looks whether "
        "there is one more",
        "the reference only says that there may be more; looking costs every page a row",
        _exact_limit,
        _example(query("K", limit=4)),
    ),
    Difference(
        "the end of a query",
        "LF",
        "the last page says NO_MORE_RESULTS; LF always says that a limit was reached",
        "it is what the reference says, and what clients stop at",
        _never_ends,
        _example(query("K")),
    ),
    Difference(
        "projections without a kind",
        "FS",
        "a projection without a kind is refused; FS lets some pass, with distinct_on or a filter "
        "of keys, and refuses the others",
        "there is no index over all kinds, and the reference asks for a kind",
        _kindless_projection,
        _example(query(projection=("p",), distinct=("p",))),
    ),
    Difference(
        "mutations that do not go together",
        "LF",
        "an insert after another write of the same entity is refused as INVALID_ARGUMENT; LF looks "
        "first whether the entity is there, and may say ALREADY_EXISTS or NOT_FOUND",
        "the reference forbids the sequence whatever is stored; FS does the same",
        _checked_first,
        _story(Step("SU", (_PUT, replace(_PUT, operation="insert")))),
    ),
    Difference(
        "a condition before existence",
        "LF",
        "a version that does not fit is FAILED_PRECONDITION, also for an update of what is gone "
        "and an insert of what is there; LF says NOT_FOUND and ALREADY_EXISTS",
        "the condition is the stronger demand; FS does the same",
        _existence_first,
        _story(Step("SU", (replace(_PUT, operation="update", base_version=CURRENT, strategy=3),))),
    ),
    Difference(
        "an insert of what was deleted",
        "FS",
        "an insert with version 0 succeeds where an entity was deleted; FS compares with the "
        "version of the deletion and refuses",
        "version 0 means that there is no entity; LF takes it",
        _insert_of_deleted,
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
        _more_aggregations,
        _aggregation(1),
    ),
    Difference(
        "too many aggregations",
        "FS",
        "a sixth aggregation is INVALID_ARGUMENT; FS fails with UNKNOWN",
        "it is a request that can never be right",
        _too_many_aggregations,
        _aggregation(6),
    ),
    Difference(
        "GQL",
        "FS",
        "a query in GQL is UNIMPLEMENTED; FS answers it",
        "the official clients send structured queries; nothing of bulkup's needs a parser",
        _not_ours("gql_query"),
        _asked_in_gql,
    ),
    Difference(
        "vectors",
        "FS",
        "find_nearest is UNIMPLEMENTED; FS searches vectors",
        "a nearest-neighbour search has no cursors, so that no updater can page through one",
        _not_ours("find_nearest"),
        _nearest,
    ),
    Difference(
        "the query below an aggregation",
        "FS",
        "a query that RunQuery refuses is refused below an aggregation, too; FS aggregates over it",
        "one query has one meaning",
        _unchecked_base,
        _aggregation(1, query("K", filter=all_of(where("p", "!=", 1), where("q", "!=", 1)))),
    ),
    Difference(
        "sums over all kinds",
        "FS",
        "SUM and AVG ask for a kind; FS sums over all kinds",
        "there is no index of a property over all kinds, and RunQuery refuses such filters too",
        _sum_of_all_kinds,
        _sum(query()),
    ),
    Difference(
        "sums over arrays",
        "FS",
        "SUM and AVG ignore arrays and COUNT beside them counts an entity once; FS takes each "
        "element as if it were an entity",
        "the reference says that what is not a number is ignored",
        _arrays_in_sums,
        _aggregation(1, None, "q"),
    ),
    Difference(
        "the end of a read-only transaction",
        "FS",
        "a commit without mutations ends a read-only transaction; FS refuses it",
        "clients end every transaction by a commit; LF takes it",
        _empty_read_only,
        _ended_read_only,
    ),
    Difference(
        "ids to reserve",
        "FS",
        "no ids at all and the greatest id can be reserved; FS fails with FAILED_PRECONDITION and "
        "UNKNOWN",
        "nothing is asked for, or something harmless; LF takes both",
        _reserved,
        _nothing_reserved,
    ),
)

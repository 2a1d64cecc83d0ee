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
from tests.local.differential.build import Place, query, where
from tests.local.differential.compare import Answer, Difference, Exchange, Judge
from tests.local.differential.story import CURRENT, Step, Write, story
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
    if not (_is_query(exchange) and _found(answer)) or exchange.request.projection:
        return answer
    request = exchange.request
    if request.start_cursor or request.end_cursor:
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
    return (f"OK FULL skipped={skipped} {end}", *rows)


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


def _not_found_first(exchange: Exchange, answer: Answer) -> Answer:
    ours = exchange.our_answer[0]
    if exchange.method == "Commit" and (answer[0], ours) == ("NOT_FOUND", "FAILED_PRECONDITION"):
        return (ours, *answer[1:])
    return answer


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


def _aggregation(counts: int) -> Callable[[Judge, Place], Exchange]:
    def run(judge: Judge, place: Place) -> Exchange:
        _numbers(judge, place)
        request = REQUESTS["RunAggregationQuery"](
            project_id=place.project, partition_id=place.partition()
        )
        request.aggregation_query.nested_query.CopyFrom(query("K"))
        for _ in range(counts):
            request.aggregation_query.aggregations.add().count.SetInParent()
        return judge.exchange(place, "RunAggregationQuery", request, say_aggregation)

    return run


def _resumed(judge: Judge, place: Place) -> Exchange:
    _numbers(judge, place)
    answers = []
    for wire in judge.both():
        asked = query("K", filter=where("p", ">=", 0), order=("-__key__",))
        asked.start_cursor = scan(wire, place, asked).cursors[0]
        answers.append(scan(wire, place, asked).answer())
    return Exchange(judge.ours, judge.theirs, place, "RunQuery", asked, answers[0], answers[1])


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
        "a guarded update of what is gone",
        "LF",
        "an update with a version and FAIL of an entity that is not there is FAILED_PRECONDITION; "
        "LF says NOT_FOUND",
        "the version is the stronger condition; FS does the same",
        _not_found_first,
        _story(Step("SU", (replace(_PUT, operation="update", base_version=CURRENT, strategy=3),))),
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
)

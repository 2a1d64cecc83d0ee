"""The table of every deliberate difference between the embedded Datastore and the emulators.

Nothing else may differ: neither what is found, nor its order, nor where a cursor continues, nor
the status of a refusal. (Versions, times, cursors, transaction ids and the wording of messages are
each server's own and compared by what they mean.) test_differences.py shows each row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.local.differential.answers import scan
from tests.local.differential.build import Place, query
from tests.local.differential.compare import Answer, Difference, Exchange, Judge
from tests.local.differential.wire import Query

LIMIT, CURSOR, END = "MORE_RESULTS_AFTER_LIMIT", "MORE_RESULTS_AFTER_CURSOR", "NO_MORE_RESULTS"


def _is_query(exchange: Exchange) -> bool:
    return exchange.method == "RunQuery" and isinstance(exchange.request, Query)


def _ended(answer: Answer, by: str) -> Answer:
    """The same answer with another reason for its end."""
    return (answer[0].rsplit(" ", 1)[0] + f" {by}", *answer[1:])


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


DIFFERENCES: tuple[Difference, ...] = (
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
)

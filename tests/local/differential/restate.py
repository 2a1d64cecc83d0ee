"""An emulator's answer as the embedded server would give it; one function per difference.

Every function takes an exchange and the emulator's answer, and returns that answer unchanged where
its difference does not apply. The table in differences.py explains each of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tests.local.differential.answers import Refusal, say_aggregation, scan
from tests.local.differential.compare import Answer, Exchange
from tests.local.differential.wire import REQUESTS, Query, QueryResultBatch

LIMIT, CURSOR, END = "MORE_RESULTS_AFTER_LIMIT", "MORE_RESULTS_AFTER_CURSOR", "NO_MORE_RESULTS"


def _is_query(exchange: Exchange) -> bool:
    return exchange.method == "RunQuery" and isinstance(exchange.request, Query)


def _ended(answer: Answer, by: str) -> Answer:
    """The same answer with another reason why it ended."""
    return (answer[0].rsplit(" ", 1)[0] + f" {by}", *answer[1:])


def _words(answer: Answer) -> str:
    return answer[0].words if isinstance(answer[0], Refusal) else ""


def _found(answer: Answer) -> bool:
    return answer[0].startswith("OK ")


# -- why a page ended --------------------------------------------------------------------------


def end_cursor(exchange: Exchange, answer: Answer) -> Answer:
    if not (_is_query(exchange) and _found(answer) and exchange.request.end_cursor):
        return answer
    ours = exchange.our_answer[0]
    if answer[0].endswith((END, LIMIT)) and ours.endswith((END, CURSOR)):
        return _ended(answer, ours.rsplit(" ", 1)[1])
    return answer


def exact_limit(exchange: Exchange, answer: Answer) -> Answer:
    if not (_is_query(exchange) and _found(answer) and exchange.request.HasField("limit")):
        return answer
    if answer[0].endswith(END) and len(answer) - 1 == exchange.request.limit.value:
        return _ended(answer, LIMIT)
    return answer


def never_ends(exchange: Exchange, answer: Answer) -> Answer:
    if not (_is_query(exchange) and _found(answer) and answer[0].endswith(LIMIT)):
        return answer
    request = exchange.request
    if request.HasField("limit") and len(answer) - 1 == request.limit.value:
        return answer
    return _ended(answer, CURSOR if request.end_cursor else END)


# -- orders ------------------------------------------------------------------------------------


def _asked_again(exchange: Exchange, asked: Any) -> Answer:
    return scan(exchange.theirs, exchange.place, asked).answer()


def order_after_key(exchange: Exchange, answer: Answer) -> Answer:
    """What LF would find if it left out entities without a property ordered by after the key."""
    if not (_is_query(exchange) and _found(answer)):
        return answer
    request = exchange.request
    names = [order.property.name for order in request.order]
    if "__key__" not in names[:-1] or request.start_cursor or request.end_cursor:
        return answer
    if request.offset or request.HasField("limit"):
        return answer
    rows = answer[1:]
    for name in names[names.index("__key__") + 1 :]:
        those = Query(kind=request.kind, projection=request.projection)
        those.order.add().property.name = name
        having = set(_asked_again(exchange, those)[1:])
        rows = tuple(row for row in rows if row in having)
    return (answer[0], *rows)


def repeated(exchange: Exchange, answer: Answer) -> Answer:
    """What FS would find if it returned each entity once, at its first position."""
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


def one_moment(exchange: Exchange, answer: Answer) -> Answer:
    if exchange.their_moments is None or answer != exchange.their_answer:
        return answer
    return exchange.their_moments


def checked_first(exchange: Exchange, answer: Answer) -> Answer:
    """LF checks what is stored before it checks whether two mutations exclude each other."""
    refused = answer[0] in ("ALREADY_EXISTS", "NOT_FOUND")
    if exchange.method == "Commit" and refused and exchange.our_answer[0] == "INVALID_ARGUMENT":
        in_order = re.search(r"Cannot \w+ then \w+ an entity", _words(exchange.our_answer))
        return ("INVALID_ARGUMENT", *answer[1:]) if in_order else answer
    return answer


def existence_first(exchange: Exchange, answer: Answer) -> Answer:
    ours = exchange.our_answer[0]
    if exchange.method != "Commit" or ours != "FAILED_PRECONDITION":
        return answer
    return (ours, *answer[1:]) if answer[0] in ("NOT_FOUND", "ALREADY_EXISTS") else answer


def zero_of_deleted(exchange: Exchange, answer: Answer) -> Answer:
    """FS keeps the version at which an entity was deleted, and compares with it."""
    ours = exchange.our_answer
    if exchange.method != "Commit" or answer[0] != "FAILED_PRECONDITION" or ours[0] != "OK":
        return answer
    zero = _words(answer).endswith("does not match the required base version (0)")
    # At least one entity that the embedded server wrote did not exist before: the deleted one.
    place = ours.index("then")
    changed = set(answer[answer.index("then") :]) - set(ours[place:])
    return ours if zero and len(changed) < place - 1 else answer


# -- aggregations ------------------------------------------------------------------------------


def more_aggregations(exchange: Exchange, answer: Answer) -> Answer:
    if exchange.method == "RunAggregationQuery" and answer[:2] == ("OK", "0"):
        return ("OK", str(QueryResultBatch.NO_MORE_RESULTS), *answer[2:])
    return answer


def too_many_aggregations(exchange: Exchange, answer: Answer) -> Answer:
    if exchange.method != "RunAggregationQuery" or answer != ("UNKNOWN",):
        return answer
    many = len(exchange.request.aggregation_query.aggregations) > 5
    return ("INVALID_ARGUMENT",) if many else answer


def _of_base(exchange: Exchange) -> Any:
    return exchange.request.aggregation_query.nested_query


def unchecked_base(exchange: Exchange, answer: Answer) -> Answer:
    """FS aggregates over queries that it would refuse to run."""
    if exchange.method != "RunAggregationQuery" or answer[0] != "OK":
        return answer
    base = _asked_again(exchange, _of_base(exchange))
    return ("INVALID_ARGUMENT",) if base == ("INVALID_ARGUMENT",) else answer


def sum_of_all_kinds(exchange: Exchange, answer: Answer) -> Answer:
    if exchange.method != "RunAggregationQuery" or answer[0] != "OK" or _of_base(exchange).kind:
        return answer
    counted = all(a.HasField("count") for a in exchange.request.aggregation_query.aggregations)
    return answer if counted else ("INVALID_ARGUMENT",)


def arrays_in_sums(exchange: Exchange, answer: Answer) -> Answer:
    """The row says which numbers FS takes; this checks that only arrays make the difference."""
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


def times_in_sums(exchange: Exchange, answer: Answer) -> Answer:
    """FS sums over index values where it can, and these do not distinguish times from integers."""
    if exchange.method != "RunAggregationQuery" or answer[0] != "OK":
        return answer
    whole = Query()
    whole.CopyFrom(_of_base(exchange))
    del whole.projection[:], whole.distinct_on[:]
    rows = _asked_again(exchange, whole)[1:]
    for one in exchange.request.aggregation_query.aggregations:
        which = one.WhichOneof("operator")
        if which == "count":
            continue
        name = getattr(one, which).property.name.rsplit(".")[-1]
        if any(re.search(rf"[{{ ]{re.escape(name)}=t-?\d", row) for row in rows):
            return exchange.our_answer
    return answer


def _ranged(filter_: Any) -> set[str]:
    """The properties that a filter has an inequality on."""
    one = filter_.property_filter
    if filter_.HasField("property_filter"):
        equal = one.op in (one.EQUAL, one.IN, one.HAS_ANCESTOR)
        return set() if equal else {one.property.name}
    return {name for inner in filter_.composite_filter.filters for name in _ranged(inner)}


def order_of_sums(exchange: Exchange, answer: Answer) -> Answer:
    """What FS answers when the query names its implied order."""
    if exchange.method != "RunAggregationQuery" or answer[0] != "OK":
        return answer
    base = _of_base(exchange)
    ordered = [order.property.name for order in base.order]
    part = base.offset or base.HasField("limit")
    if not part or "__key__" in ordered:
        return answer
    projected = [one.property.name for one in base.projection]
    for direction in (1, 2):
        request = type(exchange.request)()
        request.CopyFrom(exchange.request)
        query = request.aggregation_query.nested_query
        for name in [*sorted(_ranged(base.filter)), *sorted(projected), "__key__"]:
            if name not in [order.property.name for order in query.order]:
                query.order.add(direction=direction).property.name = name
        reply = exchange.theirs.call("RunAggregationQuery", request)
        if reply.code == "OK":
            said = more_aggregations(exchange, ("OK", *say_aggregation(reply.body)))
            if said == exchange.our_answer:
                return said
    return answer


# -- refusals ----------------------------------------------------------------------------------


def kindless_projection(exchange: Exchange, answer: Answer) -> Answer:
    if exchange.method == "RunAggregationQuery" and answer[0] == "OK":
        request = _of_base(exchange)
    elif _is_query(exchange) and _found(answer):
        request = exchange.request
    else:
        return answer
    names = {p.property.name for p in request.projection} - {"__key__"}
    return ("INVALID_ARGUMENT",) if names and not request.kind else answer


def broken_cursor(exchange: Exchange, answer: Answer) -> Answer:
    """FS returns a cursor that it then refuses. Elsewhere the embedded server is tested alone."""
    request = exchange.request
    if _is_query(exchange) and answer == ("INVALID_ARGUMENT",):
        broken = _words(answer) == "index data should not include primary key"
        if broken and (request.start_cursor or request.end_cursor):
            return exchange.our_answer
    return answer


def empty_read_only(exchange: Exchange, answer: Answer) -> Answer:
    if exchange.method != "Story":
        return answer
    return tuple("end: OK" if line == "end: INVALID_ARGUMENT" else line for line in answer)


def reserved(exchange: Exchange, answer: Answer) -> Answer:
    if exchange.method != "ReserveIds" or answer != ("UNKNOWN",):
        return answer
    greatest = any(key.path[-1].id == 2**63 - 1 for key in exchange.request.keys)
    return ("OK",) if greatest else answer


def not_ours(field: str) -> Callable[[Exchange, Answer], Answer]:
    """What the embedded server does not support."""

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


def reserved_underscores(exchange: Exchange, answer: Answer) -> Answer:
    """FS accepts the reserved name that consists of underscores only."""
    if exchange.method != "Commit" or isinstance(exchange.request, str) or answer != ("OK",):
        return answer
    names = {name for m in exchange.request.mutations for name in m.upsert.properties}
    return ("INVALID_ARGUMENT",) if "____" in names else answer


def masked_keys(exchange: Exchange, answer: Answer) -> Answer:
    request = exchange.request
    if exchange.method != "RunQuery" or not isinstance(request, REQUESTS["RunQuery"]):
        return answer
    masked = request.HasField("property_mask") and len(request.query.projection)
    return ("INVALID_ARGUMENT",) if masked and answer[0] == "OK" else answer


def _stored_values(exchange: Exchange) -> list[Any]:
    """The values of all properties that a commit puts."""
    if exchange.method != "Commit" or isinstance(exchange.request, str):
        return []
    entities = [m.upsert for m in exchange.request.mutations]
    return [value for entity in entities for value in entity.properties.values()]


def _number_of_values(value: Any) -> int:
    return len(value.array_value.values) if value.HasField("array_value") else 1


def many_values(exchange: Exchange, answer: Answer) -> Answer:
    if answer != ("INVALID_ARGUMENT",) or _words(answer) != "Too many indexed properties":
        return answer
    number = sum(map(_number_of_values, _stored_values(exchange)))
    return exchange.our_answer if 5_000 < number <= 20_000 else answer


def _depth(value: Any) -> tuple[int, int]:
    """The depth of nested entities, and of nested entities and arrays."""
    inner: list[Any] = list(value.array_value.values)
    inner += value.entity_value.properties.values()
    below = [_depth(one) for one in inner] or [(0, 0)]
    entities, both = (max(of) for of in zip(*below, strict=True))
    is_entity = value.HasField("entity_value")
    return entities + is_entity, both + (is_entity or value.HasField("array_value"))


def nested_arrays(exchange: Exchange, answer: Answer) -> Answer:
    if answer != ("INVALID_ARGUMENT",) or "nested array/entity values" not in _words(answer):
        return answer
    depths = [_depth(value) for value in _stored_values(exchange)]
    fine = all(entities <= 20 for entities, _ in depths) and any(both > 20 for _, both in depths)
    return exchange.our_answer if fine else answer


def point_meaning(exchange: Exchange, answer: Answer) -> Answer:
    if answer != ("INVALID_ARGUMENT",):
        return answer
    values = _stored_values(exchange)
    marked = any(v.HasField("geo_point_value") and v.meaning == 23 for v in values)
    return exchange.our_answer if marked else answer


def broken_filter(exchange: Exchange, answer: Answer) -> Answer:
    """FS has bugs with unusual values in a filter, and with the same ancestor twice."""
    if not (_is_query(exchange) and answer == ("UNKNOWN",)):
        return answer
    if str(exchange.request.filter).count("op: HAS_ANCESTOR") > 1:
        return exchange.our_answer
    of_filter = exchange.request.filter.property_filter.value
    if any(one.exclude_from_indexes for one in of_filter.array_value.values):
        return ("INVALID_ARGUMENT",)
    if of_filter.meaning == 18:
        plain = Query()
        plain.CopyFrom(exchange.request)
        plain.filter.property_filter.value.meaning = 0
        return _asked_again(exchange, plain)
    return answer

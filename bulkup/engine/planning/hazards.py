"""What may go wrong in a run, as far as the handled entities show it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bulkup.core.limits import MAX_ENTITY_BYTES
from bulkup.core.model import Counts, TargetInfo
from bulkup.core.plan import Hazard, PlanWarning
from bulkup.core.visible import visible
from bulkup.datastore.keys import key_text
from bulkup.datastore.messages import Direction, Operator, Pb
from bulkup.datastore.value_flags import is_excluded
from bulkup.engine.planning.change_kinds import Changed
from bulkup.engine.scan import QueryPlan

MIN_VALUES = 20
"""Fewer writes of a property say nothing about its values."""

MAX_WATCHED = 200
"""Properties whose values are checked."""

NEAR = 0.9
"""Share of the size limit of an entity: above it, the next property may be too much."""

FAR_S = 0.05
"""A round trip within a region takes a few milliseconds, to the next continent 80 and more."""

HOT_RATE = 500
"""Writes a second that Datastore takes in one narrow range of an index
(https://cloud.google.com/datastore/docs/best-practices)."""


@dataclass
class _Watched:
    """The values that writes give one property, in the order of the scan."""

    first: bytes
    last: tuple[str, Any] | None
    seen: int = 1
    is_one: bool = True
    rises: bool = True


class Values:
    """Looks for values that all land in one place of an index."""

    def __init__(self) -> None:
        self._watched: dict[tuple[str, str], _Watched] = {}

    def add(self, kind: str, changed: Iterable[Changed]) -> None:
        for _, name, value in ((kind, one.name, one.after) for one in changed):
            if value is None or is_excluded(value):
                continue
            found = self._watched.get((kind, name))
            order = _order(value)
            if found is None:
                if len(self._watched) < MAX_WATCHED:
                    self._watched[kind, name] = _Watched(_bytes(value), order)
                continue
            found.seen += 1
            found.is_one = found.is_one and found.first == _bytes(value)
            found.rises = found.rises and _is_above(order, found.last)
            found.last = order

    def warnings(self) -> Iterator[PlanWarning]:
        for (kind, name), one in self._watched.items():
            if one.seen < MIN_VALUES:
                continue
            shown = f"{visible(name)} of {visible(kind)}"
            advice = (
                f"above {HOT_RATE} writes a second such a place of the index becomes a hot spot; "
                "exclude the property from indexes if no query needs it, or slow the run with "
                f"--max-rate {HOT_RATE}"
            )
            if one.is_one:
                yield PlanWarning(
                    Hazard.ONE_VALUE,
                    f"the writes that change it give the indexed property {shown} the same value: "
                    f"{advice}",
                )
            elif one.rises:
                yield PlanWarning(
                    Hazard.RISING_VALUE,
                    f"the value of the indexed property {shown} rises from entity to entity: "
                    f"{advice}",
                )


def _bytes(value: Pb) -> bytes:
    serialized: bytes = value.SerializeToString(deterministic=True)
    return serialized[:2000]  # an indexed value has at most 1,500 bytes


def _order(value: Pb) -> tuple[str, Any] | None:
    """A value that compares as in an index; None if the property's value is not checked."""
    which = value.WhichOneof("value_type")
    if which == "timestamp_value":
        return which, (value.timestamp_value.seconds, value.timestamp_value.nanos)
    if which == "string_value":
        return which, value.string_value.encode()
    if which in ("integer_value", "double_value"):
        return which, getattr(value, which)
    return None


def _is_above(value: tuple[str, Any] | None, last: tuple[str, Any] | None) -> bool:
    if value is None or last is None or value[0] != last[0]:
        return False
    return bool(value[1] > last[1])


class Sizes:
    """Looks for entities that a write takes near the limit."""

    def __init__(self) -> None:
        self._near = self._largest = 0
        self._key: Pb = None

    def add(self, after: Pb) -> None:
        size = after.ByteSize()
        if size < NEAR * MAX_ENTITY_BYTES:
            return
        self._near += 1
        if size > self._largest:
            self._largest, self._key = size, after.key

    def warnings(self) -> Iterator[PlanWarning]:
        if self._near:
            many = "1 entity is" if self._near == 1 else f"{self._near:,} entities are"
            yield PlanWarning(
                Hazard.NEAR_LIMIT,
                f"{many} near the limit of {MAX_ENTITY_BYTES:,} bytes after the write; the largest "
                f"of those looked at, {key_text(self._key)}, has {self._largest:,}",
            )


def query_warnings(query: QueryPlan, counts: Counts, target: TargetInfo) -> Iterator[PlanWarning]:
    """Warnings about the query itself. `counts`: of the entities that were handled."""
    has_condition = bool(query.pb.filter.WhichOneof("filter_type"))
    if counts.deleted and counts.deleted == counts.handled and not has_condition and query.pb.kind:
        kind = visible(query.pb.kind[0].name)
        yield PlanWarning(
            Hazard.UNFILTERED_DELETE,
            f"every entity of {kind} is deleted: the managed bulk delete (`gcloud firestore "
            "bulk-delete`) does that without reading them, and a TTL policy deletes them as they "
            "expire",
        )
    if target.is_real:
        return  # it has answered the query, so the index is there
    index = needed_index(query.pb)
    if index:
        kind = visible(query.pb.kind[0].name) if query.pb.kind else "?"
        parts = ", ".join(f"{visible(name)}{' desc' if down else ''}" for name, down in index)
        yield PlanWarning(
            Hazard.NEEDS_INDEX,
            f"on a real project this query needs a composite index on {kind} ({parts}): add it to "
            "index.yaml and run `gcloud datastore indexes create index.yaml` before",
        )


def needed_index(query: Pb) -> Sequence[tuple[str, bool]]:
    """The properties, and whether each is descending, of the composite index that a query needs;
    empty if the built-in indexes are enough.

    The built-in indexes answer equality conditions on any properties, together with an ancestor and
    conditions on the key, and an order or range on one property with nothing else.
    """
    equal: list[str] = []
    ranged: list[str] = []
    for name, operator in _conditions(query.filter):
        if operator in (Operator.EQUAL, Operator.IN):
            equal.append(name)
        else:
            ranged.append(name)
    has_ancestor = "__key__" in ranged and _has_ancestor(query.filter)
    orders = [(o.property.name, o.direction == Direction.DESCENDING) for o in query.order]
    equal = sorted({name for name in equal if name != "__key__"})
    ordered = dict(orders)
    for name in ranged:
        if name != "__key__":
            ordered.setdefault(name, False)
    ordered = {name: down for name, down in ordered.items() if name not in equal}
    by_key = ordered.get("__key__")
    properties = {name: down for name, down in ordered.items() if name != "__key__"}
    if not properties:
        if not by_key:
            return ()
        return [*((name, False) for name in equal), ("__key__", True)]
    if len(properties) == 1 and not equal and not has_ancestor and not by_key:
        return ()
    return [*((name, False) for name in equal), *properties.items()]


def _conditions(part: Pb) -> Iterator[tuple[str, Any]]:
    which = part.WhichOneof("filter_type")
    if which == "composite_filter":
        for inner in part.composite_filter.filters:
            yield from _conditions(inner)
    elif which:
        yield part.property_filter.property.name, part.property_filter.op


def _has_ancestor(part: Pb) -> bool:
    return any(operator == Operator.HAS_ANCESTOR for _, operator in _conditions(part))


def distance_warnings(round_trip_s: float, target: TargetInfo) -> Iterator[PlanWarning]:
    if target.is_real and round_trip_s > FAR_S:
        yield PlanWarning(
            Hazard.FAR_AWAY,
            f"a round trip to Datastore takes {round_trip_s * 1000:.0f} ms from here: the run is "
            "faster, and cheaper in traffic, on a machine in the database's region",
        )

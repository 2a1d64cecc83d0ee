"""Handles some results again, in memory: a handler that changes its own result is not idempotent.

Done after everything else, because calling a handler twice may change what it keeps in `self`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from bulkup.core.plan import Hazard, PlanWarning
from bulkup.core.visible import visible
from bulkup.datastore.keys import key_of, key_text
from bulkup.datastore.messages import AND, EntityPb, Operator, Pb
from bulkup.datastore.pages import PageEntity, PageResult
from bulkup.engine.any_handler import AnyHandler
from bulkup.engine.handled import Handled, written
from bulkup.engine.planning.change_kinds import changed_properties
from bulkup.engine.scan import QueryPlan

MOST = 200
"""Results that are handled again."""

MOST_BYTES = 16 * 1024 * 1024
"""Limit for all these results together; a result that would exceed it is left out."""

NAMED = 5
"""Properties that the warning names."""


class Results:
    """Keeps the results of some handled entities, each with the same chance."""

    def __init__(self, query: QueryPlan, random: Random) -> None:
        self._query = query
        self._random = random
        self._seen = 0
        self._bytes = 0
        self._kept: list[tuple[bytes, bytes, int]] = []
        """Key, serialized Entity and version."""

    def add(self, item: Handled, after: Pb, version: int) -> None:
        """Note the result of an entity that was put."""
        if self._query.keys_only or not still_matches(self._query.pb.filter, after):
            return  # the next run would not meet it
        self._seen += 1
        place = len(self._kept)
        if place == MOST and (place := self._random.randrange(self._seen)) >= MOST:
            return
        data = after.SerializeToString()
        replaced = len(self._kept[place][1]) if place < len(self._kept) else 0
        if self._bytes + len(data) - replaced > MOST_BYTES:
            return
        self._bytes += len(data) - replaced
        self._kept[place : place + 1] = [(item.key, data, version)]

    def handle_again(self, handler: AnyHandler, check: Callable[[], None]) -> Iterator[PlanWarning]:
        """Call the handler for each. Raises CallError, HeldError, and what `check` raises."""
        changed = creates = fails = 0
        first = b""
        names: dict[str, None] = {}
        with handler.open():
            for key, data, version in self._kept:
                check()
                result = PageResult(entity=PageEntity.FromString(data), version=version)
                item = handler.handle(result, key, b"")
                if item.failure is not None:
                    fails += 1
                elif found := _changes(item, EntityPb.FromString(data)):
                    changed += 1
                    names.update(dict.fromkeys(found))
                elif any(write.incomplete for write in item.writes):
                    creates += 1
                else:
                    continue
                first = first or key
        if first:
            yield PlanWarning(
                Hazard.NOT_IDEMPOTENT,
                f"of {len(self._kept):,} results that were handled again, "
                + ", ".join(_outcomes(changed, list(names), creates, fails))
                + f" (first {key_text(key_of(first))}): a run handles each entity once, even if it "
                "is killed and resumed, but a second run of this updater "
                + ("changes them again" if changed or creates else "fails there"),
            )


def _changes(item: Handled, before: Pb) -> list[str]:
    """The properties of its own entity that a second handling changes."""
    for write in item.writes:
        if write.key == item.key:
            if write.deletes:
                return ["(deleted)"]
            return [one.name for one in changed_properties(before, written(write))]
    return []


def _outcomes(changed: int, names: list[str], creates: int, fails: int) -> Iterator[str]:
    if changed:
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        shown = ", ".join(map(visible, names[:NAMED]))
        yield f"{changed:,} changed again ({shown}{more})"
    if creates:
        yield f"{creates:,} created entities again"
    if fails:
        yield f"{fails:,} failed"


def still_matches(part: Pb, entity: Pb) -> bool:
    """Returns False if an equality condition is no longer met. Other conditions are not checked."""
    which = part.WhichOneof("filter_type")
    if which == "composite_filter":
        if part.composite_filter.op != AND:
            return True
        return all(still_matches(inner, entity) for inner in part.composite_filter.filters)
    if not which or part.property_filter.op != Operator.EQUAL:
        return True
    name, wanted = part.property_filter.property.name, part.property_filter.value
    if name == "__key__" or "." in name:
        return True
    value = entity.properties.get(name)
    if value is None:
        return False
    values = value.array_value.values if value.HasField("array_value") else [value]
    return any(_plain(one) == _plain(wanted) for one in values)


def _plain(value: Pb) -> tuple[str | None, Any]:
    """A value without its index flag and its meaning."""
    which = value.WhichOneof("value_type")
    return which, getattr(value, which) if which else None

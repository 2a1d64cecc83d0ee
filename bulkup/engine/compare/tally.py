"""Counts what differs, and keeps the differences to show. Memory does not grow with the number of
entities."""

from __future__ import annotations

from bisect import insort
from collections import Counter
from dataclasses import dataclass, field
from itertools import chain
from typing import Generic, TypeVar

from bulkup.core.difference import Change, KindDiff, PropertyCount
from bulkup.datastore.entity_compare import PropertyDifference, property_differences
from bulkup.datastore.keys import key_of
from bulkup.engine.compare.comparison import Difference
from bulkup.engine.splits import Order

T = TypeVar("T")

MOST_PROPERTIES = 1000
"""Names of properties (with types) that are counted one by one, per kind. Where names come from
data, there may be as many names as entities."""
MOST_KINDS = 1000
OTHERS = "(others)"


@dataclass
class KindTally:
    same: int = 0
    changes: Counter[Change] = field(default_factory=Counter)
    _properties: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def note(self, name: str, types: tuple[str, str]) -> None:
        key = (name, *types)
        if key not in self._properties and len(self._properties) >= MOST_PROPERTIES:
            key = (OTHERS, "", "")
        self._properties[key] += 1

    def result(self, kind: str) -> KindDiff:
        found = [PropertyCount(*key, count) for key, count in self._properties.items()]
        found.sort(key=lambda one: (-one.count, one.name, one.before, one.after))
        changed, only_a, only_b = (self.changes[change] for change in Change)
        return KindDiff(kind, self.same, changed, only_a, only_b, tuple(found))


class Tally:
    """Counts what a comparison finds, by kind."""

    def __init__(self) -> None:
        self._kinds: dict[str, KindTally] = {}
        self.compared = 0
        self.different = 0

    def same(self, key: bytes) -> None:
        self.compared += 1
        self._of(str(key_of(key).path[-1].kind)).same += 1

    def found(self, difference: Difference) -> list[PropertyDifference]:
        """Count a difference. Returns the properties that differ, if both sides have the entity."""
        self.compared += 1
        self.different += 1
        kind = self._of(difference.kind)
        kind.changes[difference.change] += 1
        if difference.a is None or difference.b is None:
            return []
        inside = property_differences(difference.a.entity, difference.b.entity, difference.names)
        for one in inside:
            kind.note(one.name, one.types())
        return inside

    def kinds(self) -> tuple[KindDiff, ...]:
        """Sorted by name."""
        return tuple(tally.result(kind) for kind, tally in sorted(self._kinds.items()))

    def _of(self, kind: str) -> KindTally:
        found = self._kinds.get(kind)
        if found is None:
            if len(self._kinds) >= MOST_KINDS:
                kind = OTHERS
            found = self._kinds.setdefault(kind, KindTally())
        return found


class FirstOf(Generic[T]):
    """Keeps the first `size` items of each group by key, in whatever order they arrive."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._groups: dict[str, list[tuple[Order, int, T]]] = {}
        self._number = 0

    def add(self, group: str, order: Order, item: T) -> None:
        first = self._groups.setdefault(group, [])
        if len(first) >= self._size and (not first or order >= first[-1][0]):
            return
        self._number += 1  # no two entries are equal, so items are never compared
        insort(first, (order, self._number, item))
        del first[self._size :]

    def items(self) -> list[T]:
        """All items that were kept, in the order of their keys."""
        return [item for *_, item in sorted(chain.from_iterable(self._groups.values()))]

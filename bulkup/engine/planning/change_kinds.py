"""Groups writes by their kind: which properties change, from which type to which.

A plan over a million entities has a handful of kinds, and each shows a few of its writes. Memory
does not grow with the number of writes, even if each is of a different kind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from bulkup.core.changes import WouldChange
from bulkup.core.intervals import sum_estimate
from bulkup.core.plan import ChangeKind, PropertyKind
from bulkup.datastore.messages import Pb
from bulkup.datastore.value_flags import is_excluded

EXAMPLES = 3
MAX_KINDS = 200
SHOWN_KINDS = 50
MAX_PROPERTIES = 50
"""Properties that are told apart in one kind; an entity may have 20,000."""

_TYPES = {
    "null_value": "null", "boolean_value": "boolean", "integer_value": "integer",
    "double_value": "double", "timestamp_value": "timestamp", "key_value": "key",
    "string_value": "string", "blob_value": "blob", "geo_point_value": "geo point",
    "entity_value": "entity", "array_value": "array",
}  # fmt: skip


class Changed(NamedTuple):
    """A property that a write changes. A value is None if the property is absent."""

    name: str
    before: Pb | None
    after: Pb | None


def changed_properties(before: Pb | None, after: Pb | None) -> list[Changed]:
    """The properties that differ, sorted by name. None: there is no such entity."""
    old: Any = {} if before is None else before.properties
    new: Any = {} if after is None else after.properties
    found = []
    for name in sorted({*old, *new}):
        one, other = old.get(name), new.get(name)
        if one is None or other is None or one != other:
            found.append(Changed(name, one, other))
    return found


def type_of(value: Pb | None) -> str | None:
    """`string`, or `string, not indexed`."""
    if value is None:
        return None
    name = _TYPES.get(value.WhichOneof("value_type") or "", "unknown type")
    return f"{name}, not indexed" if is_excluded(value) else name


class _Signature(NamedTuple):
    action: str
    kind: str
    properties: tuple[tuple[str, str | None, str | None], ...]


@dataclass
class _Kind:
    writes: int = 0
    per_entity: Counter[int] = field(default_factory=Counter)
    """How many handled entities ask for how many writes of this kind."""
    examples: list[WouldChange] = field(default_factory=list)


class ChangeKinds:
    def __init__(self) -> None:
        self._kinds: dict[_Signature, _Kind] = {}
        self.others = 0
        """Writes of kinds beyond MAX_KINDS."""
        self._of_entity: Counter[_Signature] = Counter()

    def add(
        self,
        action: str,
        kind: str,
        changed: Sequence[Changed],
        example: Callable[[], WouldChange],
    ) -> None:
        """Note a write of the entity that was handled last."""
        shown = [] if action in ("delete", "delete other") else changed[:MAX_PROPERTIES]
        properties = tuple((one.name, type_of(one.before), type_of(one.after)) for one in shown)
        signature = _Signature(action, kind, properties)
        found = self._kinds.get(signature)
        if found is None:
            if len(self._kinds) == MAX_KINDS:
                self.others += 1
                return
            found = self._kinds[signature] = _Kind()
        found.writes += 1
        self._of_entity[signature] += 1
        if len(found.examples) < EXAMPLES:
            event = example()
            without_values = tuple(replace(change, values=None) for change in event.changes)
            found.examples.append(replace(event, changes=without_values))

    def end_entity(self) -> None:
        """Call this when all writes of a handled entity are noted."""
        for signature, writes in self._of_entity.items():
            self._kinds[signature].per_entity[writes] += 1
        self._of_entity.clear()

    def most_frequent(self, drawn: int, total: int) -> tuple[ChangeKind, ...]:
        ordered = sorted(self._kinds.items(), key=lambda one: -one[1].writes)
        return tuple(self._shown(ordered[:SHOWN_KINDS], drawn, total))

    def left_out(self) -> int:
        """Writes of kinds that `most_frequent` leaves out."""
        ordered = sorted((kind.writes for kind in self._kinds.values()), reverse=True)
        return self.others + sum(ordered[SHOWN_KINDS:])

    def _shown(
        self, kinds: Sequence[tuple[_Signature, _Kind]], drawn: int, total: int
    ) -> Iterator[ChangeKind]:
        for signature, kind in kinds:
            yield ChangeKind(
                signature.action,
                signature.kind,
                tuple(PropertyKind(*one) for one in signature.properties),
                kind.writes,
                sum_estimate(dict(kind.per_entity), drawn, total),
                tuple(kind.examples),
            )

"""What a run has done to the data: the differences between two states, added up for a report.

Memory does not grow with the number of entities that differ.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from bulkup.core.changes import WouldChange
from bulkup.core.plan import PlanWarning
from bulkup.core.rehearsal import Effect, PropertyEffect
from bulkup.datastore.entity_compare import EntityComparison, Partition
from bulkup.datastore.keys import key_text
from bulkup.datastore.lazy_entity import LazyEntity
from bulkup.datastore.messages import EntityPb, Pb
from bulkup.datastore.pages import PageEntity
from bulkup.engine.compare.values import Values
from bulkup.engine.dry_run import would_put
from bulkup.engine.planning.change_kinds import Changed, ChangeKinds
from bulkup.engine.planning.hazards import Sizes
from bulkup.engine.planning.hazards import Values as IndexedValues

MOST_PROPERTIES = 200
"""Properties with a summary of their values. Where names come from data, there may be as many names
as entities."""

_ENTITIES = EntityComparison(Partition("", "", ""), Partition("", "", ""))
"""Both sides are in the same place."""


class Tally:
    """Adds up differences. `without`: properties (`Kind.name`) that do not count."""

    def __init__(self, without: Iterable[str] = ()) -> None:
        self._without = frozenset(without)
        self._created = self._changed = self._deleted = 0
        self._kinds = ChangeKinds()
        self._properties: dict[tuple[str, str], tuple[Values, Values]] = {}
        self._more_properties: set[int] = set()
        self._indexed, self._sizes = IndexedValues(), Sizes()

    def add(self, before: bytes | None, after: bytes | None) -> bool:
        """Note an entity as two serialized Entity messages, which may be equal; None if it is not
        there. Returns whether they differ."""
        if before is None or after is None:
            self._one_side(before, after)
            return True
        names = self.differing(before, after)
        if not names:
            return False
        old, new = EntityPb.FromString(before), EntityPb.FromString(after)
        kind = kind_of(new)
        changed = [Changed(n, old.properties.get(n), new.properties.get(n)) for n in names]
        self._changed += 1
        self._note("update", kind, changed, LazyEntity(old), new)
        for one in changed:
            self._values(kind, one)
        return True

    def differing(self, before: bytes, after: bytes) -> list[str]:
        """The properties that differ and count, sorted."""
        one, other = PageEntity.FromString(before), PageEntity.FromString(after)
        names = _ENTITIES.differing(one, other)
        if names and self._without:
            kind = kind_of(EntityPb.FromString(after))
            names = [name for name in names if f"{kind}.{name}" not in self._without]
        return names

    def _one_side(self, before: bytes | None, after: bytes | None) -> None:
        if after is not None:
            new = EntityPb.FromString(after)
            self._created += 1
            changed = [Changed(n, None, new.properties[n]) for n in sorted(new.properties)]
            self._note("create", kind_of(new), changed, None, new)
        elif before is not None:
            old = EntityPb.FromString(before)
            self._deleted += 1
            event = WouldChange(key_text(old.key), "delete")
            self._kinds.add("delete", kind_of(old), [], lambda: event)
            self._kinds.end_entity()

    def _note(
        self, action: str, kind: str, changed: list[Changed], before: LazyEntity | None, after: Pb
    ) -> None:
        self._kinds.add(action, kind, changed, partial(would_put, before, after))
        self._kinds.end_entity()
        self._indexed.add(kind, changed)
        self._sizes.add(after)

    def _values(self, kind: str, changed: Changed) -> None:
        key = kind, changed.name
        found = self._properties.get(key)
        if found is None:
            if len(self._properties) == MOST_PROPERTIES:
                if len(self._more_properties) < 100_000:
                    self._more_properties.add(hash(key))
                return
            found = self._properties[key] = Values(), Values()
        found[0].add(changed.before)
        found[1].add(changed.after)

    def effect(self) -> Effect:
        total = self._created + self._changed + self._deleted
        properties = []
        for (kind, name), (before, after) in sorted(self._properties.items()):
            left, right = before.summary(), after.summary()
            changed = sum(count for _, count in left.types)
            properties.append(PropertyEffect(kind, name, changed, left, right))
        warnings: list[PlanWarning] = [*self._indexed.warnings(), *self._sizes.warnings()]
        return Effect(
            self._created,
            self._changed,
            self._deleted,
            self._kinds.most_frequent(total, total),
            self._kinds.left_out(),
            tuple(properties),
            len(self._more_properties),
            tuple(warnings),
        )


def effect_of(changes: Iterable[tuple[bytes | None, bytes | None]]) -> Effect:
    tally = Tally()
    for before, after in changes:
        tally.add(before, after)
    return tally.effect()


def kind_of(entity: Pb) -> str:
    return str(entity.key.path[-1].kind)

"""Looks in the entities that are read for what the updater was told to look for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from bulkup.authoring.sought import Looked, Sought
from bulkup.authoring.updater import Updater
from bulkup.core.events import WarningKind
from bulkup.datastore.reads import ABSENT

FIRST = 100
"""Entities whose properties are remembered, to name what was meant."""

MOST_NAMES = 500
"""Limit for the names of these properties, because names may come from data."""


class SoughtWatch:
    """Called with pages, until everything is found: most updaters look for nothing, and what is
    there is usually in the first entity."""

    def __init__(self, updater: Updater) -> None:
        ignored = frozenset(updater.ignore_warnings)
        self._missing: list[Sought] = [
            one for one in updater._sought() if one.kind.value not in ignored
        ]
        self._names: Counter[str] = Counter()
        self._entities = 0
        self.is_open = bool(self._missing)

    def found(self, results: Sequence[Any]) -> None:
        """Look in entities that were read. Call it before they are handled, which may patch their
        messages."""
        for result in results:
            if result.version == ABSENT:
                continue
            properties = result.entity.properties
            is_first = self._entities < FIRST
            self._entities += 1
            if is_first and len(self._names) < MOST_NAMES:
                self._names.update(properties.keys())
            for one in self._missing:
                if (is_first or not one.only_first) and one.is_in(properties):
                    self._missing = [other for other in self._missing if other is not one]
        self.is_open = bool(self._missing)

    def taken(self) -> Iterator[tuple[str, WarningKind]]:
        """A sentence for each thing that no entity has; each is returned only once."""
        missing, self._missing, self.is_open = self._missing, [], False
        if not self._entities:
            return
        looked = Looked(self._entities, self._names, min(self._entities, FIRST), missing)
        for one in missing:
            if sentence := one.sentence(looked):
                yield sentence, one.kind

"""Notices a new property whose name is a slip of one that the entities have: `frist_name`.

Two real names may be as similar, so only what a finger does counts (two letters swapped, one
doubled or not), only for a name that no entity of the first page has, and only if the property that
seems to be meant was left as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from bulkup.core.events import WarningKind
from bulkup.core.places import Place, in_brackets
from bulkup.core.similar import is_slip
from bulkup.datastore.messages import ValuePb
from bulkup.engine.handled import Handled, written
from bulkup.engine.hints import Hints

MOST = 100
"""Entities that are looked at. What is misspelled in the code is misspelled in all of them."""

FEWEST = 5
"""Fewer say nothing about what most entities have."""


class FirstPage:
    def __init__(self, hints: Hints) -> None:
        self._hints = hints
        self._before: dict[bytes, Mapping[str, bytes]] = {}
        """The properties of entities that are not handled yet, as they were read, by key."""
        self._names: Counter[str] = Counter()
        self._entities = 0
        self.is_found = False

    def found(self, results: Sequence[Any]) -> None:
        """A page that was read and is not handled yet: its messages may be patched then."""
        if len(results) < FEWEST:
            return
        self.is_found = True
        for result in results[:MOST]:
            entity = result.entity
            self._before[entity.key] = properties = dict(entity.properties)
            self._names.update(properties.keys())
        self._entities = len(self._before)

    @property
    def is_waiting(self) -> bool:
        """Some of its entities are not handled yet."""
        return bool(self._before)

    def watching(self, add: Callable[[Handled], None]) -> Callable[[Handled], None]:
        """`add`, with a look at what is added."""

        def look_and_add(item: Handled) -> None:
            self.handled(item)
            add(item)

        return look_and_add

    def handled(self, item: Handled) -> None:
        before = self._before.pop(item.key, None)
        if before is None:
            return
        for write in item.writes:
            if write.key == item.key and not write.deletes:
                self._look(before, written(write).properties)

    def _look(self, before: Mapping[str, bytes], after: Mapping[str, Any]) -> None:
        for name in after:
            if name in self._names:
                continue
            for other in before:
                if is_slip(name, other) and self._is_left(other, before, after):
                    # None of the later pages is looked at, so how many there are is not counted.
                    self._names[name] = 0
                    self._hints.note(WarningKind.MISSPELLED, name, partial(self._say, name, other))
                    break

    def _is_left(self, other: str, before: Mapping[str, bytes], after: Mapping[str, Any]) -> bool:
        """Whether most entities have it, and this one has it as before."""
        if 2 * self._names[other] <= self._entities or other not in after:
            return False
        return bool(ValuePb.FromString(before[other]) == after[other])

    def _say(self, name: str, other: str) -> tuple[str, Sequence[Place]]:
        places = self._hints.places(name)
        return (
            f"the updater writes the property {name!r}{in_brackets(places)}, which none of the "
            f"first {self._entities:,} entities has; {self._names[other]:,} of them have "
            f"{other!r}, which stays as it is: is {name!r} a misspelling?",
            places,
        )

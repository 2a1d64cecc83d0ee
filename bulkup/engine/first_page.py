"""Notices a new property whose name looks like a misspelling of one that the entities have:
`frist_name`.

Two real names may be just as similar. So only typing slips count (two letters swapped, a letter
doubled or not doubled), only for a name that no entity of the first page has, and only if the
property that seems to be meant was left unchanged.
"""

from __future__ import annotations

import re
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
"""How many entities are checked. What is misspelled in the code is misspelled in all of them."""

_DOUBLED = re.compile(r"(.)\1+")

FEWEST = 5
"""Fewer entities say nothing about what most entities have."""


class FirstPage:
    def __init__(self, hints: Hints) -> None:
        self._hints = hints
        self._before: dict[bytes, Mapping[str, bytes]] = {}
        """The properties of entities that are not handled yet, as they were read, by key."""
        self._names: Counter[str] = Counter()
        self._slips: dict[str, str] = {}
        """Strings in the updater's file that may be misspellings, and the property that each seems
        to mean."""
        self._entities = 0
        self.is_found = False
        self.is_waiting = False
        """A string may be a misspelling, so the entities of the page are checked when they are
        handled."""

    def found(self, results: Sequence[Any]) -> None:
        """Look at a page that was read. Call it before the page is handled, which may patch its
        messages.

        Most files have no string that resembles the name of a property, and then no entity is
        checked.
        """
        if len(results) < FEWEST:
            return
        self.is_found = True
        page = results[:MOST]
        for result in page:
            self._names.update(result.entity.properties.keys())
        self._entities = len(page)
        common = {_letters(n): n for n, times in self._names.items() if 2 * times > len(page)}
        common |= {_single(name): name for name in common.values()}
        for word in self._hints.words() - self._names.keys():
            other = common.get(_letters(word)) or common.get(_single(word))
            if other is not None and is_slip(word, other):
                self._slips[word] = other
        if self._slips:
            self.is_waiting = True
            self._before = {r.entity.key: dict(r.entity.properties) for r in page}

    def watching(self, add: Callable[[Handled], None]) -> Callable[[Handled], None]:
        """Returns `add`, with a check of each entity that is added."""

        def look_and_add(item: Handled) -> None:
            self.handled(item)
            add(item)

        return look_and_add

    def handled(self, item: Handled) -> None:
        before = self._before.pop(item.key, None)
        self.is_waiting = bool(self._before)
        if before is None:
            return
        for write in item.writes:
            if write.key == item.key and not write.deletes:
                self._look(before, written(write).properties)

    def _look(self, before: Mapping[str, bytes], after: Mapping[str, Any]) -> None:
        for name, other in self._slips.items():
            if not (name in after and other in before and other in after):
                continue
            if ValuePb.FromString(before[other]) == after[other]:
                # Later pages are not checked, so the number of such entities is unknown.
                self._hints.note(WarningKind.MISSPELLED, name, partial(self._say, name, other))

    def _say(self, name: str, other: str) -> tuple[str, Sequence[Place]]:
        places = self._hints.places(name)
        return (
            f"the updater writes the property {name!r}{in_brackets(places)}, which none of the "
            f"first {self._entities:,} entities has; {self._names[other]:,} of them have "
            f"{other!r}, which stays as it is: is {name!r} a misspelling?",
            places,
        )


def _letters(name: str) -> str:
    """A key that is the same for two names with swapped letters."""
    return "".join(sorted(name))


def _single(name: str) -> str:
    """A key that is the same for two names if one of them has a letter doubled."""
    return _DOUBLED.sub(r"\1", name)

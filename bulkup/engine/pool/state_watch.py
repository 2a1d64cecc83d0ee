"""Notices state that an updater keeps from one entity to the next in a worker process.

Each worker has its own copy, and the run sees none of them: a counter on `self` counts only some of
the entities, and `finish` sees 0. The watch checks attributes of the updater and its classes, and
the globals of its module: numbers that the source adds to, and collections that grow or change.
What is made with the first entity counts as preparation, and what is named like a cache is taken
for one.

Not noticed: what is kept inside other objects or other modules, in closures, iterators and files;
changes in a collection of more than MOST items that leave its length as it is.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from functools import partial
from typing import Any

from bulkup.authoring.updater import Updater
from bulkup.authoring.user_lines import kept_at, user_handler
from bulkup.core.events import WarningKind
from bulkup.core.places import Place, in_brackets
from bulkup.engine.hints import Hints

MOST = 1_000
"""A collection with more items is compared by its length only."""

_NUMBERS = int, float
_COLLECTIONS = list, dict, set, deque, bytearray, Counter, OrderedDict, defaultdict
_CACHES = "cache", "memo"


class StateWatch:
    def __init__(self, updater: Updater, hints: Hints) -> None:
        self._updater = updater
        self._hints = hints
        self._before: dict[str, Any] | None = None
        """By attribute or variable: its number; or its collection, with the length and a copy of
        it."""

    def begin(self) -> None:
        """Call this when the first entity was handled."""
        if self._before is None:
            self._before = {name: _state(value) for name, value in self._values()}

    def look(self) -> None:
        before = self._before
        if before is None:
            return
        for name, value in self._values():
            state = before.get(name)
            if state is None or not _has_changed(state, value):
                continue
            places = kept_at(self._updater, name.rpartition(".")[2])
            if isinstance(value, _COLLECTIONS) or places:  # a number may be set anew each time
                self._hints.note(WarningKind.PROCESS_STATE, name, partial(_say, name, places))

    def _values(self) -> Iterator[tuple[str, Any]]:
        for owner, values in self._places():
            for name, value in list(values.items()):
                is_cache = any(part in name.casefold() for part in _CACHES)
                if type(value) in (*_NUMBERS, *_COLLECTIONS) and not (
                    is_cache or name.startswith("__")
                ):
                    yield owner + name, value

    def _places(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        updater = self._updater
        if updater._decorated is None:
            yield "self.", updater.__dict__
            for cls in type(updater).__mro__:
                if cls is Updater:
                    break
                yield f"{cls.__name__}.", vars(cls)
        yield "", getattr(user_handler(updater), "__globals__", {})


def _state(value: Any) -> Any:
    if isinstance(value, _NUMBERS):
        return value
    return value, len(value), copy(value) if len(value) <= MOST else None


def _has_changed(state: Any, value: Any) -> bool:
    if not isinstance(state, tuple):
        return type(state) is type(value) and bool(state != value)
    collection, length, then = state
    if value is not collection:
        return False  # a different collection, perhaps made for each entity
    if len(value) != length:
        return True
    try:
        return then is not None and bool(then != value)
    except Exception:  # the user's items may not be comparable, such as numpy arrays
        return False


def _say(name: str, places: Sequence[Place]) -> tuple[str, Sequence[Place]]:
    return (
        f"handlers change {name}{in_brackets(places)}, and each worker process has its own: the "
        "run and finish see none of it; put it into entities, say it with self.log, or use "
        "--processes 1",
        places,
    )

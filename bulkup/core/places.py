"""A place in a user's source file, and errors that name one.

A wrong value is found when it is put, and a wrong result when the function has returned. The line
to fix is a different one, which no traceback shows.
"""

from __future__ import annotations

import linecache
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from bulkup.core.paths import current_directory

E = TypeVar("E", bound=BaseException)

MOST = 3
"""How many places a sentence names at most. More of them would not help anybody to look."""

_PROPERTY, _PLACES = "_bulkup_property", "_bulkup_places"
_UNCALLED = "_bulkup_uncalled"


@dataclass(frozen=True)
class Place:
    path: str
    line: int
    function: str

    @property
    def source(self) -> str:
        """The line itself; empty if the file no longer exists."""
        return linecache.getline(self.path, self.line).strip()

    def __str__(self) -> str:
        return f"{_shown(self.path)}:{self.line}"

    def frame(self) -> str:
        """The place as a traceback shows it."""
        head = f'  File "{self.path}", line {self.line}, in {self.function}'
        return f"{head}\n    {self.source}" if self.source else head


def in_brackets(places: Sequence[Place], verb: str = "") -> str:
    """` (assigned at fix.py:12)`, to be appended to a sentence; empty for no place or too many."""
    if not 0 < len(places) <= MOST:
        return ""
    return f" ({verb and verb + ' at '}{' or '.join(map(str, places))})"


def about(error: E, property_name: str) -> E:
    """Note in the error that the value of this property is its reason. Returns the error."""
    error.__dict__[_PROPERTY] = property_name
    return error


def property_of(error: BaseException) -> str | None:
    name: str | None = error.__dict__.get(_PROPERTY)
    return name


def with_places(error: E, places: Sequence[Place]) -> E:
    """Let the error's traceback end with these places, unless there are too many. Returns the
    error."""
    if len(places) <= MOST:
        error.__dict__[_PLACES] = tuple(places)
    return error


def places_of(error: BaseException) -> tuple[Place, ...]:
    places: tuple[Place, ...] = error.__dict__.get(_PLACES, ())
    return places


def before_call(error: E) -> E:
    """Note in the error that it was raised before the user's function was called, so no line of
    that function is wrong. Returns the error."""
    error.__dict__[_UNCALLED] = True
    return error


def is_before_call(error: BaseException) -> bool:
    return _UNCALLED in error.__dict__


def _shown(path: str) -> str:
    """The path as users type it: relative if the file is in the current directory."""
    here = os.path.join(current_directory(), "")
    return path[len(here) :] if here != os.sep and path.startswith(here) else path

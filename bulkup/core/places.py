"""A place in a user's source file, and errors that name one.

A wrong value is found when it is put, and a wrong result when the function has returned. The line
to change is another one, which no traceback shows.
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
"""Places that a sentence names. More of them tell nobody where to look."""

_PROPERTY, _PLACES = "_bulkup_property", "_bulkup_places"
_UNCALLED = "_bulkup_uncalled"


@dataclass(frozen=True)
class Place:
    path: str
    line: int
    function: str

    @property
    def source(self) -> str:
        """The line itself; empty: the file is not there any more."""
        return linecache.getline(self.path, self.line).strip()

    def __str__(self) -> str:
        return f"{_shown(self.path)}:{self.line}"

    def frame(self) -> str:
        """As a traceback has it."""
        head = f'  File "{self.path}", line {self.line}, in {self.function}'
        return f"{head}\n    {self.source}" if self.source else head


def in_brackets(places: Sequence[Place], verb: str = "") -> str:
    """` (assigned at fix.py:12)`, to be appended to a sentence; empty: no place is known."""
    if not 0 < len(places) <= MOST:
        return ""
    return f" ({verb and verb + ' at '}{' or '.join(map(str, places))})"


def about(error: E, property_name: str) -> E:
    """The error, which remembers that the value of this property is its reason."""
    error.__dict__[_PROPERTY] = property_name
    return error


def property_of(error: BaseException) -> str | None:
    name: str | None = error.__dict__.get(_PROPERTY)
    return name


def with_places(error: E, places: Sequence[Place]) -> E:
    """The error, whose traceback ends with these places."""
    if len(places) <= MOST:
        error.__dict__[_PLACES] = tuple(places)
    return error


def places_of(error: BaseException) -> tuple[Place, ...]:
    places: tuple[Place, ...] = error.__dict__.get(_PLACES, ())
    return places


def before_call(error: E) -> E:
    """The error, which was raised before the user's function was called: no line of it is wrong."""
    error.__dict__[_UNCALLED] = True
    return error


def is_before_call(error: BaseException) -> bool:
    return _UNCALLED in error.__dict__


def _shown(path: str) -> str:
    """Relative to the current directory for what is in it, as users type it."""
    here = os.path.join(current_directory(), "")
    return path[len(here) :] if here != os.sep and path.startswith(here) else path

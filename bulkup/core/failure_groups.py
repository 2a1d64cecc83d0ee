"""Groups failures by their error: a thousand entities that fail for one reason are one group.

Failures are alike if they failed in the same step, with the same type of error, raised at the same
place, and their messages differ only in numbers, ids and quoted strings. Entities that are not done
(`bulkup verify`) are alike only if the same properties would change. Memory does not grow with the
number of failures. Every string in a group is as untrusted as those of a failure.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

from bulkup.core.model import Failure
from bulkup.core.verification import STEP

FIRST_KEYS = 5
MAX_GROUPS = 50
"""The maximum number of groups. Failures with further errors are only counted."""
_MAX_MESSAGE = 500
"""How many characters of a message are compared: as many as `error_line` keeps."""

_FRAME = re.compile(r'File "([^"\n]*)", line ([0-9]+), in (.*)')
_QUOTED = re.compile(r"""(?<!\w)(?:'[^']*(?:'(?!\w)|$)|"[^"]*(?:"|$)|`[^`]*(?:`|$))""")
"""A quoted string, but not an apostrophe in a word. A message that is cut may end inside a
string."""
_ID = re.compile(r"[\d@]")
_WORD = re.compile(r"""[^\s'"`(),;=\[\]{}<>]+""")


@dataclass(frozen=True)
class FailureGroup:
    step: str
    error: str
    """The error of the first failure; the traceback is also that failure's."""
    place: str
    """Where it was raised: `full_name.py:14 in handle_entity`; empty: not known."""
    count: int
    keys: tuple[str, ...]
    """The first FIRST_KEYS."""
    traceback: str


class FailureGroups:
    """Collects failures, or groups of them."""

    def __init__(self, failures: Iterable[Failure] = ()) -> None:
        self._first: dict[tuple[str, ...], FailureGroup] = {}
        """The first group of each kind; the number of failures is in `_counts`."""
        self._counts: Counter[tuple[str, ...]] = Counter()
        self._latest: dict[tuple[str, ...], None] = {}
        """The kinds, in the order of their latest failures."""
        self.others = 0
        """Failures in no group, because there are too many different errors."""
        for failure in failures:
            self.add(failure)

    def add(self, failure: Failure) -> None:
        step, error, place = failure.step, failure.error, place_of(failure.traceback)
        self.merge(FailureGroup(step, error, place, 1, (failure.key,), failure.traceback))

    def merge(self, group: FailureGroup) -> None:
        same_error = (group.error,) if group.step == STEP else _error_kind(group.error)
        kind = group.step, group.place, *same_error
        first = self._first.get(kind)
        if first is None:
            if len(self._first) == MAX_GROUPS:
                self.others += group.count
                return
            self._first[kind] = group
        elif len(first.keys) < FIRST_KEYS:
            self._first[kind] = replace(first, keys=(*first.keys, *group.keys)[:FIRST_KEYS])
        self._counts[kind] += group.count
        self._latest.pop(kind, None)
        self._latest[kind] = None

    def largest_first(self) -> tuple[FailureGroup, ...]:
        return tuple(
            replace(self._first[kind], count=count) for kind, count in self._counts.most_common()
        )

    def latest_first(self, most: int) -> tuple[FailureGroup, ...]:
        """At most this many groups, the one with the latest failure first."""
        kinds = itertools.islice(reversed(self._latest), most)
        return tuple(replace(self._first[kind], count=self._counts[kind]) for kind in kinds)


def place_of(traceback: str) -> str:
    """The innermost frame of the error that was raised last."""
    end = len(traceback)
    while (start := traceback.rfind('File "', 0, end)) >= 0:
        frame = _FRAME.match(traceback, start)
        if frame is not None:
            return f"{frame[1]}:{frame[2]} in {frame[3]}"
        end = start
    return ""


def _error_kind(error: str) -> tuple[str, str]:
    """The type of an error, and its message without what differs from entity to entity."""
    name, _, message = error.partition(": ")
    message = _QUOTED.sub("…", message[:_MAX_MESSAGE])
    return name[:_MAX_MESSAGE], _WORD.sub(_without_id, message)


def _without_id(word: re.Match[str]) -> str:
    """Replace names and ids: they contain digits or an @, but words of a sentence do not."""
    text = word[0]
    return "#" if _ID.search(text) else text

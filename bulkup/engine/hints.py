"""What is noticed about an updater's code while it runs. Each hint is reported once, with the line
to look at.

A handler notes hints where it works (`Hints`), maybe in a worker process; the run reports and
counts them (`Advice`). Values that do not change, or that keep their type, are not checked.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from bulkup.authoring.user_lines import Assignment, assignments, is_users_own, returned_at, words_of
from bulkup.core.events import Detailed, WarningKind
from bulkup.core.places import Place, in_brackets
from bulkup.core.secrets import without_secrets
from bulkup.core.user_traceback import calling_places, encodable
from bulkup.datastore.doubts import Doubt, Doubts
from bulkup.engine.event_log import EventLog
from bulkup.engine.sought import SoughtWatch

MOST = 20
"""Limit for the subjects of one kind of hint, because names of properties may come from data."""

_UNCOUNTED = frozenset({WarningKind.MISSPELLED.value, WarningKind.PROCESS_STATE.value})
"""Looked for now and then, so how often they occur is not known."""
_CONVERSIONS = frozenset({"float", "int", "round", "floor", "ceil", "trunc", "retype"})
_UTC_NOW = ("utcnow", "utcfromtimestamp")


Say: TypeAlias = Callable[[], tuple[str, Sequence[Place]] | None]


class Hint(NamedTuple):
    """Plain data, which a worker process can send."""

    kind: str
    """A value of WarningKind."""
    subject: str
    """What it is about, such as the name of a property."""
    message: str
    """Empty if it was sent before."""
    details: str
    times: int


class Hints:
    """The hints of one process, noted by its handlers."""

    def __init__(self, updater: Any) -> None:
        self._updater = updater
        self._is_users = is_users_own(updater)
        self._ignored = frozenset(updater.ignore_warnings)
        self._told: dict[tuple[WarningKind, str], bool] = {}
        """What was noted before. False: the code means it, so it is not reported."""
        self.new: dict[tuple[WarningKind, str], Hint] = {}
        """What `taken` returns next."""
        self.sought = SoughtWatch(updater)
        """Used by whoever reads pages."""

    @property
    def is_function(self) -> bool:
        return self._updater._decorated is not None

    def taken(self) -> Sequence[Hint]:
        """The hints that were noted since the last call."""
        if not self.new:
            return ()
        new, self.new = self.new, {}
        return tuple(new.values())

    def receive(self, hints: Iterable[tuple[Any, ...]]) -> None:
        """Note what another process has taken from its own hints."""
        for hint in map(Hint._make, hints):
            pair = WarningKind(hint.kind), hint.subject
            before = self.new.get(pair)
            if before is not None:
                hint = before._replace(times=before.times + hint.times)
            self.new[pair] = hint

    def words(self) -> set[str]:
        """The strings in the updater's file that may be names of properties."""
        return words_of(self._updater) if self._is_users else set()

    def places(self, name: str) -> Sequence[Place]:
        """Where the updater assigns a property."""
        return self._places(assignments(self._updater, name))

    def note(
        self,
        kind: WarningKind,
        subject: str,
        say: Say,
        times: int = 1,
    ) -> None:
        """Note something once more. `say` returns the sentence and its places, or None if the code
        means it. It is called only the first time."""
        if not self._is_users or kind.value in self._ignored:
            return
        pair = kind, subject
        is_told = self._told.get(pair)
        message = details = ""
        if is_told is None:
            if sum(known[0] is kind for known in self._told) >= MOST:
                return
            said = say()
            self._told[pair] = is_told = said is not None
            if said is not None:
                message, details = said[0], "\n".join(_sources(said[1]))
        if is_told:
            hint = self.new.get(pair) or Hint(kind.value, subject, message, details, 0)
            self.new[pair] = hint._replace(times=hint.times + times)

    # --- what handlers put ---

    def of_values(self, doubts: Doubts) -> None:
        """Note what may be unintended in an entity that is put."""
        for name, doubt in doubts:
            if doubt is Doubt.NAIVE:
                self.note(WarningKind.NAIVE_DATETIME, name, partial(self._naive, name))
            else:
                self.note(WarningKind.NUMBER_TYPE, name, partial(self._number, name, doubt))
        doubts.clear()

    def of_namespace(self, kind: str, there: str, here: str, does: str) -> None:
        """Note a write to another namespace. `does`: a verb such as `puts`."""
        self.note(
            WarningKind.OTHER_NAMESPACE,
            f"{does} {kind} {there}",
            partial(self._namespace, kind, there, here, does),
        )

    def _naive(self, name: str) -> tuple[str, Sequence[Place]] | None:
        found = assignments(self._updater, name)
        if any(_mentions(one, _UTC_NOW) for one in found):
            return None
        places = self._places(found)
        return (
            f"property {name!r} gets a datetime without a time zone"
            f"{in_brackets(places)}, which Datastore takes as UTC: write "
            "datetime.now(timezone.utc), or value.astimezone(timezone.utc) if it is a local time",
            places,
        )

    def _number(self, name: str, doubt: Doubt) -> tuple[str, Sequence[Place]] | None:
        found = assignments(self._updater, name)
        meant = _is_float if doubt is Doubt.TO_FLOAT else _is_int
        if any(one.value is not None and meant(one.value) for one in found):
            return None  # of several lines, this may be the one that was run
        places = self._places(found)
        if doubt is Doubt.TO_FLOAT:
            change = "an integer to a float"
            write = "// or int(...) to keep integers, or float(...) if floats are meant"
        else:
            change = "a float to an integer"
            write = "float(...) to keep floats, or int(...) if integers are meant"
        return (
            f"property {name!r} changes from {change}{in_brackets(places)}: to Datastore, 2 and "
            f"2.0 are different values, and a filter finds only one of them; write {write}",
            places,
        )

    def _namespace(
        self, kind: str, there: str, here: str, does: str
    ) -> tuple[str, Sequence[Place]]:
        places = self._places(())
        return (
            f"the updater {does} entities of the kind {kind} in {_named(there)}, and the run works "
            f"in {_named(here)}{in_brackets(places)}: make their keys with self.client.key",
            places,
        )

    def _places(self, found: Iterable[Assignment]) -> Sequence[Place]:
        """Where the property is assigned; otherwise, where the entity is put or returned."""
        places = list(dict.fromkeys(one.place for one in found)) or calling_places()
        function = self._updater._decorated
        return places if places or function is None else returned_at(function)


def _named(namespace: str) -> str:
    return f"the namespace {namespace!r}" if namespace else "the default namespace"


def _sources(places: Sequence[Place]) -> list[str]:
    return [
        encodable(without_secrets(f"{place}  {place.source}")) for place in places if place.source
    ]


def _mentions(one: Assignment, names: Iterable[str]) -> bool:
    text = "" if one.value is None else ast.unparse(one.value)
    return any(name in text for name in names)


def _is_float(value: ast.expr) -> bool:
    """Whether the source shows that a float is meant."""
    return _is_converted(value) or (isinstance(value, ast.Constant) and type(value.value) is float)


def _is_int(value: ast.expr) -> bool:
    return _is_converted(value)


def _is_converted(value: ast.expr) -> bool:
    """Whether it calls `float(...)`, `int(...)`, `round(...)`, `math.floor(...)` or the transform
    `retype(...)`."""
    if not isinstance(value, ast.Call):
        return False
    function = value.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in _CONVERSIONS


class Advice:
    """Warns of each hint once, and says in the report how often it was noted."""

    def __init__(self, events: EventLog) -> None:
        self._events = events
        self._said: dict[tuple[str, str], tuple[int, Detailed]] = {}
        """The index of the message in the warnings of the events, and the message."""
        self._counts: dict[tuple[str, str], int] = {}

    def take(self, hints: Iterable[Hint]) -> None:
        for hint in hints:
            pair = hint.kind, hint.subject
            count = self._counts[pair] = self._counts.get(pair, 0) + hint.times
            if pair not in self._said:
                message = Detailed(hint.message, self._details(hint))
                self._said[pair] = len(self._events.warnings), message
                self._events.warn(message, WarningKind(hint.kind))
            at, message = self._said[pair]
            if count > 1 and hint.kind not in _UNCOUNTED:
                counted = Detailed(f"{message.head} ({count:,} times)", message.details)
                self._events.warnings[at] = counted

    def _details(self, hint: Hint) -> str:
        meant = f'if that is meant: ignore_warnings = ["{hint.kind}"]'
        return f"{hint.details}\n{meant}" if hint.details else meant

"""What parameters of built-in updaters name, and the warnings that no entity has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from bulkup.authoring.sought import Looked
from bulkup.core.events import WarningKind
from bulkup.core.similar import is_slip, similar_names
from bulkup.datastore.messages import Pb, ValuePb
from bulkup.transforms.transform import shown

LISTED = 8
"""The most names or values that a warning lists."""

MOST_VALUES = 50
"""How many values are remembered, to suggest what was meant."""


@dataclass(frozen=True)
class HasProperty:
    """A property that the updater changes."""

    name: str
    outcome: str
    """What the warning says was not done to it: `renamed`."""
    instead: str = ""
    """The property that an entity has when it is done; empty if there is none."""
    kind = WarningKind.ABSENT
    only_first = False

    def is_in(self, properties: Mapping[str, bytes]) -> bool:
        return self.name in properties

    def sentence(self, looked: Looked) -> str:
        return f"{_none_has(looked, self.name)}, so it was not {self.outcome}{self._meant(looked)}"

    def _meant(self, looked: Looked) -> str:
        close = [n for n in similar_names(self.name, looked.names) if n != self.instead]
        if close:
            return f"; did you mean {_or(close)}?"
        if done := looked.names.get(self.instead):
            return f"; {done:,} of the first {looked.first:,} have {self.instead!r} already"
        return f"; they have {_listed(looked.names)}" if looked.names else "; they have none"


@dataclass(frozen=True)
class NewProperty:
    """A property that the updater adds. No entity needs to have it, but it should not be a typo of
    a property that most have."""

    name: str
    others: tuple[str, ...] = ()
    """Other properties that the updater names: `name` is no typo of these."""
    kind = WarningKind.MISSPELLED
    only_first = True

    def is_in(self, properties: Mapping[str, bytes]) -> bool:
        return self.name in properties

    def sentence(self, looked: Looked) -> str:
        for other, times in looked.names.items():
            is_common = 2 * times > looked.first
            if is_common and other not in self.others and is_slip(self.name, other):
                return (
                    f"the property {self.name!r} is written, which none of the first "
                    f"{looked.first:,} entities has; {times:,} of them have {other!r}: is "
                    f"{self.name!r} a misspelling?"
                )
        return ""


@dataclass(frozen=True)
class HasValue:
    """A value of a property that decides to which kind the updater moves an entity."""

    name: str
    value: str
    """As the user types it."""
    to_kind: str
    """The kind to which such an entity is moved."""
    kind = WarningKind.ABSENT
    only_first = False
    seen: dict[str, None] = field(default_factory=dict, compare=False)
    """Other values, in the order in which they were found."""

    def is_in(self, properties: Mapping[str, bytes]) -> bool:
        stored = properties.get(self.name)
        value = None if stored is None else typed_value(ValuePb.FromString(stored))
        if value is not None and value != self.value and len(self.seen) < MOST_VALUES:
            self.seen.setdefault(value)
        return value == self.value

    def sentence(self, looked: Looked) -> str:
        if any(isinstance(one, HasProperty) and one.name == self.name for one in looked.missing):
            return ""
        close = similar_names(self.value, self.seen)
        meant = f"did you mean {_or(close)}?" if close else f"values are {_listed(self.seen)}"
        return (
            f"{_no_entity(looked)} has {shown(self.value)} in {self.name!r}, so none was moved to "
            f"the kind {self.to_kind}" + (f"; {meant}" if self.seen else "")
        )


@dataclass(frozen=True)
class RefersTo:
    """A kind that keys held by entities refer to."""

    to: str
    kind = WarningKind.ABSENT
    only_first = False

    def is_in(self, properties: Mapping[str, bytes]) -> bool:
        # Values are not decoded: any that contains the name of the kind counts as a reference.
        kind = self.to.encode()
        return any(kind in value for value in properties.values())

    def sentence(self, looked: Looked) -> str:
        return (
            f"{_no_entity(looked)} refers to one of the kind {self.to!r}, or below one; check the "
            "name if there should be references"
        )


def typed_value(value: Pb) -> str | None:
    """An entity's value as a user types it after `-p into=`; None if it cannot be typed."""
    which = value.WhichOneof("value_type")
    if which == "string_value":
        return str(value.string_value)
    if which == "integer_value":
        return str(value.integer_value)
    if which == "boolean_value":
        return "true" if value.boolean_value else "false"
    return None


def _none_has(looked: Looked, name: str) -> str:
    if looked.entities == 1:
        return f"the one entity has no property {name!r}"
    return f"none of {looked.entities:,} entities has the property {name!r}"


def _no_entity(looked: Looked) -> str:
    return "no entity" if looked.entities == 1 else f"none of {looked.entities:,} entities"


def _or(names: Iterable[str]) -> str:
    return " or ".join(map(repr, list(names)[:3]))


def _listed(names: Iterable[str]) -> str:
    every = sorted(names)  # a protobuf map has no order
    more = f" and {len(every) - LISTED} more" if len(every) > LISTED else ""
    return ", ".join(map(shown, every[:LISTED])) + more

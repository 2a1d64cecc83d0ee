"""What an updater was told to look for, so that a run can report what none of its entities has.

Only for built-in updaters: if a name in a parameter is misspelled, nothing fails.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bulkup.core.events import WarningKind


@dataclass(frozen=True)
class Looked:
    """What was seen in the entities of a run."""

    entities: int
    """How many entities were read."""
    names: Mapping[str, int]
    """The properties of the first entities, and how many of these entities have each."""
    first: int
    """The number of these first entities."""
    missing: Collection[Any]
    """Everything that was looked for and not found."""


class Sought(Protocol):
    """Something that an entity may have."""

    kind: WarningKind
    """The kind of the warning that no entity has it."""
    only_first: bool
    """True if it is enough to check the first entities."""

    def is_in(self, properties: Mapping[str, bytes]) -> bool:
        """Whether an entity has it. `properties`: the entity's serialized values."""

    def sentence(self, looked: Looked) -> str:
        """Says that no entity has it; empty if that needs no warning."""

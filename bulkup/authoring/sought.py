"""What an updater was told to look for, so that a run can say what none of its entities has.

Only of built-in updaters: what a parameter names may be misspelled, and then nothing fails.
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
    """That were read."""
    names: Mapping[str, int]
    """Properties of the first entities, and how many of these have each."""
    first: int
    """How many these first entities are."""
    missing: Collection[Any]
    """All that was looked for and not found."""


class Sought(Protocol):
    """Something that an entity may have."""

    kind: WarningKind
    """Of the warning that no entity has it."""
    only_first: bool
    """The first entities are enough to tell."""

    def is_in(self, properties: Mapping[str, bytes]) -> bool:
        """`properties`: the serialized values of an entity."""

    def sentence(self, looked: Looked) -> str:
        """That no entity has it; empty: that is as it should be."""

"""What `bulkup rewind` would do, for those who show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from bulkup.core.difference import PropertyCount, SideInfo


class Action(str, Enum):
    """What to do with an entity that is not as it was."""

    PUT_BACK = "put_back"
    """It is changed, and put back."""
    RECREATE = "recreate"
    """It was deleted since, and is created again."""
    DELETE = "delete"
    """It was created since, and is deleted."""
    LEAVE = "leave"

    def __str__(self) -> str:
        return self.value


class Kept(str, Enum):
    """Why an entity that is not as it was is left alone."""

    NEWER = "newer"
    """Written, or deleted, after --keep-after."""
    NEW = "new"
    """Created since, and --delete-new was not given."""
    PARTIAL = "partial"
    """Deleted since, and --property chooses properties of entities that are there."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class KeptEntity:
    """An entity that is not as it was, and is left alone."""

    key: str
    reason: Kept


@dataclass(frozen=True)
class KindRewind:
    kind: str
    same: int
    actions: Mapping[Action, int]
    kept: Mapping[Kept, int]
    properties: tuple[PropertyCount, ...] = ()
    """Of those that are put back, from now to then; the most frequent first."""


@dataclass(frozen=True)
class RewindReport:
    """What a comparison of then and now has found."""

    then: SideInfo
    keep_after: int | None
    """Microseconds of Unix time."""
    kinds: tuple[KindRewind, ...]
    minutes: tuple[tuple[int, int], ...]
    """When what would be put back was last written: Unix time of the minute, and entities."""
    started: datetime
    elapsed_s: float
    actions: Mapping[Action, int] = field(init=False)
    kept: Mapping[Kept, int] = field(init=False)

    def __post_init__(self) -> None:
        of_all = {a: sum(kind.actions.get(a, 0) for kind in self.kinds) for a in Action}
        object.__setattr__(self, "actions", of_all)
        kept = {k: sum(kind.kept.get(k, 0) for kind in self.kinds) for k in Kept}
        object.__setattr__(self, "kept", kept)

    @property
    def same(self) -> int:
        return sum(kind.same for kind in self.kinds)

    @property
    def writes(self) -> int:
        """Entities that applying it would write."""
        return sum(count for action, count in self.actions.items() if action is not Action.LEAVE)

"""What `bulkup rewind` would do, for printers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from bulkup.core.difference import PropertyCount, SideInfo


class Action(str, Enum):
    """What to do with an entity that differs from what it was then."""

    PUT_BACK = "put_back"
    """It was changed since, and is put back."""
    RECREATE = "recreate"
    """It was deleted since, and is created again."""
    DELETE = "delete"
    """It was created since, and is deleted."""
    LEAVE = "leave"

    def __str__(self) -> str:
        return self.value


class Kept(str, Enum):
    """Why an entity that differs from what it was then is left alone."""

    NEWER = "newer"
    """Written, or deleted, after --keep-after."""
    NEW = "new"
    """Created since, and --delete-new was not given."""
    PARTIAL = "partial"
    """Deleted since, and --property chooses properties of entities that still exist."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class KeptEntity:
    """An entity that differs from what it was then, and is left alone."""

    key: str
    reason: Kept


@dataclass(frozen=True)
class KindRewind:
    kind: str
    same: int
    actions: Mapping[Action, int]
    kept: Mapping[Kept, int]
    properties: tuple[PropertyCount, ...] = ()
    """Properties of the entities that are put back, from now to then; the most frequent first."""


@dataclass(frozen=True)
class RewindReport:
    """What a comparison of then and now has found."""

    then: SideInfo
    keep_after: int | None
    """Microseconds of Unix time."""
    kinds: tuple[KindRewind, ...]
    minutes: tuple[tuple[int, int], ...]
    """When the entities that would be put back were last written: Unix time of the minute, and how
    many."""
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
        """How many entities the rewind would write."""
        return sum(count for action, count in self.actions.items() if action is not Action.LEAVE)

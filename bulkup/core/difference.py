"""What a comparison of two sides has found, for printers.

Strings that come from entities are untrusted, and a printer must escape them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from bulkup.core.errors import Exit
from bulkup.core.events import PropertyChange
from bulkup.core.model import TargetInfo
from bulkup.core.moment import shown


class Change(str, Enum):
    """How the sides differ in one entity."""

    CHANGED = "changed"
    ONLY_A = "only_a"
    ONLY_B = "only_b"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class SideInfo:
    """A target as of a moment."""

    target: TargetInfo
    micros: int | None = None
    """Unix time in microseconds; None for now, which is when each page is read."""

    def __str__(self) -> str:
        when = "now" if self.micros is None else f"as of {shown(self.micros)}"
        return f"{self.target}, {when}"


@dataclass(frozen=True)
class EntityDifference:
    """One entity that differs between the sides."""

    key: str
    change: Change
    changes: tuple[PropertyChange, ...]
    """The changes of its properties, from the first side to the second."""


@dataclass(frozen=True)
class PropertyCount:
    """How many entities differ in one property, with these types on the two sides."""

    name: str
    before: str
    """The type on the first side, or `absent`."""
    after: str
    count: int


@dataclass(frozen=True)
class KindDiff:
    kind: str
    same: int
    changed: int
    only_a: int
    only_b: int
    properties: tuple[PropertyCount, ...] = ()
    """Properties of changed entities, the most frequent first."""

    @property
    def different(self) -> int:
        return self.changed + self.only_a + self.only_b


@dataclass(frozen=True)
class DiffReport:
    a: SideInfo
    b: SideInfo
    kinds: tuple[KindDiff, ...]
    started: datetime
    elapsed_s: float

    @property
    def totals(self) -> KindDiff:
        sums = [
            sum(getattr(kind, name) for kind in self.kinds)
            for name in ("same", "changed", "only_a", "only_b")
        ]
        return KindDiff("", *sums)

    @property
    def exit_code(self) -> Exit:
        return Exit.PENDING if self.totals.different else Exit.DONE


OnDifference = Callable[[EntityDifference], None]

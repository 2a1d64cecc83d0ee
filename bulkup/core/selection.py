"""Which of an updater's entities a run works on, as the user requested."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Selection:
    """What narrows an updater's own query. Empty strings: not given. Stored by the names of the
    fields."""

    kind: str = ""
    ancestor: str = ""
    """A key, in GQL: `KEY(Customer, 5)`."""
    where: str = ""
    """A condition, in GQL: `age > 30 AND country = 'CH'`."""

    def __bool__(self) -> bool:
        return bool(self.kind or self.ancestor or self.where)

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in self.stored().items())

    def stored(self) -> dict[str, str]:
        """As JSON, without what is not given."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Selection:
        """Read what `stored` wrote. Raises TypeError for anything else."""
        selection = cls(**stored)
        if not all(isinstance(value, str) for value in stored.values()):
            raise TypeError("a selection is made of strings")
        return selection

    def words(self) -> list[str]:
        """The options as they are typed."""
        return [word for name, value in self.stored().items() for word in (f"--{name}", value)]


EVERYTHING = Selection()

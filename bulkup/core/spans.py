"""What a run spends its time on, in spans for traces. There are no spans per entity.

Times are those of the run's monotonic clock, in seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class SpanKind(str, Enum):
    PAGE = "page"
    """One attempt to read a page of a shard."""
    COMMIT = "commit"
    """One attempt to commit a batch of a shard."""
    HANDLE = "handle"
    """A shard's handlers, running on the entities of a batch."""
    DOING = "doing"
    """What the run's thread did, or waited for: `reading`, `handling`, `committing`, `paced`,
    `held`."""

    def __str__(self) -> str:
        return self.value  # the same on every Python


@dataclass(frozen=True, slots=True)
class Span:
    kind: SpanKind
    name: str
    """`RunQuery`, `Commit`, `handle`, or what the thread did."""
    shard: int
    """0 if the span does not belong to a single shard."""
    began: float
    ended: float
    entities: int = 0
    attempt: int = 1
    error: str = ""
    """The status of a call that failed: `UNAVAILABLE`."""


Observer = Callable[[Span], None]
"""Called from the run's thread, which waits for it."""


def observed_by(*observers: Observer | None) -> Observer | None:
    """An observer that passes each span to all of these; None if there are none."""
    several = [observer for observer in observers if observer is not None]
    if len(several) < 2:
        return several[0] if several else None

    def observe(span: Span) -> None:
        for observer in several:
            observer(span)

    return observe

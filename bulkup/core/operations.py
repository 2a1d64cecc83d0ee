"""Operations on Datastore, as they are billed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Operations:
    reads: int = 0
    """Entities read. A query of keys only, or one that finds nothing, is one read."""
    writes: int = 0
    deletes: int = 0
    index_updates: int | None = None
    """Index entries that the writes and deletes changed; None: the server does not say."""


@dataclass(frozen=True)
class OperationCounts:
    """The operations of one process."""

    predicted: Operations
    """One read for each handled entity, one write or delete for each that handlers asked for."""
    counted: Operations
    """What was sent and answered, including bulkup's own records and what handlers read by key
    through the updater's client."""

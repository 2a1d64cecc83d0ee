"""What is recorded about a batch before and after its commit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from bulkup.core.model import Failure
from bulkup.state.checkpoint import BatchRow


class BatchJournal(Protocol):
    """Where commits are recorded. The checkpoint file is one such journal."""

    def batch_sent(
        self,
        row: BatchRow,
        failures: Sequence[Failure],
        log_lines: Iterable[str],
        keys: Sequence[bytes] = (),
    ) -> None:
        """Record a commit before it is sent. Replaces the earlier record of the same part.

        `keys`: entities that must not be handled again.
        """

    def batch_done(
        self,
        row: BatchRow,
        *,
        low: tuple[int, bytes] | None,
        failures: Sequence[Failure] | None = None,
        log_lines: Iterable[str] = (),
        keys: Sequence[bytes] = (),
    ) -> None:
        """A batch or part is done. `low`: the shard's new low-water mark.

        `failures` is not None for a batch that was not sent because it writes nothing.
        """

    def is_handled(self, key: bytes) -> bool:
        """Whether a batch that was noted with this key is in flight or done."""

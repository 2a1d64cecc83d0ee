"""Watches for handlers that change their entity and write none of it: a forgotten `return entity`.

From the first unwritten change on, batches are held back until one changed entity is written. So if
the run stops for that reason, none of these entities counts as done, and resuming handles them
again with the fixed code. A run whose first changed entity is written holds nothing, and checks no
entity after that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bulkup.authoring.function_updater import FunctionUpdater
from bulkup.authoring.updater import Updater
from bulkup.core.errors import BulkupError
from bulkup.core.model import Counts
from bulkup.datastore.keys import key_of, key_text
from bulkup.engine.handled import Handled

MOST_ENTITIES = 1_000
"""Entities that the run handles, from the first changed one on, before it stops."""

MOST_BYTES = 8 * 1024 * 1024
"""Limit for writes to other entities that are held back meanwhile."""


class ChangesUnwrittenError(BulkupError):
    pass


class UnwrittenChanges:
    """`already`: the counts of earlier runners, which record unwritten changes only if these are
    allowed."""

    def __init__(self, updater: Updater, already: Callable[[], Counts]) -> None:
        self._updater = updater
        self._already = already
        self._is_settled: bool | None = None
        self._changed = 0
        self._first = b""
        self._held = self._held_bytes = 0
        self.is_ending = False
        """The run ends: from now on nothing is raised for what is held back."""
        self.counts = Counts()
        """Counts of what was held back when the run stopped."""

    @property
    def is_settled(self) -> bool:
        """A changed entity was written, or none need be."""
        if self._is_settled is None:
            already = self._already()
            self._is_settled = (
                self._updater.allow_unwritten_changes or already.written + already.unwritten > 0
            )
        return self._is_settled

    @property
    def is_holding(self) -> bool:
        return self._changed > 0 and not self.is_settled

    def look(self, items: Iterable[Handled]) -> None:
        """Check entities that were handled. Ask `is_settled` first."""
        for item in items:
            if item.unwritten:
                self._changed += 1
                self._first = self._first or item.key
            elif any(write.key == item.key and not write.deletes for write in item.writes):
                self._is_settled = True
                return

    def hold(self, entities: int, size: int, batch_size: int) -> None:
        """Note that a batch is held back. Raises ChangesUnwrittenError when it is one too many."""
        self._held += entities
        self._held_bytes += size
        too_many = self._held + batch_size > MOST_ENTITIES or self._held_bytes > MOST_BYTES
        if too_many and not self.is_ending:
            raise self.error()

    def error(self) -> ChangesUnwrittenError:
        """The reason why the run stops."""
        one = self._changed == 1
        changed = "1 entity was" if one else f"{self._changed:,} entities were"
        none = "the change was not" if one else "none of these changes was"
        return ChangesUnwrittenError(
            f"{changed} changed, and {none} written (first {key_text(key_of(self._first))}): "
            f"{self._what_to_write()}"
        )

    def warning(self, counts: Counts) -> str:
        """The warning for a run that has written some of the entities that it has changed."""
        one = counts.unwritten == 1
        changed = "1 entity was" if one else f"{counts.unwritten:,} entities were"
        first = f" (first {key_text(key_of(self._first))})" if self._first else ""
        return f"{changed} changed, and not written after that{first}: {self._what_to_write()}"

    def _what_to_write(self) -> str:
        if isinstance(self._updater, FunctionUpdater):
            return (
                "write `return entity` at the end of the function, or give @bulkup.updater "
                "`allow_unwritten_changes=True` if that is meant"
            )
        return (
            "write `self.put(entity)` after the last change, or set `allow_unwritten_changes = "
            f"True` in the class {type(self._updater).__name__} if that is meant"
        )

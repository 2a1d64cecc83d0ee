"""Notices handlers that send a request to read something for nearly every entity."""

from __future__ import annotations

from collections.abc import Sequence

from bulkup.core.events import WarningKind
from bulkup.core.places import Place
from bulkup.engine.hints import Hints

FIRST = 100
"""Requests before anything is reported. Fewer take next to no time."""

NEARLY_ALL = 0.9


class ReadsEach:
    """Called for many entities at a time, so it costs nothing per entity."""

    def __init__(self, hints: Hints) -> None:
        self._hints = hints
        self._handled = self._requests = 0
        self._is_told = False

    def handled(self, entities: int, requests: int) -> None:
        """Add entities that were handled, and the requests for reads that this took."""
        if self._is_told:
            if requests:
                self._hints.note(WarningKind.READS_EACH, "", self._say, requests)
            return
        self._handled += entities
        self._requests += requests
        if self._requests >= max(FIRST, NEARLY_ALL * self._handled):
            self._is_told = True
            self._hints.note(WarningKind.READS_EACH, "", self._say, self._requests)

    def _say(self) -> tuple[str, Sequence[Place]]:
        if self._hints.is_function:
            write = "give @bulkup.updater batch=True, and read what all entities need at once with "
            write += "bulkup.client().get_multi(keys)"
        else:
            write = "write handle_batch(self, entities) in place of handle_entity, and read what "
            write += "all of them need at once with self.get(keys)"
        return (
            f"the handler reads from Datastore for nearly every entity ({self._requests:,} "
            f"requests for the first {self._handled:,}), and waits for each answer: {write}",
            (),
        )

"""Notices handlers that read from Datastore for nearly every entity, one call after the other."""

from __future__ import annotations

from collections.abc import Sequence

from bulkup.core.events import WarningKind
from bulkup.core.places import Place
from bulkup.engine.control import Control
from bulkup.engine.hints import Hints

FIRST = 100
"""Entities whose handlers have read, before anything is said. Fewer take no time."""

NEARLY_ALL = 0.9


class ReadsEach:
    """Asked only about entities whose handlers have read, so others cost nothing."""

    def __init__(self, hints: Hints, control: Control) -> None:
        self._hints = hints
        self._control = control
        self._reading = 0
        self._next = FIRST
        self._is_told = False

    def noted(self) -> None:
        """The handler of one more entity has read."""
        self._reading += 1
        if self._is_told:
            self._hints.note(WarningKind.READS_EACH, "", self._say)
        elif self._reading >= self._next:
            self._next *= 2
            if self._reading >= NEARLY_ALL * (self._control.handled + 1):
                self._is_told = True
                self._hints.note(WarningKind.READS_EACH, "", self._say, self._reading)

    def _say(self) -> tuple[str, Sequence[Place]]:
        handled = max(self._control.handled + 1, self._reading)
        write = (
            "give @bulkup.updater batch=True, and read what all entities need at once with "
            "bulkup.client().get_multi(keys)"
            if self._hints.is_function
            else "write handle_batch(self, entities) in place of handle_entity, and read what all "
            "of them need at once with self.client.get_multi(keys)"
        )
        return (
            f"the handler reads with its client for nearly every entity ({self._reading:,} of the "
            f"first {handled:,}), and waits for an answer each time: {write}",
            (),
        )

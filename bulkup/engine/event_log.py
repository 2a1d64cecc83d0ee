"""Passes the events of a runner on to a listener, and keeps the first of them for the report."""

from __future__ import annotations

from typing import Any

from bulkup.core.events import EntityFailed, Event, Listener, Logged, Warned, WarningKind
from bulkup.core.failure_groups import FailureGroups
from bulkup.core.model import Failure

SHOWN_FAILURES = 20
SHOWN_LOG_LINES = 20
"""How many a report shows; the checkpoint has all of them."""


class EventLog:
    """A listener that passes events on to another listener."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.warnings: list[str] = []
        self.failures: list[Failure] = []
        """The first SHOWN_FAILURES."""
        self.groups = FailureGroups()
        """The failures of this runner, by error."""
        self.log_lines: list[str] = []
        """The first SHOWN_LOG_LINES."""
        self.log_total = 0

    def __call__(self, event: Any) -> None:
        if isinstance(event, Warned):
            self.warnings.append(event.message)
        self._listener(event)

    def warn(self, message: str, kind: WarningKind = WarningKind.OTHER) -> None:
        self(Warned(message, kind))

    def failed(self, failure: Failure, failed: int, allowed: int) -> None:
        """An entity has failed; `failed`: how many have by now, `allowed`: how many may."""
        if len(self.failures) < SHOWN_FAILURES:
            self.failures.append(failure)
        self.groups.add(failure)
        self(EntityFailed(failure, failed, allowed))

    def log(self, line: str) -> None:
        self.log_total += 1
        if len(self.log_lines) < SHOWN_LOG_LINES:
            self.log_lines.append(line)
        self(Logged(line))


def both(first: Listener, second: Listener) -> Listener:
    """A listener that passes each event to both of these, in this order."""

    def listen(event: Event) -> None:
        first(event)
        second(event)

    return listen

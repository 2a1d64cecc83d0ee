"""What a runner tells while it works, and what of that is kept for its report."""

from __future__ import annotations

from typing import Any

from bulkup.core.events import EntityFailed, Listener, Logged, Warned, WarningKind
from bulkup.core.model import Failure

SHOWN_FAILURES = 20
SHOWN_LOG_LINES = 20
"""So many of each are in a report; the checkpoint has them all."""


class EventLog:
    """A listener that passes on to another one. `max_failures`: the budget, as it is told."""

    def __init__(self, listener: Listener, max_failures: int) -> None:
        self._listener = listener
        self._max_failures = max_failures
        self.warnings: list[str] = []
        self.failures: list[Failure] = []
        """The first ones, and so of the log lines."""
        self.log_lines: list[str] = []
        self.log_total = 0

    def __call__(self, event: Any) -> None:
        if isinstance(event, Warned):
            self.warnings.append(event.message)
        self._listener(event)

    def warn(self, message: str, kind: WarningKind = WarningKind.OTHER) -> None:
        self(Warned(message, kind))

    def failed(self, failure: Failure, failed: int) -> None:
        """An entity has; so many have by now."""
        if len(self.failures) < SHOWN_FAILURES:
            self.failures.append(failure)
        self(EntityFailed(failure, failed, self._max_failures))

    def log(self, line: str) -> None:
        self.log_total += 1
        if len(self.log_lines) < SHOWN_LOG_LINES:
            self.log_lines.append(line)
        self(Logged(line))

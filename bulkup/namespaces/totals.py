"""Totals over the reports of all namespaces, in a size that does not grow with their number."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from bulkup.core.events import OF_CODE, Failure, Report, Warned
from bulkup.core.failure_groups import FailureGroups
from bulkup.engine.event_log import SHOWN_FAILURES, SHOWN_LOG_LINES

MAX_WARNINGS = 20
"""Warnings kept for the report, over all namespaces. Each was printed when it came up."""

MAX_SAID = 100
"""How many different warnings about the updater's code are shown. Further ones are dropped."""

_NUMBER = re.compile(r"[0-9][0-9,]*")


@dataclass
class Totals:
    retries: int = 0
    log_total: int = 0
    failures: list[Failure] = field(default_factory=list)
    groups: FailureGroups = field(default_factory=FailureGroups)
    log_lines: list[str] = field(default_factory=list)
    _warnings: list[str] = field(default_factory=list)
    _dropped_warnings: int = 0
    _said: set[str] = field(default_factory=set)
    """Warnings about the updater's code that were shown, without their numbers."""

    def add(self, namespace: str, report: Report) -> None:
        self.retries += report.retries
        self.log_total += report.log_total
        self.failures += report.failures[: SHOWN_FAILURES - len(self.failures)]
        for group in report.failure_groups:
            self.groups.merge(group)
        self.groups.others += report.other_failures
        lines = report.log_lines[: SHOWN_LOG_LINES - len(self.log_lines)]
        self.log_lines += [f"{namespace}: {line}" for line in lines]

    def was_said(self, warning: Warned) -> bool:
        """Whether a warning about the updater's code was already shown for another namespace, or
        too many were."""
        if warning.kind not in OF_CODE:
            return False
        words = _NUMBER.sub("#", warning.message)
        if words in self._said or len(self._said) == MAX_SAID:
            return True
        self._said.add(words)
        return False

    def warn(self, message: str) -> None:
        if len(self._warnings) < MAX_WARNINGS:
            self._warnings.append(message)
        else:
            self._dropped_warnings += 1

    def warnings(self) -> tuple[str, ...]:
        if not self._dropped_warnings:
            return tuple(self._warnings)
        return (*self._warnings, f"{self._dropped_warnings} more warnings, printed above")

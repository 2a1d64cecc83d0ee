"""What the reports of all namespaces come to; however many these are, it stays small."""

from __future__ import annotations

from dataclasses import dataclass, field

from bulkup.core.events import Failure, Report
from bulkup.engine.event_log import SHOWN_FAILURES, SHOWN_LOG_LINES

MAX_WARNINGS = 20
"""Of all namespaces together, in the report; each has been said when it came up."""


@dataclass
class Sums:
    retries: int = 0
    log_total: int = 0
    failures: list[Failure] = field(default_factory=list)
    log_lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    unnamed_warnings: int = 0

    def add(self, where: str, report: Report) -> None:
        self.retries += report.retries
        self.log_total += report.log_total
        self.failures += report.failures[: SHOWN_FAILURES - len(self.failures)]
        lines = report.log_lines[: SHOWN_LOG_LINES - len(self.log_lines)]
        self.log_lines += [f"{where}: {line}" for line in lines]

    def warn(self, message: str) -> None:
        if len(self.warnings) < MAX_WARNINGS:
            self.warnings.append(message)
        else:
            self.unnamed_warnings += 1

    def some_warnings(self) -> tuple[str, ...]:
        if not self.unnamed_warnings:
            return tuple(self.warnings)
        return (*self.warnings, f"{self.unnamed_warnings} more warnings, said above")

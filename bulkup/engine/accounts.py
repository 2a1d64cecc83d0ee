"""Where handled entities go, and where each of them is accounted for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from bulkup.engine.budget import Budget
from bulkup.engine.control import Control
from bulkup.engine.handled import Handled


class Sink(Protocol):
    """Where handled entities go: to commits or, in a dry run, to a preview."""

    def add(self, item: Handled) -> None: ...

    def left_out(self) -> Callable[[Any], bool] | None:
        """A function that is true for a PageResult to leave out; None if all are handled."""


@dataclass(frozen=True)
class Accounts:
    """Where every handled entity is accounted for, whichever pool has handled it."""

    budget: Budget
    control: Control
    log: Callable[[str], None]
    monotonic: Callable[[], float]

    def enter(self, item: Handled) -> None:
        """Raises HandlerOverBudget."""
        self.control.handled += 1
        if item.failure is not None:
            self.budget.spend_handling(item.failure)
        for line in item.log_lines:
            self.log(line)

"""The failure budget: how many entities may fail before the run stops."""

from __future__ import annotations

from collections.abc import Callable

from bulkup.core.model import Failure


class BudgetExceeded(Exception):
    """One failure too many. The entity of `failure` counts as not handled."""

    def __init__(self, failure: Failure, max_failures: int) -> None:
        super().__init__(str(failure.error))
        self.failure = failure
        self.max_failures = max_failures


class HandlerOverBudget(Exception):
    """A handler's failure exceeded the budget; batches before that entity can still be committed.

    Not a BudgetExceeded, which a commit raises when the server refuses an entity.
    """

    def __init__(self, exceeded: BudgetExceeded) -> None:
        super().__init__()
        self.exceeded = exceeded


class Budget:
    """Counts the failures of a run over all its runners. `max_failures` -1: no limit."""

    def __init__(
        self, max_failures: int, already: int, on_failure: Callable[[Failure, int], None]
    ) -> None:
        self.max_failures = max_failures
        self.failed = already
        self.failed_elsewhere = 0
        """In other ranges of the same run, as far as is known."""
        self._on_failure = on_failure

    def spend(self, failure: Failure) -> None:
        """Count a failure. Raises BudgetExceeded when it is one too many."""
        self.failed += 1
        failed = self.failed + self.failed_elsewhere
        self._on_failure(failure, failed)
        if 0 <= self.max_failures < failed:
            raise BudgetExceeded(failure, self.max_failures)

    def spend_handling(self, failure: Failure) -> None:
        """Count a failure of a handler. Raises HandlerOverBudget when it is one too many."""
        try:
            self.spend(failure)
        except BudgetExceeded as exceeded:
            raise HandlerOverBudget(exceeded) from None

"""The failure budget: how many entities may fail before the run stops."""

from __future__ import annotations

from collections.abc import Callable

from bulkup.core.max_failures import MaxFailures
from bulkup.core.model import Failure

Handled = Callable[[bool], tuple[int, int | None]]


class BudgetExceeded(Exception):
    """One failure too many. The entity of `failure` counts as not handled."""

    def __init__(self, failure: Failure, allowed: int) -> None:
        super().__init__(str(failure.error))
        self.failure = failure
        self.allowed = allowed


class HandlerOverBudget(Exception):
    """A handler's failure exceeded the budget; batches before that entity can still be committed.

    Not a BudgetExceeded, which a commit raises when the server refuses an entity.
    """

    def __init__(self, exceeded: BudgetExceeded) -> None:
        super().__init__()
        self.exceeded = exceeded


class Budget:
    """Counts the failures of a run over all its runners.

    `handled` returns how many entities have been handled, and how many there are (None: unknown).
    Called with True, it may wait for the total.
    """

    def __init__(
        self,
        max_failures: MaxFailures,
        already: int,
        on_failure: Callable[[Failure, int, int], None],
        handled: Handled = lambda sure: (0, None),
    ) -> None:
        self.max_failures = max_failures
        self.failed = already
        self.failed_elsewhere = 0
        """Failures in other ranges of the same run, as far as is known."""
        self._on_failure = on_failure
        self._handled = handled

    @property
    def allowed(self) -> int:
        """How many entities may fail, as far as is known; -1: no limit."""
        return self.max_failures.allowed(*self._handled(False))

    def spend(self, failure: Failure) -> None:
        """Count a failure. Raises BudgetExceeded when it is one too many."""
        self.failed += 1
        failed = self.failed + self.failed_elsewhere
        allowed = self.max_failures.allowed(*self._handled(self.max_failures.share is not None))
        self._on_failure(failure, failed, allowed)
        if 0 <= allowed < failed:
            raise BudgetExceeded(failure, allowed)

    def spend_handling(self, failure: Failure) -> None:
        """Count a failure of a handler. Raises HandlerOverBudget when it is one too many."""
        try:
            self.spend(failure)
        except BudgetExceeded as exceeded:
            raise HandlerOverBudget(exceeded) from None

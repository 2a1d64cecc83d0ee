"""Where handlers run: in this process, or in worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from bulkup.engine.budget import Budget
from bulkup.engine.control import Control
from bulkup.engine.handled import Handled

if TYPE_CHECKING:
    from bulkup.engine.shard_runner import ShardRunner


class Sink(Protocol):
    """Where handled entities go: to commits or, in a dry run, to a preview."""

    def add(self, item: Handled) -> None: ...


class HandlerPool(Protocol):
    """Runs the handler for the entities of all active shards."""

    @property
    def moves(self) -> bool:
        """A handler has changed a property that the query orders or ranges on."""

    def begin_round(self) -> None:
        """Take in what has arrived since the last round of `step`s."""

    def step(self, shard: ShardRunner) -> bool:
        """Have some entities of the shard's page handled, or commit some that have been.

        Never waits; returns False when nothing can be done now. Raises HandlerOverBudget, and
        what `Control.check` and the commits raise.
        """

    def collect(self, shards: Iterable[ShardRunner]) -> None:
        """On a stop: commit what handlers have started, and start nothing more."""

    def handle_again(self, item: Handled, result: Any) -> None:
        """Handle an entity again, with what was just read. The first outcome is forgotten."""


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

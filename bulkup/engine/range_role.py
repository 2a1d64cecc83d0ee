"""What the runner of a range learns about the whole run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from bulkup.core.stop import Stopped
from bulkup.engine.steered import SteeringSource
from bulkup.engine.throttle.max_rate import MaxRate

if TYPE_CHECKING:
    from bulkup.engine.scheduler import Scheduler


class RangeRole(Protocol):
    """The run's side of a range. Called by the runner's thread, at most once every CHECK_EVERY_S.
    Nothing here waits, except `split`."""

    @property
    def steering(self) -> SteeringSource:
        """How the whole run is steered."""

    def max_rate(self) -> MaxRate:
        """This worker's share of what the run may do now."""

    def failed_elsewhere(self, handled: int, failed: int) -> int:
        """How many entities have failed in other ranges, as far as is known. `handled` and `failed`
        are the counts of this range so far."""

    def handled_of_run(self, here: int) -> tuple[int, int | None]:
        """How many entities of the whole run are handled, `here` of them in this range, and how
        many there are, or None if that is unknown."""

    def stopped(self) -> Stopped | None:
        """Why the whole run, or this worker, must stop; None if it need not."""

    def split(self, scheduler: Scheduler) -> None:
        """Split the range, if somebody has asked for that. Raises HeldError, CallError."""

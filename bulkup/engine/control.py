"""What stops a runner before its run is finished: a signal, --limit, --max-time."""

from __future__ import annotations

import math
from collections.abc import Callable

from bulkup.core import stop as stopping
from bulkup.core.errors import Exit
from bulkup.core.model import RunState
from bulkup.core.stop import Stopped, StopRequest

CHECK_EVERY_S = 0.1
"""How often limits, progress and the lease are looked at while entities are handled."""


class Control:
    """The requests that a runner obeys between two entities.

    `can_resume`: False for a dry run, which leaves nothing behind that is to be continued.
    `on_check` reports progress and renews the lease; it is called every CHECK_EVERY_S at most. A
    request that comes through the run record (pause, tune, cancel) is to be adopted from there,
    once per renewal, and obeyed in `check`.
    """

    def __init__(
        self,
        stop: StopRequest,
        *,
        limit: int | None,
        max_time_s: float | None,
        monotonic: Callable[[], float],
        on_check: Callable[[], None],
        can_resume: bool = True,
    ) -> None:
        self._stop = stop
        self._monotonic = monotonic
        self._give_up = math.inf if max_time_s is None else monotonic() + max_time_s
        self._on_check = on_check
        self._at_limit = Exit.LIMIT if can_resume else Exit.DONE
        self.limit: float = math.inf if limit is None else limit
        self.handled = 0
        """Entities that this runner has handled."""
        self.next_check = 0.0
        """When `monotonic` says this, the next check is due."""
        stop.on_signal = self._check_at_once

    def check(self) -> None:
        """Raises Stopped when a limit is reached or a signal came, and what `on_check` raises."""
        now = self._monotonic()
        if now >= self.next_check:
            if stopping.is_fork:
                stopping.end_if_fork()
            self.next_check = now + CHECK_EVERY_S
            self._on_check()
        if self._stop.signal is not None:
            raise self.interrupted()
        if self.handled >= self.limit:
            noun = "entity" if self.limit == 1 else "entities"
            raise Stopped(
                RunState.STOPPED, f"stopped after {self.limit} {noun} (--limit)", self._at_limit
            )
        if now >= self._give_up:
            raise Stopped(RunState.STOPPED, "time is up (--max-time)", self._at_limit)

    def _check_at_once(self) -> None:
        """Make the entity that is being handled the last one, even if its batch has more."""
        self.next_check = 0.0

    @property
    def is_interrupted(self) -> bool:
        return self._stop.signal is not None

    def interrupted(self) -> Stopped:
        """How a runner ends that a signal has stopped."""
        assert self._stop.signal is not None
        name = self._stop.signal.name
        code = Exit.SIGTERM if name == "SIGTERM" else Exit.SIGINT
        return Stopped(RunState.INTERRUPTED, f"interrupted by {name}", code)

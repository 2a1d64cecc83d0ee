"""What stops a runner before its run is finished: a signal, a cancel, --limit, --max-time; and what
makes it wait: a pause, a health check, a window."""

from __future__ import annotations

import math
from collections.abc import Callable

from bulkup.core import stop as stopping
from bulkup.core.errors import Exit
from bulkup.core.model import RunState
from bulkup.core.stop import Stopped, StopRequest
from bulkup.engine.holding import Holding

CHECK_EVERY_S = 0.1
"""How often limits, progress and the lease are checked while entities are handled."""


class Control:
    """The requests that a runner obeys between two entities.

    `can_resume`: False for a dry run, which leaves nothing to resume. `on_check` reports progress,
    renews the lease, and adopts how the run is steered (`engine/steered.py`); it is called at most
    once every CHECK_EVERY_S. `holding`: what makes the runner wait, in `check`; None: nothing does.
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
        holding: Holding | None = None,
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
        """The time by `monotonic` at which the next check is due."""
        self.holding = holding
        self.settle: Callable[[], None] = lambda: None
        """Sends what is handled, and waits for all commits."""
        self.wait: Callable[[], None] = lambda: None
        """Waits for a moment."""
        self.ended: Stopped | None = None
        """Why the driver wants the runner to end; None if it does not."""
        self._is_held = False
        stop.on_signal = self._check_at_once

    def check(self) -> None:
        """Waits while the run is held.

        Raises Stopped when a limit is reached or the runner was asked to stop, and what `on_check`
        and the commits raise.
        """
        now = self._monotonic()
        if now >= self.next_check:
            if stopping.is_fork:
                stopping.end_if_fork()
            self.next_check = now + CHECK_EVERY_S
            self._on_check()
            if self.ended is not None:
                raise self.ended
        self._raise_if_over(now)
        if self.holding is not None and not self._is_held and self.holding.reason() is not None:
            self._hold(self.holding)

    def _raise_if_over(self, now: float) -> None:
        if self._stop.is_asked:
            raise self.interrupted()
        if self.handled >= self.limit:
            noun = "entity" if self.limit == 1 else "entities"
            raise Stopped(
                RunState.STOPPED, f"stopped after {self.limit} {noun} (--limit)", self._at_limit
            )
        if now >= self._give_up:
            raise Stopped(RunState.STOPPED, "time is up (--max-time)", self._at_limit)

    def _hold(self, holding: Holding) -> None:
        """Wait until nothing holds the run. A runner may be asked to hold in the middle of a page;
        what it has handled so far is committed first."""
        self._is_held = True
        try:
            self.settle()
            while (reason := holding.reason()) is not None:
                holding.held(reason)
                self._raise_if_over(self._monotonic())
                self.wait()
                self._on_check()
                if self.ended is not None:
                    raise self.ended
            self._raise_if_over(self._monotonic())
            holding.released()
        finally:
            self._is_held = False
            holding.ended()

    def _check_at_once(self) -> None:
        """Make the entity that is being handled the last one, even if its batch has more."""
        self.next_check = 0.0

    @property
    def is_interrupted(self) -> bool:
        """A signal or a cancel has stopped it."""
        return self._stop.is_asked

    def interrupted(self) -> Stopped:
        """What to raise to end a runner that was asked to stop."""
        if self._stop.signal is None:
            return Stopped(RunState.STOPPED, self._stop.cancelled, Exit.CANCELLED)
        name = self._stop.signal.name
        code = Exit.SIGTERM if name == "SIGTERM" else Exit.SIGINT
        return Stopped(RunState.INTERRUPTED, f"interrupted by {name}", code)

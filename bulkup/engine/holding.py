"""What makes a runner wait while it keeps its run: a pause, a window that is closed, a health check
that says no."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from bulkup.core.errors import Exit
from bulkup.core.events import Held, Released
from bulkup.core.model import RunState
from bulkup.core.stop import Stopped
from bulkup.core.vitals import Phase
from bulkup.engine.steered import SteeredRun


class Reason(NamedTuple):
    """Why a run is held."""

    phase: Phase
    """PAUSED or HELD."""
    why: str
    until: datetime | None = None
    """When the hold ends; None if that is unknown."""
    gives_up: bool = False
    """`--max-hold` applies, and may end the run."""
    is_short: bool = False
    """The hold is usually over in a moment, and not reported unless it lasts for SHORT_S."""


SHORT_S = 2.0


class Gate(Protocol):
    """Holds the run while it is closed. `reason` is called ten times a second: it must not wait."""

    def reason(self) -> Reason | None:
        """Why the gate is closed; None if it is open."""

    def close(self) -> None:
        """Called when the runner has ended."""


class Holding:
    """Decides whether a run is held, and reports it. `Control` does the waiting.

    A pause comes before all gates, and the gates are asked in order. `max_hold_s`: how long gates
    whose reason has `gives_up` may hold the run without a break.
    """

    def __init__(
        self,
        steered: SteeredRun | None,
        gates: Sequence[Gate],
        emit: Callable[[Held | Released], None],
        monotonic: Callable[[], float],
        *,
        max_hold_s: float | None = None,
    ) -> None:
        self._steered = steered
        self._gates = gates
        self._emit = emit
        self._monotonic = monotonic
        self._max_hold_s = max_hold_s
        self._told: Reason | None = None
        self._since: float | None = None
        """When the present hold began."""
        self._held_since: float | None = None
        """When gates whose reason has `gives_up` began to hold the run."""

    def reason(self) -> Reason | None:
        """Why the run must be held now; None if it may work."""
        steered = self._steered
        if steered is not None and steered.steering.is_paused:
            return Reason(Phase.PAUSED, steered.why_paused())
        for gate in self._gates:
            reason = gate.reason()
            if reason is not None:
                return reason
        return None

    def held(self, reason: Reason) -> None:
        """Note that the run waits, with no commit in flight. Raises Stopped after `--max-hold`."""
        now = self._monotonic()
        if self._since is None:
            self._since = now
        if not reason.gives_up:
            self._held_since = None
        elif self._held_since is None:
            self._held_since = now
        if reason.is_short and self._told is None and now - self._since < SHORT_S:
            return
        told, self._told = self._told, reason
        if told is None or told[:2] != reason[:2]:
            self._leave_pause(told, reason)
            if reason.phase is Phase.PAUSED:
                if self._steered is not None and (told is None or told.phase is Phase.HELD):
                    self._steered.is_now_paused()
            else:
                self._emit(Held(reason.why, reason.until))
        if (
            self._max_hold_s is not None
            and self._held_since is not None
            and now - self._held_since >= self._max_hold_s
        ):
            raise Stopped(RunState.STOPPED, f"held for too long (--max-hold): {reason.why}",
                          Exit.LIMIT)  # fmt: skip

    def released(self) -> None:
        """Note that the run works again."""
        told = self._told
        self._leave_pause(told, None)
        if told is not None and told.phase is Phase.HELD and self._since is not None:
            self._emit(Released(self._monotonic() - self._since))

    def _leave_pause(self, told: Reason | None, reason: Reason | None) -> None:
        was_paused = told is not None and told.phase is Phase.PAUSED
        is_paused = reason is not None and reason.phase is Phase.PAUSED
        if was_paused and not is_paused and self._steered is not None:
            self._steered.is_continued()

    def ended(self) -> None:
        """Note that the runner has stopped waiting: it works again, or ends."""
        self._told = self._since = self._held_since = None

    def close(self) -> None:
        """Called when the runner has ended."""
        for gate in self._gates:
            gate.close()

    def now(self) -> tuple[Phase, str] | None:
        """PAUSED or HELD, and why; None if the run works."""
        return None if self._told is None else self._told[:2]

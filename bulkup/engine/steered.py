"""The runner's side of steering: adopts changes from the run's folder and from the run record,
obeys them, and answers in both.

The folder is for those on the same machine, and is looked at with every check; the record is for
everybody else, and is read every few seconds (`state/lease.py`).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Protocol

from bulkup.core.errors import StateError, UsageError
from bulkup.core.events import Steered
from bulkup.core.steering import UNSTEERED, Steering, Tuning, Verb, newest
from bulkup.core.stop import StopRequest
from bulkup.core.vitals import Phase
from bulkup.state.record import RunRecord
from bulkup.state.steering import (
    Answer,
    FolderBusyError,
    SteeringFile,
    adopt_steering,
    write_answer,
)

LOOK_EVERY_S = 0.1
ENDING = "ending"
"""The phase of a runner that was cancelled."""


@dataclass
class CarriedSteering:
    """The last steering of a command that executes several runs: the next one begins with it."""

    steering: Steering = UNSTEERED
    before_wait: Steering | None = None
    """The run's steering when this command began to wait for it; None: it has not waited."""


class SteeringSource(Protocol):
    """Provides a run record that says how the run is steered."""

    @property
    def record(self) -> RunRecord:
        """The record as it was last read."""

    def renew_soon(self) -> None:
        """Write the record soon: what was adopted is not in it yet."""


class SteeredRun:
    """How one runner is steered.

    `lease`: the run's lease, or whatever else knows its record. At first it has what was known when
    the run was acquired. `tune` puts a tuning into force, and may raise UsageError.
    `continue_command`: how to continue the run once it is paused.
    """

    def __init__(
        self,
        lease: SteeringSource,
        folder: Path,
        stop: StopRequest,
        carried: CarriedSteering,
        *,
        tune: Callable[[Tuning], None],
        emit: Callable[[Steered], None],
        monotonic: Callable[[], float],
        continue_command: str,
    ) -> None:
        self._lease = lease
        self._folder = folder
        self._stop = stop
        self._carried = carried
        self._tune = tune
        self._emit = emit
        self._monotonic = monotonic
        self._continue_command = continue_command
        self._file = SteeringFile(folder)
        self._next = 0.0
        self._in_file = UNSTEERED
        self._file_is_lost = False
        """The steering file cannot be written; the record has the same content."""
        self._resumed_paused = lease.record.steering.is_paused
        self._is_paused = False
        self._answered: Answer | None = None
        self.obeyed = lease.record.obeyed
        self.steering = UNSTEERED
        self._adopt(lease.record.steering, quietly=True)

    # --- adopting ---

    def look(self) -> None:
        """Adopt what has changed; cheap when nothing has. Called during every wait."""
        now = self._monotonic()
        if now < self._next:
            return
        self._next = now + LOOK_EVERY_S
        if (changed := self._file.changed()) is not None:
            self._in_file = changed
        found = newest(self.steering, self._lease.record.steering, self._in_file)
        if found != self.steering:
            self._adopt(found)
        if found.number > self._in_file.number and not self._file_is_lost:
            self._write_file()

    def _write_file(self) -> None:
        try:
            self._in_file = adopt_steering(self._folder, self.steering)
        except FolderBusyError:
            pass  # the next look tries again
        except StateError:
            self._file_is_lost = True

    def _adopt(self, found: Steering, *, quietly: bool = False) -> None:
        before, self.steering = self.steering, found
        self._carried.steering = found
        if found != self._lease.record.steering:
            self._lease.renew_soon()
        if found.tuning != before.tuning:
            with suppress(UsageError):  # checked where it was made
                self._tune(found.tuning)
            if not quietly:
                how = str(found.tuning) or "as the run was started"
                self._emit(Steered(Verb.TUNE, found, f"tuned by {found.by}: {how}"))
        if found.is_cancelled:
            self._stop.cancel(f"cancelled by {found.by}")
            self._answer(ENDING)
        elif found.is_paused == self._is_paused:
            self._answer((Phase.PAUSED if found.is_paused else Phase.WORKING).value)

    def refresh(self, record: RunRecord) -> RunRecord:
        """The record with what a renewal of the lease should write about the steering."""
        steering = newest(record.steering, self.steering)
        if steering == UNSTEERED:
            return record
        return replace(record, steering=steering, obeyed=max(record.obeyed, self.obeyed))

    # --- done ---

    def why_paused(self) -> str:
        return f"paused by {self.steering.by}"

    def is_now_paused(self) -> None:
        """Note that commits in flight have ended, and that the run waits."""
        self._is_paused = True
        steering, how = self.steering, f"continue with: {self._continue_command}"
        if self._resumed_paused:
            at = datetime.fromtimestamp(steering.at, timezone.utc)
            message = f"the run was paused by {steering.by} at {at:%Y-%m-%d %H:%M} UTC; {how}"
            self._emit(Steered(Verb.RESUME, steering, message))
        else:
            self._emit(Steered(Verb.PAUSE, steering, f"{self.why_paused()}; {how}"))
        self._resumed_paused = False
        self._answer(Phase.PAUSED.value)

    def is_continued(self) -> None:
        self._is_paused = self._resumed_paused = False
        self._emit(Steered(Verb.CONTINUE, self.steering, f"continued by {self.steering.by}"))
        self._answer(Phase.WORKING.value)

    def is_cancelled(self) -> None:
        """Report that the runner has ended because it was cancelled."""
        self._emit(Steered(Verb.CANCEL, self.steering, f"cancelled by {self.steering.by}"))

    def _answer(self, phase: str) -> None:
        answer = Answer(self.steering.number, phase, os.getpid())
        if not answer.number or answer == self._answered:
            return
        self._answered = answer
        if answer.number != self.obeyed:
            self.obeyed = answer.number
            self._lease.renew_soon()
        with suppress(OSError):
            write_answer(self._folder, answer)

"""Steer a run from outside: what `bulkup pause`, `continue`, `cancel` and `tune` call.

A process on this machine that works on the run reads the run's folder, and answers there within a
second. A process elsewhere reads the run record, and answers there within a few seconds. So the
folder comes first, and the record is used if nobody has answered: the folder may be a copy, its
process may hang, or another machine may have taken over the run.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from bulkup.core.clock import Clock
from bulkup.core.errors import (
    BulkupError,
    NoTargetError,
    NotFoundError,
    StateError,
    UsageError,
)
from bulkup.core.model import RunState
from bulkup.core.records import RunInfo
from bulkup.core.steering import NO_TUNING, Steering, Tuning, Verb, newest
from bulkup.datastore.connect import open_rpc
from bulkup.datastore.retry import RetryPolicy
from bulkup.datastore.rpc_errors import explained
from bulkup.runs.steered_run import Ledgers, current, folder_of, in_group
from bulkup.runs.target import TargetOptions, open_target, options_for
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.files import RunLock
from bulkup.state.groups import find_group
from bulkup.state.holder import has_died, this_process
from bulkup.state.record import RunRecord
from bulkup.state.run_records import Ledger, RecordMovedOn
from bulkup.state.steering import (
    adopt_steering,
    change_steering,
    read_answer,
    read_steering,
)

WAIT_S = 10.0
"""How long to wait for an answer. The runner may be in a slow handler."""
HERE_WAIT_S = 3.0
"""How long to wait for an answer in the folder before the record is used, too."""
POLL_S = 0.02
POLL_RECORD_S = 0.5
RETRY_FOR_S = 30.0


@dataclass(frozen=True)
class Change:
    """What a run is asked to do. `tuning` is used with TUNE."""

    verb: Verb
    tuning: Tuning = NO_TUNING


class Outcome(Enum):
    """The outcome of steering."""

    DONE = "done"
    """The process that works on the run has done it."""
    ASKED = "asked"
    """The process has not answered yet. It obeys when it next looks."""
    NOBODY = "nobody"
    """Nobody works on the run. Whoever resumes it finds the change."""


@dataclass(frozen=True)
class SteerResult:
    run_id: str
    """The id of the run that was steered: in a chain or a group, the one that is worked on."""
    updater: str
    verb: Verb
    steering: Steering
    """The steering of the run as it is now."""
    changed: bool
    """False: the run was already in that state."""
    outcome: Outcome


def steer(
    name: str,
    change: Change,
    *,
    state_dir: Path,
    target: TargetOptions | None = None,
    wait_s: float = WAIT_S,
    by: str | None = None,
) -> SteerResult:
    """Change how a run is steered, and wait up to `wait_s` until its process has done it.

    `name` is the id of a run, of a chain's first run, or of a group of runs; in `state_dir` it may
    be shortened. `target` is where to look for a run that is not in `state_dir`. `by`: user@host;
    None: that of this process. Raises NotFoundError when there is no such run or it is over,
    UsageError when it cannot be steered in this way, StateError, TargetError.
    """
    by = by or this_process().who
    steerer = _Steerer(name, change, target or TargetOptions(), wait_s, by)
    folder = folder_of(state_dir, name)
    if folder is None:
        return steerer.by_record(None, None)
    run_info = steerer.run_in(folder)
    trouble: BulkupError | None = None
    if RunLock(folder).is_held():
        try:
            result = steerer.here(folder, run_info)
        except StateError as error:  # for example, the folder is read-only
            trouble = error
        else:
            if result is not None:
                return result
    try:
        return steerer.by_record(folder, run_info)
    except BulkupError as error:
        if trouble is not None:
            raise trouble from error
        if isinstance(error, (NotFoundError, UsageError)):
            raise
        # The folder has the change, but a process elsewhere that works on the run does not know it.
        raise type(error)(
            f"run {run_info.run_id} is asked to {change.verb} in its folder alone: {error.message}",
            details=error.details,
        ) from error


class _Steerer:
    def __init__(
        self, name: str, change: Change, target: TargetOptions, wait_s: float, by: str
    ) -> None:
        self._name = name
        self._change = change
        self._target = target
        self._wait_s = wait_s
        self._by = by
        self._ours: Steering | None = None
        """The steering that this command wrote to the folder; None: it has written none."""

    def run_in(self, folder: Path) -> RunInfo:
        """Raises NotFoundError when the run is over."""
        with closing(Checkpoint.open(folder, check=False)) as checkpoint:
            status = checkpoint.status()
            if status.state.is_over:
                raise _over(checkpoint.run_info.run_id, status.state, self._change.verb)
            return checkpoint.run_info

    # --- in the folder ---

    def here(self, folder: Path, run_info: RunInfo) -> SteerResult | None:
        """Ask the process on this machine that works on the run; None if it does not answer."""
        changed = False

        def change(there: Steering) -> Steering:
            nonlocal changed
            after = self._after(there, run_info.run_id)
            changed = after is not there
            return after

        self._ours = steering = change_steering(folder, change)
        outcome = self._wait_here(folder, steering)
        return outcome and self._result(run_info, steering, changed, outcome)

    def _wait_here(self, folder: Path, steering: Steering) -> Outcome | None:
        """The outcome; None if the process does not answer, or has ended without being asked to."""
        cancels, lock = self._change.verb is Verb.CANCEL, RunLock(folder)
        give_up = time.monotonic() + min(self._wait_s, HERE_WAIT_S)
        while True:
            answer = read_answer(folder)
            has_answered = answer is not None and answer.number >= steering.number
            is_over = not lock.is_held()
            if cancels and has_answered and is_over:
                self.run_in(folder)  # raises if the run finished nevertheless
                return Outcome.DONE
            if not cancels and (has_answered or not steering.number):
                return Outcome.DONE
            if is_over or time.monotonic() >= give_up:
                return Outcome.ASKED if has_answered and not is_over else None
            time.sleep(POLL_S)

    # --- in the record ---

    def by_record(self, folder: Path | None, run_info: RunInfo | None) -> SteerResult:
        """Change the record, and also the folder, so that both say the same."""
        options = self._target if run_info is None else options_for(run_info, self._target)
        not_here = NotFoundError(
            f"there is no run {self._name!r} in this state directory; --project or --local says in "
            "which Datastore to look for it, --state-dir names another state directory"
        )
        try:
            with _connected(options) as ledgers:
                return self._by_record(ledgers, folder, run_info)
        except NoTargetError as error:
            if run_info is None and not (options.project or options.local):
                raise not_here from error
            raise

    def _by_record(
        self, ledgers: Ledgers, folder: Path | None, run_info: RunInfo | None
    ) -> SteerResult:
        ledger, record = self._find(ledgers, run_info)
        if record is None:
            return self._folder_alone(folder, run_info)
        while True:
            run_id = record.run_info.run_id
            if record.state.is_over:
                raise _over(run_id, record.state, self._change.verb)
            there = record.steering
            if folder is not None:
                there = newest(there, read_steering(folder))
            steering = there
            if self._ours is None or there != self._ours:
                steering = self._after(there, run_id)
            changed = steering is not there or there == self._ours
            if steering == record.steering:
                break
            try:
                record = ledger.write(replace(record, steering=steering))
                break
            except RecordMovedOn:
                record = _still_there(ledger.read(run_id), run_id)
                if record.steering == steering:
                    break  # our earlier attempt worked, but its answer was lost
        if folder is not None and folder.name == run_id:
            try:
                adopt_steering(folder, steering)
            except StateError:
                pass  # read-only, or busy: the record has it
        outcome = self._wait_for_record(ledger, record, steering, changed=changed)
        return self._result(record.run_info, steering, changed, outcome)

    def _find(self, ledgers: Ledgers, run_info: RunInfo | None) -> tuple[Ledger, RunRecord | None]:
        """The record of the run, or of the run in its chain or group that is in progress."""
        ledger = ledgers.of()
        run_id = self._name if run_info is None else run_info.run_id
        record = ledger.read(run_id)
        if record is None and run_info is None:
            found = find_group(ledgers.rpc, ledgers.target, run_id)
            if found is not None:
                return in_group(ledgers, found[1])
        is_other = record and run_info and record.run_info.created != run_info.created
        if is_other:  # a later run, whose id was made from the same name
            return ledger, None
        return ledger, current(ledger, record)

    def _folder_alone(self, folder: Path | None, run_info: RunInfo | None) -> SteerResult:
        if folder is None or run_info is None:
            raise NotFoundError(
                f"there is no run {self._name!r} in this state directory or on this target; "
                "`bulkup list --all` shows all that there are"
            )
        changed = False

        def change(there: Steering) -> Steering:
            nonlocal changed
            if there == self._ours:
                changed = True
                return there
            after = self._after(there, run_info.run_id)
            changed = after is not there
            return after

        steering = change_steering(folder, change)
        outcome = Outcome.ASKED if RunLock(folder).is_held() else Outcome.NOBODY
        return self._result(run_info, steering, changed, outcome)

    def _wait_for_record(
        self, ledger: Ledger, record: RunRecord, steering: Steering, *, changed: bool
    ) -> Outcome:
        give_up = time.monotonic() + self._wait_s
        run_id = record.run_info.run_id
        while True:
            if record.state.is_over:  # it has ended in the meantime
                raise _over(run_id, record.state, self._change.verb)
            if not changed and record.obeyed >= steering.number:
                return Outcome.DONE if self._is_held(ledger, record) else Outcome.NOBODY
            if record.state is not RunState.RUNNING or not self._is_held(ledger, record):
                ended = changed and self._change.verb is Verb.CANCEL and record.obeyed
                return Outcome.DONE if ended == steering.number else Outcome.NOBODY
            if record.obeyed >= steering.number and self._change.verb is not Verb.CANCEL:
                return Outcome.DONE
            if time.monotonic() >= give_up:
                return Outcome.ASKED
            time.sleep(POLL_RECORD_S)
            read = ledger.read(run_id)
            if read is None:
                return Outcome.NOBODY
            record = read

    def _is_held(self, ledger: Ledger, record: RunRecord) -> bool:
        holder = record.lease.holder
        is_alive = holder is not None and not has_died(holder)
        return is_alive and record.lease.is_held(ledger.server_time.now())

    # --- both ---

    def _after(self, there: Steering, run_id: str) -> Steering:
        """The steering after the change. Raises UsageError when the current steering does not allow
        it."""
        change = self._change
        after = there.after(change.verb, by=self._by, at=time.time(), tuning=change.tuning)
        if after is None:
            raise UsageError(
                f"run {run_id} was cancelled by {there.by}, so it cannot {change.verb}; "
                f"`bulkup resume {run_id}` continues it"
            )
        return after

    def _result(
        self, run_info: RunInfo, steering: Steering, changed: bool, outcome: Outcome
    ) -> SteerResult:
        verb = self._change.verb
        return SteerResult(run_info.run_id, run_info.updater, verb, steering, changed, outcome)


def _still_there(record: RunRecord | None, run_id: str) -> RunRecord:
    if record is None:
        raise NotFoundError(f"run {run_id} has just ended")
    return record


def _over(run_id: str, state: RunState, verb: Verb) -> NotFoundError:
    return NotFoundError(
        f"run {run_id} is {state.value}, so there is nothing to {verb}; `bulkup show {run_id}` "
        "shows its report"
    )


@contextmanager
def _connected(options: TargetOptions) -> Iterator[Ledgers]:
    with (
        open_target(options, only_reads=True) as target,
        closing(open_rpc(target, RetryPolicy(RETRY_FOR_S), Clock())) as rpc,
        explained(rpc),
    ):
        yield Ledgers(rpc, target.info)

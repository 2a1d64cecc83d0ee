"""How a runner ended: the state, the reason and the exit code of its report."""

from __future__ import annotations

from typing import NamedTuple

from bulkup.core.errors import BulkupError, Exit, StopAskedError
from bulkup.core.events import Detailed
from bulkup.core.model import RunState
from bulkup.core.stop import Stopped
from bulkup.datastore.call_error import CallError
from bulkup.datastore.rpc import Rpc
from bulkup.datastore.rpc_errors import explain
from bulkup.engine.budget import BudgetExceeded
from bulkup.engine.control import Control


class Outcome(NamedTuple):
    state: RunState
    reason: str
    exit_code: Exit
    details: str = ""
    """What else the user should know, as a warning."""
    over_budget: bool = False
    """Failures have stopped the runner."""

    @property
    def warning(self) -> str:
        """`details` as a warning; empty if there are none."""
        first, _, rest = self.details.partition("\n")
        return Detailed(f"the error in full: {first}", rest) if first else ""


FINISHED = Outcome(RunState.FINISHED, "", Exit.DONE)


def outcome_of(
    error: Stopped | BudgetExceeded | CallError | BulkupError, rpc: Rpc, control: Control
) -> Outcome:
    """The outcome of a runner that this error has ended."""
    if isinstance(error, Stopped):
        return Outcome(error.state, error.reason, error.exit_code)
    if isinstance(error, BudgetExceeded):
        return Outcome(RunState.FAILED, _over_budget(error), Exit.FAILED, over_budget=True)
    if isinstance(error, BulkupError):
        return outcome_of_error(error)
    if control.is_interrupted and error.worth_another_try:
        # The signal has shortened the retries, so the signal is why the runner ended.
        stopped = control.interrupted()
        return Outcome(
            stopped.state, stopped.reason, stopped.exit_code,
            f"the Datastore at {rpc.address} did not answer in time, so the outcome of the last "
            "commits is unknown; resume finds it out, and writes nothing twice",
        )  # fmt: skip
    explained = explain(error, address=rpc.address, project=rpc.project, contacted=rpc.contacted)
    return Outcome(RunState.FAILED, explained.message, explained.exit_code, explained.details)


def outcome_of_error(error: BulkupError) -> Outcome:
    """The outcome of a runner that this error has ended: INTERRUPTED if it was asked to stop,
    STOPPED if the run was cancelled, otherwise FAILED."""
    state = RunState.FAILED
    if isinstance(error, StopAskedError):
        cancelled = error.exit_code is Exit.CANCELLED
        state = RunState.STOPPED if cancelled else RunState.INTERRUPTED
    return Outcome(state, error.message, error.exit_code, error.details)


def _over_budget(exceeded: BudgetExceeded) -> str:
    key, error, most = exceeded.failure.key, exceeded.failure.error, exceeded.allowed
    if most == 0:
        return f"stopped at the first failure: {key}: {error}"
    return (
        f"more than {most} {'entity' if most == 1 else 'entities'} failed (--max-failures); "
        f"the last was {key}: {error}"
    )


def final_exit(state: RunState, exit_code: Exit, failed: int) -> Exit:
    """The exit code of a runner. A finished run, or a dry run at its limit, gets a code of its own
    if entities failed."""
    if state in (RunState.FINISHED, RunState.STOPPED) and exit_code is Exit.DONE and failed:
        return Exit.DONE_WITH_FAILURES
    return exit_code

"""The report of a run as its checkpoint tells it."""

from __future__ import annotations

from datetime import datetime
from itertools import islice

from bulkup.engine.events import Report
from bulkup.errors import Exit
from bulkup.facts import RunState
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.records import predecessor_of

SHOWN_FAILURES = 20
SHOWN_LOG_LINES = 20
"""So many of each are in a report; the checkpoint has them all."""


def stored_report(
    checkpoint: Checkpoint, *, next_command: str = "", shown: int = SHOWN_FAILURES
) -> Report:
    """What is known of a run, whether its runner lives or not; with `shown` of its failures."""
    record, state = checkpoint.record, checkpoint.state
    started = datetime.fromisoformat(record.created)
    ended = datetime.fromisoformat(checkpoint.ended) if checkpoint.ended else started
    return Report(
        run_id=record.run_id,
        updater=record.updater,
        description=record.description,
        target=record.target,
        params=record.params,
        dry_run=False,
        state=state,
        reason=checkpoint.reason,
        exit_code=checkpoint.exit_code,
        counts=checkpoint.counts(),
        total=None,
        started=started,
        ended=ended,
        elapsed_s=(ended - started).total_seconds(),
        retries=0,
        failures=tuple(islice(checkpoint.failures(), shown)),
        log_lines=tuple(islice(checkpoint.log_lines(), SHOWN_LOG_LINES)),
        log_total=checkpoint.log_total(),
        state_file=str(checkpoint.path),
        next_command=next_command if state is not RunState.FINISHED else "",
        runners=checkpoint.runners,
        max_failures=checkpoint.max_failures,
        predecessor=predecessor_of(record.run_id),
        successor=checkpoint.successor,
    )


def final_exit(state: RunState, exit_code: Exit, failed: int) -> Exit:
    """Done, but some entities failed, has a code of its own."""
    if state is RunState.FINISHED and exit_code is Exit.DONE and failed:
        return Exit.DONE_WITH_FAILURES
    return exit_code

"""The report of a run, as its checkpoint tells it or (dry run) its runner."""

from __future__ import annotations

from datetime import datetime
from itertools import islice

from bulkup.engine.events import Report
from bulkup.engine.telling import SHOWN_FAILURES, SHOWN_LOG_LINES, Telling
from bulkup.errors import Exit
from bulkup.facts import Counts, RunState
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.records import RunRecord, predecessor_of


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


def dry_report(
    record: RunRecord,
    telling: Telling,
    counts: Counts,
    *,
    state: RunState,
    reason: str,
    exit_code: Exit,
    started: datetime,
    ended: datetime,
    max_failures: int,
) -> Report:
    """Of a dry run, which has no checkpoint."""
    return Report(
        run_id=record.run_id,
        updater=record.updater,
        description=record.description,
        target=record.target,
        params=record.params,
        dry_run=True,
        state=state,
        reason=reason,
        exit_code=final_exit(state, exit_code, counts.failed),
        counts=counts,
        total=None,
        started=started,
        ended=ended,
        elapsed_s=0.0,
        retries=0,
        failures=tuple(telling.failures),
        log_lines=tuple(telling.log_lines),
        log_total=telling.log_total,
        max_failures=max_failures,
    )


def final_exit(state: RunState, exit_code: Exit, failed: int) -> Exit:
    """Done, but some entities failed, has a code of its own."""
    if state is RunState.FINISHED and exit_code is Exit.DONE and failed:
        return Exit.DONE_WITH_FAILURES
    return exit_code

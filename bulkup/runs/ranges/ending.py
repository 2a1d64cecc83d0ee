"""Ends a run that is cut into ranges: as finished if all its ranges are, else as unfinished."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from bulkup.core.errors import Exit, HeldError, NotFoundError
from bulkup.core.events import EntityFailed, Event, Report, RunEnded, RunStarted
from bulkup.core.model import Counts, RangesSeen, RunState
from bulkup.core.steering import newest
from bulkup.datastore.rpc import Rpc
from bulkup.engine.outcomes import Outcome, final_exit
from bulkup.engine.reports import stored_report
from bulkup.runs.acquire import acquire_lease, open_checkpoint
from bulkup.runs.execute import execute
from bulkup.runs.prepare import PreparedRun
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.display import retry_command
from bulkup.state.markers import LATE_COPY_S
from bulkup.state.notes import Notes, notes_of_ranges
from bulkup.state.range_ledger import RangeLedger
from bulkup.state.ranges import (
    change_record,
    is_finished,
    prefix_of,
    ranges_of,
    total_of,
    why_not_covered,
)
from bulkup.state.ranges_seen import note_seen
from bulkup.state.record import LEASE_S, RunRecord
from bulkup.state.unreported import reported

NOTHING_LEFT = Outcome(RunState.FINISHED, "", Exit.DONE)
ENDING_WITHIN_S = 600.0
"""How long to wait for another process that is ending the run: its `finish` may be slow."""

SHARDS_OF_RANGE = 1_000_000
"""Numbers reserved for the shards of a range. It never needs so many: each recovery adds a few."""


def conclude_run(
    prepared: PreparedRun,
    run_id: str,
    outcome: Outcome | None = None,
    one_too_many: EntityFailed | None = None,
    *,
    checkpoint: Checkpoint | None = None,
) -> Report:
    """End the run if its ranges cover its query and each is finished; otherwise report its
    progress. `outcome`: why this process stopped before that; None if it had no reason of its own.
    `one_too_many`: the failure that stopped it. `checkpoint`: the run's own, locked; None: open it
    here.

    Raises BulkupError when the run cannot be ended, CallError.
    """
    record = prepared.ledger.read(run_id)
    if record is None or record.ranges is None:
        raise NotFoundError(
            f"the run record of {run_id} was removed while it worked, so nobody knows which of its "
            "ranges are done; `bulkup list` shows what is known here"
        )
    if checkpoint is not None:
        return _conclude(prepared, record, outcome, one_too_many, checkpoint)
    waits = replace(
        prepared,
        context=replace(prepared.context, wait_s=max(prepared.context.wait_s, ENDING_WITHIN_S)),
    )
    with open_checkpoint(record.run_info, waits) as opened:
        return _conclude(prepared, record, outcome, one_too_many, opened)


def _conclude(
    prepared: PreparedRun,
    record: RunRecord,
    outcome: Outcome | None,
    one_too_many: EntityFailed | None,
    checkpoint: Checkpoint,
) -> Report:
    ranges = _ranges(prepared, record)
    why = why_not_done(record, ranges)
    if record.state.is_over or not why:
        try:
            return _finish(prepared, record, ranges, checkpoint)
        except NotFoundError:
            pass  # another process was faster
        except HeldError as held:
            outcome = outcome or Outcome(RunState.FAILED, held.message, held.exit_code)
        record = prepared.ledger.read(record.run_info.run_id) or record
        if record.state.is_over:
            return _report_ended(prepared, record, ranges, checkpoint)
    order = record.ranges.stop if record.ranges is not None else None
    if order is not None and (outcome is None or outcome.exit_code is Exit.DONE):
        outcome = Outcome(
            order.state, order.reason, Exit(order.exit_code),
            over_budget=order.state is RunState.FAILED,
        )  # fmt: skip
    elif outcome is None and record.steering.is_cancelled:  # and no process conducts any more
        reason = f"cancelled by {record.steering.by}"
        outcome = Outcome(RunState.STOPPED, reason, Exit.CANCELLED)
    if one_too_many is not None:
        checkpoint.stopped_by(one_too_many.failure, one_too_many.max_failures)
    return _report_unfinished(
        prepared, record, ranges, checkpoint,
        outcome or Outcome(RunState.FAILED, why, Exit.FAILED),
    )  # fmt: skip


def _ranges(prepared: PreparedRun, record: RunRecord) -> list[RunRecord]:
    return ranges_of(RangeLedger.beside(prepared.ledger), record)


def why_not_done(record: RunRecord, ranges: Sequence[RunRecord]) -> str:
    """Why a run is not finished, as a sentence without a full stop; empty: it is finished."""
    assert record.ranges is not None
    left = sum(not is_finished(one) for one in ranges)
    if left:
        return f"{left:,} of {len(ranges):,} ranges are not finished"
    if why := why_not_covered(record.ranges, ranges):
        return f"the ranges do not cover the query: {why}"
    return ""


def collect(
    rpc: Rpc, record: RunRecord, ranges: Sequence[RunRecord], counts: Counts, checkpoint: Checkpoint
) -> None:
    """Copy what Datastore knows of all ranges into the run's own checkpoint: counts, failures and
    log lines. `counts`: the sum over all ranges. Raises CallError."""
    run_info = record.run_info
    if record.total is not None:
        checkpoint.total_is(record.total)
    checkpoint.catch_up(counts)
    if ranges and record.ranges is not None:
        own = {"": record.ranges.base.writes}
        checkpoint.ranges_have_written(
            own | {one.run_info.run_id: one.counts.writes for one in ranges}
        )
        finished = sum(map(is_finished, ranges))
        seen = RangesSeen(finished, len(ranges), counts, record.total, record.ranges.at)
        note_seen(checkpoint.folder, seen)
    namespace = run_info.target.namespace
    for note in Notes(rpc, namespace, run_info.run_id).read():
        checkpoint.restore(note)
    for range_id, note in notes_of_ranges(rpc, namespace, prefix_of(run_info.run_id)):
        place = replace(note.place, shard=_shards_from(range_id) + note.place.shard)
        checkpoint.restore(replace(note, place=place))


def _shards_from(range_id: str) -> int:
    """The first shard number of a range in the run's own checkpoint. It is below 2**63, and always
    the same for a range, so that no note is counted twice."""
    digest = hashlib.sha256(range_id.encode()).digest()
    return (1 + int.from_bytes(digest[:8], "big") % 2**43) * SHARDS_OF_RANGE


def _finish(
    prepared: PreparedRun, record: RunRecord, ranges: Sequence[RunRecord], checkpoint: Checkpoint
) -> Report:
    """End the run and report it. Raises NotFoundError when the run has just ended, HeldError."""
    if record.state.is_over:
        return _report_ended(prepared, record, ranges, checkpoint)
    context = prepared.context
    waits = replace(context, wait_s=max(context.wait_s, ENDING_WITHIN_S))
    held = acquire_lease(replace(prepared, context=waits), record, checkpoint)
    ranges = _ranges(prepared, held)
    assert held.ranges is not None
    counts = total_of(held.ranges, ranges)
    # A late copy of a commit may reach any of the ranges, or bring back the record of one.
    fenced_until = int(context.clock.unix() + LATE_COPY_S) + 1
    holder, done = held.lease.holder, len(ranges)

    def ended(there: RunRecord) -> RunRecord:
        if there.lease.holder != holder:
            raise HeldError(f"another process ends run {there.run_info.run_id}")
        assert there.ranges is not None
        return replace(
            there,
            counts=counts,
            ranges=replace(there.ranges, finished=done, total=done, workers=()),
            layout=replace(there.layout, settled=counts, fenced_until=fenced_until),
        )

    held = change_record(prepared.ledger, held.run_info.run_id, ended) or held
    collect(prepared.rpc, held, ranges, counts, checkpoint)

    def still_held(there: RunRecord) -> RunRecord:
        """Renew the lease: reading many notes may have taken longer than it lasts."""
        if there.lease.holder != holder:
            raise HeldError(f"another process ends run {there.run_info.run_id}")
        lease = replace(there.lease, until=int(context.clock.unix() + LEASE_S))
        return replace(there, lease=lease)

    held = change_record(prepared.ledger, held.run_info.run_id, still_held) or held
    if held.state.is_over:
        raise NotFoundError(f"another process has ended run {held.run_info.run_id}")

    def listen(event: Event) -> None:
        if isinstance(event, RunStarted):
            return  # it was already emitted
        if isinstance(event, RunEnded):  # counts are of all processes, operations of this one
            event = RunEnded(replace(event.report, operations=None))
        context.listener(event)

    told = replace(prepared, context=replace(context, listener=listen), warnings=[])
    created = datetime.fromisoformat(held.run_info.created)
    took_s = max(0.0, (context.clock.now() - created).total_seconds())
    report = execute(told, checkpoint, held, None, began=context.clock.monotonic() - took_s)
    return replace(report, operations=None)


def _report_ended(
    prepared: PreparedRun, record: RunRecord, ranges: Sequence[RunRecord], checkpoint: Checkpoint
) -> Report:
    """The report of a run that another process has ended."""
    note_end(prepared, record, checkpoint)
    return _deliver(prepared, checkpoint, next_command="")


def note_end(prepared: PreparedRun, record: RunRecord, checkpoint: Checkpoint) -> None:
    """Record in the run's own checkpoint how another process ended the run. Raises CallError."""
    if checkpoint.status().state is record.state:
        return
    counts = max(record.counts, checkpoint.done(), key=lambda counts: counts.handled)
    collect(prepared.rpc, record, _ranges(prepared, record), counts, checkpoint)
    exit_code = final_exit(record.state, Exit.DONE, checkpoint.counts().failed)
    checkpoint.end_work(record.state, None, exit_code, clean=True, ended=record.ended_at())


def _report_unfinished(
    prepared: PreparedRun,
    record: RunRecord,
    ranges: Sequence[RunRecord],
    checkpoint: Checkpoint,
    outcome: Outcome,
) -> Report:
    assert record.ranges is not None
    counts = total_of(record.ranges, ranges)
    collect(prepared.rpc, record, ranges, counts, checkpoint)
    return report_alone(prepared, record, checkpoint, outcome)


def report_alone(
    prepared: PreparedRun, record: RunRecord, checkpoint: Checkpoint, outcome: Outcome
) -> Report:
    """Report how this process ended, from the run's own checkpoint alone. Datastore, which may be
    unavailable, is not asked."""
    context = prepared.context
    checkpoint.end_work(
        outcome.state, outcome.reason, outcome.exit_code, clean=False,
        over_budget=outcome.over_budget,
    )  # fmt: skip
    context.carried.steering = newest(context.carried.steering, record.steering)
    command = context.command_to_resume(record.run_info.run_id)
    return _deliver(prepared, checkpoint, next_command=command)


def _deliver(prepared: PreparedRun, checkpoint: Checkpoint, *, next_command: str) -> Report:
    context = prepared.context
    retry = retry_command(checkpoint.run_info, context.typed_state_dir, context.repeated)
    report = stored_report(
        checkpoint, next_command=next_command, retry_command="" if next_command else retry
    )
    report = replace(report, state_file=_shown(prepared, checkpoint.path))
    context.listener(RunEnded(report))
    if report.success and not context.reports_itself:
        reported(checkpoint.folder)
    return report


def _shown(prepared: PreparedRun, path: Path) -> str:
    return prepared.context.shown(path)

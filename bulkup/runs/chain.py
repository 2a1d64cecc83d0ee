"""Go on with the runs of a chain, one behind the other."""

from __future__ import annotations

import os
from dataclasses import replace

from bulkup.authoring import successors
from bulkup.core.events import Report
from bulkup.core.model import RunState
from bulkup.core.records import next_id
from bulkup.datastore.rpc_errors import explained
from bulkup.runs.execute import work_on
from bulkup.runs.prepare import PreparedRun, RunContext, prepare_on, task_of
from bulkup.runs.successor import same_work
from bulkup.state.record import RunRecord
from bulkup.state.run_records import Ledger


def follow(prepared: PreparedRun, report: Report, context: RunContext, *, links: int = 0) -> Report:
    """Go on with what follows a run, until its chain has ended; gives the last report.

    `links`: how many lead to the run of `job`. Raises what `work_on` raises.
    """
    began = context.clock.monotonic() - report.elapsed_s
    ledger = Ledger(prepared.rpc, prepared.target.info)
    while report.successor:
        with explained(prepared.rpc):
            record = ledger.read(report.successor)
        if record is None or record.state.is_over:
            return report  # somebody else was faster
        left = context.options
        if left.max_time_s is not None:
            passed = context.clock.monotonic() - began
            left = replace(left, max_time_s=max(left.max_time_s - passed, 0.0))
        report = _go_on(prepared, record, links, replace(context, options=left))
    return report


def go_on_behind(
    prepared: PreparedRun, record: RunRecord, links: int, context: RunContext
) -> Report:
    """Go on with a run somewhere behind that of `job`, to which so many links lead."""
    return follow(prepared, _go_on(prepared, record, links, context), context, links=links)


def _go_on(prepared: PreparedRun, record: RunRecord, links: int, context: RunContext) -> Report:
    spec = successors.locate(record.chain.links[links:], os.path.dirname(prepared.source.path))
    with prepare_on(
        prepared.target,
        task_of(spec, record.run_info.params),
        stop=prepared.stop,
        retry_for_s=context.options.retry_for_s,
        clock=context.clock,
    ) as next_prepared:
        same_work(next_prepared, record)
        return work_on(next_prepared, record, context)


def unfinished_behind(ledger: Ledger, record: RunRecord) -> RunRecord | None:
    """The run of a chain that is under way behind a finished one. Raises CallError."""
    behind: RunRecord | None = record
    while behind is not None and behind.state is RunState.FINISHED:
        behind = ledger.read(next_id(behind.run_info.run_id))
    return None if behind is None or behind is record or behind.state.is_over else behind

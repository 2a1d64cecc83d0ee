"""Execute the runs of a chain: an updater's run, then its successor's, and so on."""

from __future__ import annotations

from dataclasses import replace

from bulkup.authoring.named_successors import AGAIN, follow
from bulkup.core.errors import NotFoundError
from bulkup.core.events import Report
from bulkup.core.model import RunState
from bulkup.core.records import next_id
from bulkup.core.selection import EVERYTHING
from bulkup.runs.acquire import CutMeanwhile, open_checkpoint
from bulkup.runs.ended import report_finished_meanwhile, report_record
from bulkup.runs.execute import acquire_and_execute
from bulkup.runs.gate import open_gate
from bulkup.runs.prepare import PreparedRun, load_updater, prepare_on
from bulkup.runs.ranges.work import work_on_ranges
from bulkup.runs.successor import check_same_successor
from bulkup.state.record import RunRecord
from bulkup.state.run_records import Ledger


def execute_successors(prepared: PreparedRun, report: Report, *, links: int = 0) -> Report:
    """Execute the successors of a run until its chain has ended; return the last report.

    `links`: how many successors deep the prepared run is in its chain. Raises what
    `acquire_and_execute` raises, and CallError.
    """
    context = prepared.context
    started = context.clock.monotonic() - report.elapsed_s
    while report.successor:
        record = prepared.ledger.read(report.successor)
        if record is None or record.state is RunState.ABANDONED:
            return report
        if record.state.is_over:  # another process was faster
            report = report_record(prepared, record)
            continue
        options = context.options
        if options.max_time_s is not None:
            elapsed = context.clock.monotonic() - started
            options = replace(options, max_time_s=max(options.max_time_s - elapsed, 0.0))
        context_left = replace(context, options=options)
        report = _execute_successor(replace(prepared, context=context_left), record, links)
    return report


def resume_chain(prepared: PreparedRun, record: RunRecord, *, links: int = 0) -> Report:
    """Resume a chain at its unfinished run, which is a successor of the prepared one."""
    report = _execute_successor(prepared, record, links)
    return execute_successors(prepared, report, links=links)


def _execute_successor(prepared: PreparedRun, record: RunRecord, links: int) -> Report:
    following = record.chain.links[links:]
    spec = follow(prepared.source, following, own_links=prepared.own_links)
    is_same_work = all(link == AGAIN for link in following)  # a further pass
    selection = prepared.selection if is_same_work else EVERYTHING
    loaded = load_updater(spec, record.run_info.params, selection)
    with prepare_on(prepared.target, loaded, prepared.context) as successor:
        successor.own_links |= prepared.own_links
        check_same_successor(successor, record)
        opened = open_gate(successor, record)
        if isinstance(opened, Report):
            return opened
        try:
            if opened.ranges is not None:
                report = work_on_ranges(successor, opened)
            else:
                report = acquire_and_execute(successor, opened)
        except CutMeanwhile:
            return _execute_successor(prepared, _read_again(prepared, record), links)
        except NotFoundError:
            with open_checkpoint(record.run_info, successor) as checkpoint:
                ended = report_finished_meanwhile(successor, record, checkpoint)
            if ended is None:
                raise
            report = ended
        prepared.own_links |= successor.own_links
        return report


def _read_again(prepared: PreparedRun, record: RunRecord) -> RunRecord:
    return prepared.ledger.read(record.run_info.run_id) or record


def unfinished_from(ledger: Ledger, run_id: str) -> RunRecord | None:
    """The unfinished run of a chain, starting at this one; None if all are over. Raises
    CallError."""
    record = ledger.read(run_id)
    while record is not None and record.state is RunState.FINISHED:
        record = ledger.read(next_id(record.run_info.run_id))
    return None if record is None or record.state.is_over else record

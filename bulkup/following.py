"""Go on with the runs of a chain, one behind the other."""

from __future__ import annotations

import os
from dataclasses import replace

from bulkup import chain
from bulkup.engine.events import Report
from bulkup.facts import RunState
from bulkup.jobs import Job, Runner, prepare_on, task_of
from bulkup.state.ledger import Entry, Ledger
from bulkup.state.records import next_id
from bulkup.successor import same_work
from bulkup.wire.explain import explained
from bulkup.working import work_on


def follow(job: Job, report: Report, me: Runner, *, links: int = 0) -> Report:
    """Go on with what follows a run, until its chain has ended; gives the last report.

    `links`: how many lead to the run of `job`. Raises what `work_on` raises.
    """
    began = me.clock.monotonic() - report.elapsed_s
    ledger = Ledger(job.wire, job.target.info)
    while report.successor:
        with explained(job.wire):
            entry = ledger.read(report.successor)
        if entry is None or entry.state.is_over:
            return report  # somebody else was faster
        left = me.options
        if left.max_time_s is not None:
            passed = me.clock.monotonic() - began
            left = replace(left, max_time_s=max(left.max_time_s - passed, 0.0))
        report = _go_on(job, entry, links, replace(me, options=left))
    return report


def go_on_behind(job: Job, entry: Entry, links: int, me: Runner) -> Report:
    """Go on with a run somewhere behind that of `job`, to which so many links lead."""
    return follow(job, _go_on(job, entry, links, me), me, links=links)


def _go_on(job: Job, entry: Entry, links: int, me: Runner) -> Report:
    spec = chain.locate(entry.chain[links:], os.path.dirname(job.source.path))
    with prepare_on(
        job.target,
        task_of(spec, entry.record.params),
        stop=job.stop,
        retry_for_s=me.options.retry_for_s,
        clock=me.clock,
    ) as next_job:
        same_work(next_job, entry)
        return work_on(next_job, entry, me)


def unfinished_behind(ledger: Ledger, entry: Entry) -> Entry | None:
    """The run of a chain that is under way behind a finished one. Raises CallError."""
    behind: Entry | None = entry
    while behind is not None and behind.state is RunState.FINISHED:
        behind = ledger.read(next_id(behind.record.run_id))
    return None if behind is None or behind is entry or behind.state.is_over else behind

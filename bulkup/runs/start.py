"""Start a run, or resume the unfinished one of the same work: what `bulkup run` calls."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeGuard

from bulkup.core.errors import HeldError, NotFoundError, UsageError
from bulkup.core.events import AlreadyDone, Report, Warned, WarningKind
from bulkup.core.model import RunState
from bulkup.core.records import RunInfo, first_id
from bulkup.engine.key_scan import KeySampling
from bulkup.engine.splits import Sampling
from bulkup.runs.acquire import CutMeanwhile, acquire_lease, open_checkpoint
from bulkup.runs.chain import execute_successors, resume_chain
from bulkup.runs.done_before import find_done, report_of, warn_or_ask, warning_of
from bulkup.runs.ended import forget_unheard, report_finished_meanwhile, report_unheard
from bulkup.runs.execute import execute, execute_dry_run, request_sample
from bulkup.runs.gate import check_begun, open_gate
from bulkup.runs.housekeeping import abandon, sweep_markers
from bulkup.runs.missing_kind import check_kind
from bulkup.runs.passes import check_repeatable
from bulkup.runs.prepare import PreparedRun
from bulkup.runs.ranges.cutting import check_can_be_cut, cut
from bulkup.runs.ranges.work import work_on_ranges
from bulkup.runs.similar_runs import resuming, similar_runs
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.finished_runs import FinishedRuns
from bulkup.state.record import RunRecord
from bulkup.state.run_records import Ledger
from bulkup.state.taking import still_open


def start(
    prepared: PreparedRun,
    *,
    fresh: bool = False,
    keep_record: bool = True,
    run_id: str | None = None,
    on_found: Callable[[RunRecord], None] = lambda _: None,
    cutting: Cutting | None = None,
) -> Report:
    """Start a run and execute it, and its successors, to the end.

    When a run with the same updater, parameters and query is unfinished on the target, resume that
    one; with `fresh`, abandon it and start a new run. When one has finished, say so, or do nothing
    (`once`, of the context or of the updater). `keep_record` False: delete the run record once the
    run has finished. `run_id`: None makes a new one. `on_found` is called with an unfinished run
    before it is resumed. `cutting`: cut the run into ranges. Raises BulkupError when the run cannot
    start.
    """
    context, source = prepared.context, prepared.source
    if context.options.processes > 1 and source.only_here:
        raise UsageError(
            f"worker processes cannot load {source.name}, since {source.only_here}; move it to the "
            "top level of a file, or leave out processes="
        )
    # Entities that a retry has handled must not be handled by another retry that began meanwhile.
    is_retry = bool(prepared.retry_of)
    once = is_retry or (not fresh and (context.once or prepared.updater.once is True))
    if once and not keep_record:
        raise UsageError(
            "--no-record does not work with --once: only the run record tells that the work was "
            "done; leave one of them out"
        )
    run_info = prepared.new_run_info(run_id, prepared.identity)
    in_group = run_id is not None
    if context.until_clean:
        check_repeatable(prepared)
        if not keep_record:
            raise UsageError(
                "--no-record does not work with --until-clean: the run record says what the passes "
                "have done; leave one of them out"
            )
    if cutting is not None:
        check_can_be_cut(prepared)
        if not keep_record:
            raise UsageError(
                "--no-record does not work with --ranges: only the record says which ranges there "
                "are; leave one of them out"
            )
    beginning = _Beginning(
        prepared, run_info, fresh, keep_record, once, on_found, in_group, cutting or Cutting()
    )
    with context.stop.listening():
        if context.options.dry_run:
            return beginning.dry_run()
        found = beginning.look()
        if isinstance(found, Report):
            return found
        try:
            return beginning.start_or_resume(*found)
        except NotFoundError:
            # Another process has just ended the run that was to be resumed.
            done = beginning.done_meanwhile()
            if done is None:
                raise
            return report_of(prepared, done)


@dataclass(frozen=True)
class Cutting:
    """How to cut a run into ranges, and who works on them."""

    ranges: int | None = 0
    """About how many ranges; None: as many as its size suggests; 0: do not cut the run, but join
    one that is already cut."""
    work: Callable[[PreparedRun, RunRecord], Report] = work_on_ranges
    """Works on the ranges of a run, and ends it."""


CUT_WITHIN_S = 20.0
"""How long to wait for a process that has just started the same command and is cutting the run."""
STEP_S = 0.2

END_S = 5.0
"""A run that ended up to this long before a process began to wait counts as the run it waited for.
The end is recorded a moment before the file is released, and the clocks of two processes may differ
by a second."""


@dataclass(frozen=True)
class _Beginning:
    """A run to start or to resume."""

    prepared: PreparedRun
    run_info: RunInfo
    """The facts of the run if it is a new one."""
    fresh: bool
    keep_record: bool
    once: bool
    on_found: Callable[[RunRecord], None]
    in_group: bool
    """The run belongs to a group, whose record says which namespaces are done."""
    cutting: Cutting

    @property
    def ledger(self) -> Ledger:
        return self.prepared.ledger

    def dry_run(self) -> Report:
        prepared = self.prepared
        finished = self.ledger.finished_runs_of(self.run_info.identity)
        unfinished = self.ledger.unfinished(self.run_info.identity)
        if unfinished is not None:
            message = (
                f"run {unfinished.run_info.run_id} of the same work is unfinished; without "
                "--dry-run this command resumes it after the entities that are done"
            )
            prepared.warnings.append(Warned(message, WarningKind.UNFINISHED_RUN))
        else:
            done = self._find_done(finished)
            if self._is_done(done):
                return report_of(prepared, done)
            prepared.warnings += [warning_of(done)] if done is not None else []
            check_kind(prepared)
        return execute_dry_run(prepared, self.run_info)

    def look(self) -> Report | tuple[RunRecord | None, Sampling | KeySampling | None]:
        """The unfinished run of the same work, if there is one, and a sample of keys to split the
        query at; or a report if there is nothing left to do."""
        prepared, ledger, run_info = self.prepared, self.ledger, self.run_info
        # These requests are sent together to save round trips. None depends on another's answer:
        # swept runs are over and hold no claim, and the claim, which is written with the record,
        # detects a process that starts or ends the same work meanwhile.
        to_sweep = ledger.to_sweep()
        open_runs = ledger.open_runs_of(run_info.updater) if not self.fresh else iter(())
        finished = ledger.finished_runs_of(run_info.identity) if not self.fresh else None
        sampling = request_sample(prepared)
        unfinished = ledger.unfinished_before_start(run_info.identity)
        sweep_markers(ledger, prepared.rpc, to_sweep)
        if not self.in_group:
            if self.fresh:
                forget_unheard(prepared)
            elif (report := report_unheard(prepared, unfinished)) and unfinished is None:
                return report
        if unfinished is None:
            done = self._find_done(finished)
            if self._is_done(done):
                return report_of(prepared, done)
            prepared.warnings += warn_or_ask(done, prepared.context)
        if unfinished is None or self.fresh:
            check_kind(prepared)
        if unfinished is None and not self.fresh:
            prepared.warnings += similar_runs(open_runs, run_info, prepared.context.typed_state_dir)
        return unfinished, sampling

    def _find_done(self, finished: FinishedRuns | None) -> AlreadyDone | None:
        if finished is None:
            return None
        return find_done(self.ledger, finished, self.run_info, self.prepared.settled)

    def _is_done(self, done: AlreadyDone | None) -> TypeGuard[AlreadyDone]:
        if done is not None and self.prepared.retry_of:
            return True
        if done is None or not done.same_source:
            return False
        # If this process waited while another one did the work, it must not do it again.
        now, waited_from = (
            self.prepared.context.clock.monotonic(),
            self.prepared.context.waited_from,
        )
        return self.once or any(done.ago_s < now - began + END_S for began in waited_from)

    def done_meanwhile(self) -> AlreadyDone | None:
        if not self.once:
            return None
        finished = self.ledger.finished_runs_of(self.run_info.identity)
        done = self._find_done(finished)
        return done if self._is_done(done) else None

    def start_or_resume(
        self, unfinished: RunRecord | None, sampling: Sampling | KeySampling | None
    ) -> Report:
        prepared, ledger, run_info = self.prepared, self.ledger, self.run_info
        context = prepared.context
        new: RunRecord | None = None
        while True:
            is_other = unfinished and first_id(unfinished.run_info.run_id) != run_info.run_id
            if new is None and (unfinished is None or (self.fresh and is_other)):
                opened = open_gate(
                    prepared, RunRecord(run_info, RunState.RUNNING, keep=self.keep_record)
                )
                if isinstance(opened, Report):
                    return opened
                new = opened
            if unfinished and self.fresh and is_other:
                abandon(
                    ledger, unfinished, "replaced by a new run (--new)",
                    clock=context.clock, stop=context.stop,
                )  # fmt: skip
                unfinished = None
            if unfinished is not None:
                if not unfinished.chain.links:
                    check_begun(prepared, unfinished)
                self.on_found(unfinished)
                if unfinished.chain.links:
                    context.listener(resuming(unfinished, prepared))
                    return resume_chain(prepared, unfinished)
            record = unfinished or new
            assert record is not None
            done: Report | RunRecord | None
            if record.ranges is not None:
                prepared.warnings.append(resuming(record, prepared))
                done = record
            else:
                try:
                    with open_checkpoint(record.run_info, prepared) as checkpoint:
                        done = self._acquire_first(record, unfinished, checkpoint)
                        if isinstance(done, RunRecord):
                            done = self._cut_if_asked(done, checkpoint)
                            if done.ranges is None:
                                done = execute(prepared, checkpoint, done, sampling)
                except (HeldError, CutMeanwhile) as error:
                    unfinished = self._cut_by_another(record, error)
                    continue
            if isinstance(done, RunRecord):
                done = self.cutting.work(prepared, done)
            if done is not None:
                return execute_successors(prepared, done)
            unfinished = ledger.unfinished_before_start(run_info.identity)

    def _cut_by_another(self, record: RunRecord, error: HeldError | CutMeanwhile) -> RunRecord:
        """The record of a run that another process works on, once that process has cut it into
        ranges. Waits a moment for that if this command is to cut the run itself. Raises `error` if
        the run is not cut, and NotFoundError if it has ended: its process holds the folder for a
        moment longer."""
        context, waits = self.prepared.context, self.cutting.ranges != 0
        give_up = context.clock.monotonic() + (CUT_WITHIN_S if waits else 0.0)
        while True:
            there = self.ledger.read(record.run_info.run_id)
            if there is not None and still_open(there, there.run_info.run_id).ranges is not None:
                return there
            if context.clock.monotonic() >= give_up:
                raise error
            context.clock.sleep(STEP_S)
            context.stop.raise_if_asked()

    def _cut_if_asked(self, held: RunRecord, checkpoint: Checkpoint) -> RunRecord:
        """The record of the run, cut into ranges if that was asked for and entities are left."""
        wanted = self.cutting.ranges
        if wanted == 0 or not held.layout.shards:
            return held
        return cut(self.prepared, checkpoint, held, wanted)

    def _acquire_first(
        self, record: RunRecord, unfinished: RunRecord | None, checkpoint: Checkpoint
    ) -> RunRecord | Report | None:
        """Take the lease on the new run, or on the unfinished one.

        Returns a report if there is nothing left to do, and None if another process has just
        started the same work.
        """
        prepared = self.prepared
        try:
            held = _acquire(prepared, record, checkpoint)
        except NotFoundError:
            if unfinished is None:
                raise
            report = report_finished_meanwhile(prepared, record, checkpoint)
            if report is None:
                raise
            return report
        if held is None:
            return None
        if unfinished is not None:
            prepared.warnings.append(resuming(unfinished, prepared))
        else:
            # Check again now that nobody else can start or finish this work: another process may
            # have done both in the meantime.
            done = self.done_meanwhile()
            if done is not None:
                self._withdraw(held, done, checkpoint)
                return report_of(prepared, done)
        return held

    def _withdraw(self, held: RunRecord, done: AlreadyDone, checkpoint: Checkpoint) -> None:
        """End a run that has not begun, and remove its claim. Its record stays: it refuses a late
        copy of the commit that wrote both."""
        released = replace(
            held,
            state=RunState.ABANDONED,
            reason=f"already done as {done.run_id}",
            ended=int(self.prepared.context.clock.unix()),
            lease=replace(held.lease, until=0),
        )
        self.ledger.write(released, over=True)
        shutil.rmtree(checkpoint.folder)


def _acquire(prepared: PreparedRun, record: RunRecord, checkpoint: Checkpoint) -> RunRecord | None:
    """Take the lease; None: another process has just started the same work, and holds its claim.

    Raises what `acquire_lease` raises.
    """
    ledger, run_id = prepared.ledger, record.run_info.run_id
    is_new = not record.version
    try:
        held = acquire_lease(prepared, record, checkpoint)
        if held.run_info.created == record.run_info.created:
            return held
        # Another process started a run with this id first, and has released it.
        ledger.write(replace(held, lease=replace(held.lease, until=0)))
        raise NotFoundError(f"another process has started run {run_id}")
    except NotFoundError:
        if not is_new:
            raise
        there = ledger.read(run_id)
        if there is not None and there.run_info.created == record.run_info.created:
            raise  # the run is ours: a copy of this state directory was resumed meanwhile
        # Our checkpoint belongs to a run that does not exist. Resume the one that does.
        shutil.rmtree(checkpoint.folder)
        if there is not None and there.state.is_over:
            raise
        return None

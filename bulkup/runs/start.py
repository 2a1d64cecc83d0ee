"""The beginning of a run: what `bulkup run` calls."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace

from bulkup.core.clock import Clock
from bulkup.core.errors import NotFoundError, UsageError
from bulkup.core.events import Report, Warned, WarningKind
from bulkup.core.model import RunState
from bulkup.core.records import RunInfo
from bulkup.datastore.rpc_errors import explained
from bulkup.runs.chain import follow, go_on_behind
from bulkup.runs.execute import ask_for_sample, give_up, opened_here, sweep, take_run, work
from bulkup.runs.prepare import PreparedRun, RunContext
from bulkup.runs.successor import first_id
from bulkup.state.record import RunRecord
from bulkup.state.run_records import Ledger


def start(
    prepared: PreparedRun,
    context: RunContext,
    *,
    fresh: bool = False,
    keep_record: bool = True,
    run_id: str = "",
    on_found: Callable[[RunRecord], None] = lambda _: None,
) -> Report:
    """Begin a run and work on it to its end.

    When a run of the same updater, with the same parameters and query, is unfinished on the
    target, that one goes on, unless `fresh`. `keep_record` False: the run record goes when the
    run has finished. `run_id`: of a run whose id follows from something; `on_found` hears of the
    unfinished run before it goes on. Raises BulkupError when it cannot begin.
    """
    if context.options.processes > 1 and prepared.source.only_here:
        raise UsageError(
            f"{prepared.source.name} cannot be loaded by worker processes, since "
            f"{prepared.source.only_here}: move it to the top of a file, or leave processes= out"
        )
    identity = prepared.query.identity(prepared.source.spec, prepared.params)
    run_info = prepared.run_info(run_id or new_run_id(context.clock), identity, context.clock)
    with prepared.stop.listening():
        if context.options.dry_run:
            with explained(prepared.rpc):
                other = Ledger(prepared.rpc, prepared.target.info).unfinished(run_info.identity)
            if other is not None:
                message = (
                    f"run {other.run_info.run_id} of this work is unfinished: without -n "
                    "the same command goes on with it, behind what is done already"
                )
                prepared.warnings.append(Warned(message, WarningKind.UNFINISHED_RUN))
            return work(prepared, run_info, None, None, context)
        return _start(prepared, run_info, context, fresh, keep_record, on_found)


def _start(
    prepared: PreparedRun,
    run_info: RunInfo,
    context: RunContext,
    fresh: bool,
    keep_record: bool,
    on_found: Callable[[RunRecord], None],
) -> Report:
    ledger = Ledger(prepared.rpc, prepared.target.info)
    # All these are asked together, for far away each costs its way there and back. None has to see
    # what another finds: what is swept are runs that are over, and nothing is open or claimed of
    # these; whoever begins or ends the same work meanwhile is found out by the claim, which is
    # written with the record.
    to_sweep = ledger.to_sweep(context.clock.unix())
    open_runs = ledger.open_runs_of(run_info.updater) if not fresh else iter(())
    sampling = ask_for_sample(prepared, context)
    with explained(prepared.rpc):
        record = ledger.unfinished(run_info.identity)
        sweep(ledger, prepared.rpc, to_sweep)
    while True:
        if record is not None and fresh and first_id(record.run_info.run_id) != run_info.run_id:
            with explained(prepared.rpc):
                give_up(ledger, record, prepared, context.clock)
            record = None
        if record is not None:
            on_found(record)
            if record.chain.links:
                context.listener(_goes_on(record, prepared))
                return go_on_behind(prepared, record, 0, context)
        begins = record is None
        if begins and not fresh:
            with explained(prepared.rpc):
                prepared.warnings += _similar(open_runs, run_info)
        if record is None:
            record = RunRecord(run_info, RunState.RUNNING, keep=keep_record)
        with opened_here(record.run_info, prepared, context) as checkpoint:
            try:
                with explained(prepared.rpc):
                    taken = take_run(ledger, record, checkpoint, prepared, context)
                    if taken.run_info.created != record.run_info.created:
                        # Begun under this id by somebody who was first, and has let go of it.
                        ledger.write(replace(taken, lease=replace(taken.lease, until=0)))
                        raise NotFoundError(f"run {run_info.run_id} was begun by somebody else")
            except NotFoundError:
                there = ledger.read(run_info.run_id) if begins else None
                ours = there is not None and there.run_info.created == run_info.created
                if not begins or ours:
                    raise  # the latter: a copy of this state directory was resumed meanwhile
                # Somebody began the same work at the same moment and was first: go on with that.
                shutil.rmtree(checkpoint.folder)
                if there is not None and there.state.is_over:
                    raise
                with explained(prepared.rpc):
                    record = ledger.unfinished(run_info.identity)
                continue
            if not begins:
                prepared.warnings.append(_goes_on(record, prepared))
            report = work(
                prepared, checkpoint.run_info, checkpoint, taken, context, sampling=sampling
            )
        return follow(prepared, report, context)


def _similar(open_runs: Iterable[RunRecord], run_info: RunInfo) -> list[Warned]:
    """Unfinished runs that may have been meant: a parameter or the file's name is different."""
    return [
        Warned(
            f"{run_info.updater} is unfinished here with other parameters, query or file name: run "
            f"{other.run_info.run_id} "
            f"({', '.join(f'{n}={v}' for n, v in other.run_info.params.items())}); "
            "this is a new run, and handles all entities",
            WarningKind.SIMILAR_RUN,
        )
        for other in open_runs
        if other.run_info.identity != run_info.identity  # that one has just ended
    ]


def _goes_on(record: RunRecord, prepared: PreparedRun) -> Warned:
    was, holder = record.run_info, record.lease.holder
    who = holder.who if holder else "somebody"
    text = (
        f"{was.updater} was not finished on this target: run {was.run_id}, begun by {who} on "
        f"{was.created[:16].replace('T', ' ')} UTC, goes on (--new starts over)"
    )
    if not record.chain.links and was.checksum != prepared.source.checksum:
        text += "; its source has changed since, entities handled from now on get the new code"
    return Warned(text, WarningKind.UNFINISHED_RUN)


def new_run_id(clock: Clock) -> str:
    """Sorts by the time it was made, also within a second."""
    now = clock.now()
    return f"{now:%Y%m%d-%H%M%S}-{now.microsecond // 100:04d}{uuid.uuid4().hex[:2]}"

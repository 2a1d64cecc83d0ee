"""The beginning of a run: what `bulkup run` calls."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace

from bulkup.clock import Clock
from bulkup.engine.events import Report, Warned
from bulkup.errors import NotFoundError, UsageError
from bulkup.facts import RunState
from bulkup.following import follow, go_on_behind
from bulkup.jobs import Job, Runner
from bulkup.state.ledger import Entry, Ledger
from bulkup.state.records import RunRecord
from bulkup.successor import first_id
from bulkup.wire.explain import explained
from bulkup.working import ask_for_sample, give_up, opened_here, sweep, take_run, work


def start(
    job: Job,
    me: Runner,
    *,
    fresh: bool = False,
    keep_record: bool = True,
    run_id: str = "",
    on_found: Callable[[Entry], None] = lambda _: None,
) -> Report:
    """Begin a run and work on it to its end.

    When a run of the same updater, with the same parameters and query, is unfinished on the
    target, that one goes on, unless `fresh`. `keep_record` False: the run record goes when the
    run has finished. `run_id`: of a run whose id follows from something; `on_found` hears of the
    unfinished run before it goes on. Raises BulkupError when it cannot begin.
    """
    if me.options.processes > 1 and job.source.only_here:
        raise UsageError(
            f"{job.source.name} cannot be loaded by worker processes, since {job.source.only_here}"
            ": move it to the top of a file, or leave processes= out"
        )
    identity = job.query.identity(job.source.spec, job.params)
    record = job.record(run_id or new_run_id(me.clock), identity, me.clock)
    with job.stop.listening():
        if me.options.dry_run:
            with explained(job.wire):
                other = Ledger(job.wire, job.target.info).unfinished(record.identity)
            if other is not None:
                job.warnings.append(
                    f"run {other.record.run_id} of this work is unfinished: without -n "
                    "the same command goes on with it, behind what is done already"
                )
            return work(job, record, None, None, me)
        return _start(job, record, me, fresh, keep_record, on_found)


def _start(
    job: Job,
    record: RunRecord,
    me: Runner,
    fresh: bool,
    keep_record: bool,
    on_found: Callable[[Entry], None],
) -> Report:
    ledger = Ledger(job.wire, job.target.info)
    # All these are asked together, for far away each costs its way there and back. None has to see
    # what another finds: what is swept are runs that are over, and nothing is open or claimed of
    # these; whoever begins or ends the same work meanwhile is found out by the claim, which is
    # written with the record.
    to_sweep = ledger.to_sweep(me.clock.unix())
    open_runs = ledger.open_runs_of(record.updater) if not fresh else iter(())
    sampling = ask_for_sample(job, me)
    with explained(job.wire):
        entry = ledger.unfinished(record.identity)
        sweep(ledger, job.wire, to_sweep)
    while True:
        if entry is not None and fresh and first_id(entry.record.run_id) != record.run_id:
            with explained(job.wire):
                give_up(ledger, entry, job, me.clock)
            entry = None
        if entry is not None:
            on_found(entry)
            if entry.chain:
                me.listener(Warned(_goes_on(entry, job)))
                return go_on_behind(job, entry, 0, me)
        begins = entry is None
        if begins and not fresh:
            with explained(job.wire):
                job.warnings += _similar(open_runs, record)
        if entry is None:
            entry = Entry(record, RunState.RUNNING, keep=keep_record)
        with opened_here(entry.record, job, me) as checkpoint:
            try:
                with explained(job.wire):
                    taken = take_run(ledger, entry, checkpoint, job, me)
                    if taken.record.created != entry.record.created:
                        # Begun under this id by somebody who was first, and has let go of it.
                        ledger.write(replace(taken, lease_until=0))
                        raise NotFoundError(f"run {record.run_id} was begun by somebody else")
            except NotFoundError:
                there = ledger.read(record.run_id) if begins else None
                ours = there is not None and there.record.created == record.created
                if not begins or ours:
                    raise  # the latter: a copy of this state directory was resumed meanwhile
                # Somebody began the same work at the same moment and was first: go on with that.
                shutil.rmtree(checkpoint.folder)
                if there is not None and there.state.is_over:
                    raise
                with explained(job.wire):
                    entry = ledger.unfinished(record.identity)
                continue
            if not begins:
                job.warnings.append(_goes_on(entry, job))
            report = work(job, checkpoint.record, checkpoint, taken, me, sampling=sampling)
        return follow(job, report, me)


def _similar(open_runs: Iterable[Entry], record: RunRecord) -> list[str]:
    """Unfinished runs that may have been meant: a parameter or the file's name is different."""
    return [
        f"{record.updater} is unfinished here with other parameters, query or file name: run "
        f"{other.record.run_id} ({', '.join(f'{n}={v}' for n, v in other.record.params.items())}); "
        "this is a new run, and handles all entities"
        for other in open_runs
        if other.record.identity != record.identity  # that one has just ended
    ]


def _goes_on(entry: Entry, job: Job) -> str:
    was, who = entry.record, entry.holder.who if entry.holder else "somebody"
    text = (
        f"{was.updater} was not finished on this target: run {was.run_id}, begun by {who} on "
        f"{was.created[:16].replace('T', ' ')} UTC, goes on (--new starts over)"
    )
    if not entry.chain and was.checksum != job.source.checksum:
        text += "; its source has changed since, entities handled from now on get the new code"
    return text


def new_run_id(clock: Clock) -> str:
    """Sorts by the time it was made, also within a second."""
    now = clock.now()
    return f"{now:%Y%m%d-%H%M%S}-{now.microsecond // 100:04d}{uuid.uuid4().hex[:2]}"

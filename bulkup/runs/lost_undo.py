"""`bulkup undo` of a run whose folder is lost, and with it the before-images: a rewind instead."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta, timezone

from bulkup.core.errors import NoTargetError, NotFoundError, UsageError
from bulkup.core.events import Report, Warned
from bulkup.core.moment import Moment, read_time
from bulkup.core.records import RunInfo, is_run_id
from bulkup.datastore.rpc_errors import explained
from bulkup.datastore.target import Target
from bulkup.datastore.user_client import ReadOnlyClient
from bulkup.engine.compare.comparison import Scope
from bulkup.runs.context import RunContext
from bulkup.runs.prepare import checked_query, open_and_load
from bulkup.runs.rewind import RewindOptions, compare_times, prepare_rewind
from bulkup.runs.start import start
from bulkup.runs.target import TargetOptions, open_target, options_for
from bulkup.state.files import find_run, group_folders
from bulkup.state.record import RunRecord
from bulkup.state.restore_list import Restores
from bulkup.state.run_records import Ledger

_END_ROUNDED_S = 1
"""The end of a run is recorded in whole seconds, rounded down."""


def find_lost(name: str, target_options: TargetOptions, context: RunContext) -> RunRecord | None:
    """The record of a run that Datastore knows and whose folder is not here; None: it is here.

    Raises NotFoundError if the run is in neither place.
    """
    if group_folders(context.state_dir, name):
        return None
    try:
        find_run(context.state_dir, name)
        return None
    except NotFoundError as error:
        not_here = error
    if not is_run_id(name):
        raise not_here
    try:
        with (
            open_target(target_options, only_reads=True) as target,
            closing(context.connect(target)) as rpc,
            explained(rpc),
        ):
            rpc.connect()
            record = Ledger(rpc, target.info).read(name)
    except NoTargetError:
        raise not_here from None
    if record is None:
        raise not_here
    return record


def undo_lost(
    record: RunRecord,
    target_options: TargetOptions,
    context: RunContext,
    confirm: Callable[[RunInfo, Target], None],
) -> Report:
    """Put the entities of the run's kind back as they were when it began, unless somebody has
    written them after it ended. `confirm` is called before anything is written, and may raise.

    Raises UsageError for a run that this cannot be done for, NotFoundError when nothing differs.
    """
    run_info = record.run_info
    _check(record)
    options = options_for(run_info, target_options)
    began = datetime.fromisoformat(run_info.created)
    ended = datetime.fromtimestamp(record.ended, timezone.utc) + timedelta(seconds=_END_ROUNDED_S)
    with closing(Restores()) as restores:
        with open_and_load(run_info.spec, run_info.params, options, context) as opened:
            target, loaded, updater = opened
            with closing(context.connect(target)) as rpc, explained(rpc):
                rpc.connect()
                updater.client = ReadOnlyClient.over(rpc, target.client)
                query = checked_query(updater, loaded.source, target, run_info.selection)
            kinds = tuple(str(kind.name) for kind in query.pb.kind)
            if not kinds:
                raise UsageError(
                    f"{_lost(run_info)}, and it worked on all kinds; put back one kind after "
                    "another with `bulkup rewind`"
                )
            wanted = RewindOptions(
                Moment(began), Scope(kinds), keep_after=Moment(min(ended, context.clock.now()))
            )
            found = compare_times(target, wanted, restores=restores)
        context.listener(Warned(_how_it_differs(record, kinds, found.report.keep_after)))
        if not found.report.writes:
            raise NotFoundError(
                f"no {' or '.join(kinds)} differs from what it was when run {run_info.run_id} "
                "began, except what was written since it ended; nothing was written"
            )
        again = replace(context, on_done=lambda done: True)
        with prepare_rewind(wanted, found.report, restores, options, again) as prepared:
            if not context.options.dry_run:
                confirm(run_info, prepared.target)
            return start(prepared)


def _check(record: RunRecord) -> None:
    """Raises BulkupError."""
    run_info = record.run_info
    if not record.state.is_over or not record.ended:
        raise UsageError(
            f"{_lost(run_info)}, and it is unfinished; end it with `bulkup abandon "
            f"{run_info.run_id}`, then try again"
        )
    if record.migration is not None:
        raise UsageError(
            f"{_lost(run_info)}, and it applied the migration {record.migration.name}; put its "
            "kinds back with `bulkup rewind`, then mark it with `bulkup mark "
            f"{record.migration.name} --pending`"
        )


def _lost(run_info: RunInfo) -> str:
    return f"the folder of run {run_info.run_id} is not here, and with it its before-images"


def _how_it_differs(record: RunRecord, kinds: tuple[str, ...], ended: int | None) -> str:
    run_info = record.run_info
    return (
        f"{_lost(run_info)}; so every {' and '.join(kinds)} is put back as it was at "
        f"{run_info.created}, unless it was written after {read_time(ended)}. Unlike an undo from "
        "before-images, this also takes back what others wrote while the run worked, leaves what "
        "was created since, and does not see other kinds that the run wrote"
    )

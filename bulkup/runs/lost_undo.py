"""`bulkup undo` of a run whose folder is lost, together with its before-images: rewind instead."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from datetime import datetime, timezone

from bulkup.core.errors import NoTargetError, NotFoundError, UsageError
from bulkup.core.events import Report, Warned
from bulkup.core.model import RunState
from bulkup.core.moment import Moment, read_time
from bulkup.core.records import RunInfo, is_run_id, next_id
from bulkup.core.rewinding import Action, RewindReport
from bulkup.datastore.gql.shorthand import equalities
from bulkup.datastore.queries import Filter
from bulkup.datastore.rpc_errors import explained
from bulkup.datastore.target import Target
from bulkup.engine.compare.comparison import Difference, Scope
from bulkup.engine.selected import Selected
from bulkup.runs.context import RunContext
from bulkup.runs.done_before import is_undone
from bulkup.runs.prepare import PreparedRun
from bulkup.runs.rewind import RewindOptions, compare_times, prepare_rewind
from bulkup.runs.start import start
from bulkup.runs.target import TargetOptions, open_target, options_for
from bulkup.runs.which_run import UNDO
from bulkup.state.files import find_run, group_folders
from bulkup.state.record import RunRecord
from bulkup.state.restore_list import Restores
from bulkup.state.run_records import Ledger

_END_ROUNDED_S = 1
"""The end of a run is recorded in whole seconds, rounded down."""


def find_lost(name: str, target_options: TargetOptions, context: RunContext) -> RunRecord | None:
    """The record of a run that Datastore knows but whose folder is not here; None if the folder is
    here.

    Raises NotFoundError if the run is in neither place.
    """
    if group_folders(context.state_dir, name):
        return None
    try:
        find_run(context.state_dir, name, UNDO.fits)
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
    """Put the entities of the run's kinds back as they were when it began, unless somebody has
    written them after the run and its successors ended. `confirm` is called before anything is
    written, and may raise.

    Raises UsageError if this cannot be done for the run, NotFoundError when nothing differs.
    """
    options = options_for(record.run_info, target_options)
    with closing(Restores()) as restores:
        with open_target(options, only_reads=True) as target:
            with closing(context.connect(target)) as rpc, explained(rpc):
                rpc.connect()
                ledger = Ledger(rpc, target.info)
                _check_not_undone(ledger, record)
                records = _chain(ledger, record)
                now = context.by_server_time(rpc).clock.now()
            wanted = _what_to_rewind(records, now)
            found = compare_times(target, wanted, restores=restores)
        context.listener(Warned(_how_it_differs(records, wanted, found.report)))
        if not found.report.writes:
            raise NotFoundError(
                f"no {' or '.join(wanted.scope.kinds)} differs from what it was when run "
                f"{record.run_info.run_id} began, except what was created since or written since "
                "it ended; nothing was written"
            )
        again = replace(context, on_done=lambda done: True)
        with prepare_rewind(wanted, found.report, restores, options, again) as prepared:
            if not context.options.dry_run:
                confirm(record.run_info, prepared.target)
            report = start(prepared)
            if not report.dry_run and report.state is RunState.FINISHED:
                left = report.counts.failed + found.report.actions[Action.LEAVE]
                for one in records:
                    _note_undone(prepared, one, report.run_id, partly=bool(left))
            return report


def _chain(ledger: Ledger, record: RunRecord) -> list[RunRecord]:
    """The records of a run and of its successors that have begun. Raises UsageError, CallError."""
    records: list[RunRecord] = []
    following: RunRecord | None = record
    while following is not None and (not records or following.lease.generation):
        _check(following)
        records.append(following)
        following = ledger.read(next_id(following.run_info.run_id))
    return records


def _what_to_rewind(records: Sequence[RunRecord], now: datetime) -> RewindOptions:
    """Raises UsageError."""
    run_info = records[0].run_info
    if not all(record.kinds for record in records):
        raise UsageError(
            f"{_lost(run_info)}, and its record does not name a kind; put back one kind after "
            "another with `bulkup rewind`"
        )
    kinds = tuple(dict.fromkeys(kind for record in records for kind in record.kinds))
    last = max(record.ended for record in records) + _END_ROUNDED_S
    began = Moment(datetime.fromisoformat(run_info.created)).readable_for_long(now)
    ended = Moment(datetime.fromtimestamp(last, timezone.utc)).readable_for_long(now, up=True)
    if ended.at is None or ended.at >= now:
        ended = Moment(now)
    chosen = _Chosen(records)
    return RewindOptions(
        began, Scope(kinds, chosen.equalities), keep_after=ended,
        selection=str(chosen), is_wanted=chosen.has,
    )  # fmt: skip


class _Chosen:
    """The entities that the selections of runs (`--where`, `--ancestor`) chose then or choose
    now."""

    def __init__(self, records: Sequence[RunRecord]) -> None:
        narrowed = [(replace(r.run_info.selection, kind=""), r.kinds) for r in records]
        whole = {kind for selection, kinds in narrowed if not selection for kind in kinds}
        self._texts = [str(selection) for selection, kinds in narrowed if set(kinds) - whole]
        self._of: dict[str, list[Selected]] = {}
        """The selections by kind. A kind that is missing here is chosen as a whole."""
        for selection, kinds in narrowed:
            for kind in set(kinds) - whole:
                self._of.setdefault(kind, []).append(Selected(selection))
        self.equalities: list[Filter] = []
        """The conditions that the server can apply while it reads the entities in key order."""
        if len(records) == 1 and records[0].run_info.selection.where:
            with suppress(UsageError):
                self.equalities = list(equalities(records[0].run_info.selection.where))

    def __str__(self) -> str:
        return " and ".join(dict.fromkeys(self._texts))

    def has(self, difference: Difference) -> bool:
        chosen = self._of.get(difference.kind)
        sides = [side.entity for side in (difference.a, difference.b) if side is not None]
        return not chosen or any(one.has(side) for one in chosen for side in sides)


def _check_not_undone(ledger: Ledger, record: RunRecord) -> None:
    """Raises NotFoundError, CallError."""
    run_id = record.run_info.run_id
    if is_undone(ledger, record):
        raise NotFoundError(
            f"run {run_id} is undone (by {record.undone_by}), so there is nothing to undo; `bulkup "
            f"undo {record.undone_by}` brings back what it had changed"
        )


def _note_undone(prepared: PreparedRun, record: RunRecord, by: str, *, partly: bool) -> None:
    """Raises CallError."""
    ledger = prepared.ledger
    there = ledger.read(record.run_info.run_id)
    if there is not None and there.run_info.created == record.run_info.created:
        ledger.write(replace(there, undone_by=by, undone_partly=partly), over=True)


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


def _how_it_differs(
    records: Sequence[RunRecord], wanted: RewindOptions, report: RewindReport
) -> str:
    kinds = wanted.scope.kinds
    run_info = records[0].run_info
    followers = [record.run_info.run_id for record in records[1:]]
    those = f" (and with {' and '.join(followers)}, which followed it)" if followers else ""
    chosen = f" that was selected then, or is now ({wanted.selection})," if wanted.selection else ""
    return (
        f"{_lost(run_info)}; so every {' and '.join(kinds)}{chosen} is put back as it was at "
        f"{read_time(report.then.micros)}{those}, unless it was written after "
        f"{read_time(report.keep_after)}. Unlike an undo from before-images, this also takes back "
        "what others wrote while the run worked, leaves what was created since, and does not see "
        "other kinds that the run wrote"
    )

"""Put back what a run has changed, from its before-images: what `bulkup undo` calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from bulkup.authoring.param import param
from bulkup.core.events import Event, Report, RunStarted, Warned, WarningKind
from bulkup.core.model import RunState, TargetInfo
from bulkup.core.records import RunInfo
from bulkup.datastore.target import Target
from bulkup.engine.restore import Restorer
from bulkup.engine.scan import QueryPlan
from bulkup.runs.context import RunContext
from bulkup.runs.key_input import keys_from_file
from bulkup.runs.prepare import PreparedRun
from bulkup.runs.restore import prepare_restore
from bulkup.runs.start import start
from bulkup.runs.target import TargetOptions, check_same_target, options_for
from bulkup.runs.undo_runs import (
    NoneChosenError,
    NothingToUndoError,
    OpenedRun,
    check_can_be_undone,
    folders_to_undo,
    is_successor,
    nothing_changed,
    opened,
    undone_before,
    without_blind_retries,
)
from bulkup.runs.undone import end_successor, end_unfinished, note_undone, undone_by
from bulkup.runs.which_run import UNDO
from bulkup.state.files import find_run, group_folders, is_latest
from bulkup.state.range_folders import is_cut
from bulkup.state.restore_list import RestoreList, Restores
from bulkup.state.taking_back import take_back
from bulkup.state.undo_log import UndoLog


class Undo(Restorer):
    """Put back what a run has changed."""

    run: str = param(help="the run that is undone")
    force: bool = param(False, help="also put back what somebody has changed since")


@dataclass(frozen=True)
class UndoWishes:
    """What the user wants from an undo."""

    force: bool = False
    """Also put back what somebody has changed since; and if some before-images are missing, put
    back the others."""
    keys_from: str | None = None
    """A file with the keys to put back; None: all."""
    confirm: Callable[[Sequence[RunInfo], Target, int | None], None] = field(
        default=lambda runs, target, changed: None
    )
    """Called before anything is written, and may raise. Its last argument is how many entities
    somebody has changed since, if these are to be put back, too."""


def undo(
    name: str, target_options: TargetOptions, context: RunContext, wishes: UndoWishes
) -> Report:
    """Undo the run with this id or unambiguous id prefix, or all runs of a group. The runs that
    followed a run in its chain are undone before it.

    Returns the report of the undo that did not finish; if all finished, the one with the worst exit
    code. Raises BulkupError when nothing could start: NotFoundError when there is nothing to undo,
    HeldError while a process works on the run, StateError when its before-images are missing.
    """
    undoing = _Undoing(target_options, context, wishes)
    of_group = [one for one in group_folders(context.state_dir, name) if not is_successor(one.name)]
    if not of_group:
        return undoing.undo_chain(find_run(context.state_dir, name, UNDO.fits))
    reports: list[Report] = []
    for folder in sorted(of_group):
        try:
            reports.append(undoing.undo_chain(folder))
        except NothingToUndoError as error:
            if not reports and folder == max(of_group):
                raise NothingToUndoError(
                    f"nothing of group {name} is left to undo: {error.message}"
                ) from error
            continue
        if reports[-1].state is not RunState.FINISHED:
            return reports[-1]
    return _worst(reports)


def _worst(reports: Sequence[Report]) -> Report:
    return max(reports, key=lambda report: report.exit_code)


class _Undoing:
    """One `bulkup undo`."""

    def __init__(
        self,
        target_options: TargetOptions,
        context: RunContext,
        wishes: UndoWishes,
    ) -> None:
        self._target_options = target_options
        self._context = replace(context, on_done=lambda done: True)
        self._wishes = wishes
        self._runs: Sequence[RunInfo] = ()
        """The runs of the chain that is being undone."""
        self._is_confirmed = False
        self._has_left = False
        """Whether something of the run that is being undone was left alone."""

    def undo_chain(self, folder: Path) -> Report:
        """Undo the run in this folder, but before it the runs that followed it. Raises
        BulkupError."""
        context, wishes = self._context, self._wishes
        with ExitStack() as stack:
            folders = folders_to_undo(folder, context)
            runs = [stack.enter_context(opened(one, context)) for one in folders]
            left = without_blind_retries([one for one in runs if not one.is_undone], context)
            if not left:
                raise undone_before(runs[-1])
            for one in left:
                check_can_be_undone(one, force=wishes.force)
            self._runs = [one.run_info for one in left]
            for one in left:
                self._end_successor(one)
            left = [one for one in left if one.may_have_changed_something]
            if not left:
                undone = [one for one in runs if one.is_undone]
                raise undone_before(undone[-1]) if undone else nothing_changed(runs[-1])
            self._runs = [one.run_info for one in left]
            if len(left) > 1:
                later = ", ".join(one.run_id for one in left[:-1])
                message = f"run {left[-1].run_id} was followed by {later}, undone first"
                context.listener(Warned(message, WarningKind.SUCCESSOR))
            reports: list[Report] = []
            for one in left:
                try:
                    reports.append(self._undo_run(one))
                except (NothingToUndoError, NoneChosenError):
                    if one is left[-1] and not reports:
                        raise
                    continue
                if reports[-1].state is not RunState.FINISHED:
                    break
        if not context.options.dry_run:
            is_latest(context.state_dir / reports[-1].run_id)
        return reports[-1] if reports[-1].state is not RunState.FINISHED else _worst(reports)

    def _options(self, one: OpenedRun) -> TargetOptions:
        run_info = one.run_info
        options = options_for(run_info, self._target_options)
        check_same_target(run_info, replace(run_info.target, namespace=options.namespace or ""))
        return options

    def _end_successor(self, one: OpenedRun) -> None:
        """Give up the run that would have followed, if it has not begun."""
        successor = one.waiting_successor
        if successor:
            options = self._options(one)
            end_successor(one.run_info, successor, options, self._context, self._confirm)

    def _undo_run(self, one: OpenedRun) -> Report:
        """Undo one run, with a separate undo run for each namespace that it has written to."""
        context, options = self._context, self._options(one)
        was_over = one.is_over
        if context.options.dry_run:
            if not was_over:
                message = (
                    f"run {one.run_id} is unfinished; what it wrote last, and does not know of "
                    "yet, is not shown"
                )
                context.listener(Warned(message, WarningKind.UNFINISHED_RUN))
            return self._undo_with(one, options)
        if was_over and not is_cut(one.checkpoint.folder):
            return self._undo_with(one, options)
        end_unfinished(
            one.checkpoint, options, context, self._confirm, lambda: self._check_again(one)
        )
        with closing(UndoLog(one.checkpoint)) as log:
            if not log.total:
                raise nothing_changed(one, ended=not was_over)
            ended = replace(one, log=log)
            check_can_be_undone(ended, force=self._wishes.force)
            return self._undo_with(ended, options)

    def _check_again(self, one: OpenedRun) -> None:
        """Check again, now that it is definite what an unfinished run has written. Raises
        StateError."""
        with closing(UndoLog(one.checkpoint)) as log:
            check_can_be_undone(replace(one, log=log), force=self._wishes.force)

    def _undo_with(self, one: OpenedRun, options: TargetOptions) -> Report:
        if not one.log.total:
            raise nothing_changed(one)
        self._has_left = False
        with closing(Restores()) as restores:
            take_back(one.log, restores)
            own = one.run_info.target.namespace
            # The run is recorded as undone by the last undo run, so its own namespace comes last.
            spaces = sorted(restores.namespaces(), key=lambda name: (name == own, name))
            if self._wishes.keys_from is not None:
                spaces = [own]  # the namespace of the keys in the file
            reports: list[Report] = []
            for namespace in spaces:
                there = replace(options, namespace=namespace)
                is_last = namespace == spaces[-1]
                reports.append(self._restore(one, restores, there, is_last=is_last))
                if reports[-1].state is not RunState.FINISHED:
                    return reports[-1]
        return _worst(reports)

    def _restore(
        self,
        one: OpenedRun,
        restores: Restores,
        options: TargetOptions,
        *,
        is_last: bool,
    ) -> Report:
        """Put back what the run changed in one namespace. `is_last`: no other namespace follows."""
        wishes = self._wishes
        params = {"run": one.run_id, "force": str(wishes.force).lower()}
        changed = self._changed_since(one, restores, options) if wishes.force else None

        def listen(event: Event) -> None:
            if isinstance(event, RunStarted) and not event.dry_run:
                one.checkpoint.begin_undo(event.run_id)
            self._context.listener(event)

        context = replace(self._context, listener=listen)
        with self._prepared(one, restores, options, params, context) as prepared:
            self._confirm(prepared.target, changed)
            report = start(prepared)
            if not report.dry_run and report.state is RunState.FINISHED:
                self._has_left = self._has_left or bool(report.counts.failed)
                partly = self._has_left or not one.is_whole or wishes.keys_from is not None
                by = undone_by(one.checkpoint, report)
                if is_last:
                    note_undone(prepared, one.checkpoint, by, partly=partly)
                else:
                    one.checkpoint.undone(by, partly=True)
            return report

    def _changed_since(self, one: OpenedRun, restores: Restores, options: TargetOptions) -> int:
        """How many entities somebody has changed since the run."""
        context = self._context
        dry = replace(
            context, options=replace(context.options, dry_run=True), listener=lambda event: None
        )
        params = {"run": one.run_id}
        with self._prepared(one, restores, options, params, dry) as prepared:
            return start(prepared).counts.failed

    def _confirm(self, target: Target, changed: int | None = None) -> None:
        if self._context.options.dry_run:
            return
        if changed or not self._is_confirmed:
            self._wishes.confirm(self._runs, target, changed)
        self._is_confirmed = True

    @contextmanager
    def _prepared(
        self,
        one: OpenedRun,
        restores: Restores,
        options: TargetOptions,
        params: dict[str, str],
        context: RunContext,
    ) -> Iterator[PreparedRun]:
        run_info = one.run_info

        def read(query: QueryPlan, target: TargetInfo) -> RestoreList:
            source = f"what run {run_info.run_id} changed"
            if self._wishes.keys_from is None:
                return restores.list_of(target.namespace, source)
            with closing(keys_from_file(self._wishes.keys_from).read(query, target)) as wanted:
                chosen = restores.list_of(target.namespace, source, only=wanted)
                strangers = wanted.facts.count - chosen.facts.count
            if not chosen.facts.count:
                chosen.close()
                raise NoneChosenError(
                    f"run {run_info.run_id} has changed none of the entities that "
                    f"{wanted.facts.source} names, so there is nothing to undo"
                )
            if strangers:
                message = (
                    f"{strangers:,} of the keys in {wanted.facts.source} are of entities that run "
                    f"{run_info.run_id} has not changed"
                )
                context.listener(Warned(message))
            return chosen

        def check(target: TargetInfo) -> None:
            check_same_target(run_info, replace(target, namespace=run_info.target.namespace))

        with prepare_restore(Undo, params, read, options, context, check_target=check) as prepared:
            yield prepared

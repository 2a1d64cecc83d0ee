"""Put back what a run has changed, from its before-images: what `bulkup undo` calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from bulkup.authoring.param import param
from bulkup.core.errors import HeldError, NotFoundError, StateError, UsageError
from bulkup.core.events import Report, Warned, WarningKind
from bulkup.core.model import RunState, TargetInfo
from bulkup.core.records import RunInfo, first_id, next_id
from bulkup.datastore.target import Target
from bulkup.engine.restore import Restorer
from bulkup.engine.scan import QueryPlan
from bulkup.runs.acquire import lock_folder
from bulkup.runs.context import RunContext
from bulkup.runs.key_input import keys_from_file
from bulkup.runs.prepare import PreparedRun
from bulkup.runs.restore import prepare_restore
from bulkup.runs.start import start
from bulkup.runs.target import TargetOptions, check_same_target, options_for
from bulkup.runs.undone import end_unfinished, note_undone
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.files import CHECKPOINT_NAME, RunLock, find_run, group_folders
from bulkup.state.restore_list import RestoreList, Restores
from bulkup.state.undo_log import UndoLog


class Undo(Restorer):
    """Put back what a run has changed."""

    run: str = param(help="the run that is undone")
    force: bool = param(False, help="also put back what somebody has changed since")


@dataclass(frozen=True)
class UndoWishes:
    """What the user wants of an undo."""

    force: bool = False
    """Also put back what somebody has changed since, and what there are images of where some are
    missing."""
    keys_from: str | None = None
    """A file with the keys to put back; None: all."""
    confirm: Callable[[Sequence[RunInfo], Target, int | None], None] = field(
        default=lambda runs, target, changed: None
    )
    """Called before anything is written, and may raise. The number: how many entities somebody has
    changed since, if these are to be put back, too."""


@dataclass(frozen=True)
class _Opened:
    """A run that is to be undone."""

    checkpoint: Checkpoint
    log: UndoLog

    @property
    def run_info(self) -> RunInfo:
        return self.checkpoint.run_info

    @property
    def run_id(self) -> str:
        return self.run_info.run_id

    @property
    def is_over(self) -> bool:
        return self.checkpoint.status().state.is_over


class NothingToUndoError(NotFoundError):
    pass


def undo(
    name: str, target_options: TargetOptions, context: RunContext, wishes: UndoWishes
) -> Report:
    """Undo the run with this id, or with this unambiguous prefix of one, or all runs of a group;
    and before each run those that followed it in its chain.

    Returns the report of the last run that this has started, or of one in which entities were left
    alone. Raises BulkupError when nothing could start: NotFoundError when there is nothing to undo,
    HeldError while a process works on the run, StateError when its before-images are not there.
    """
    undoing = _Undoing(target_options, context, wishes)
    of_group = [one for one in group_folders(context.state_dir, name) if not is_successor(one.name)]
    if not of_group:
        return undoing.undo_chain(find_run(context.state_dir, name))
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


def is_successor(run_id: str) -> bool:
    return first_id(run_id) != run_id


def _worst(reports: Sequence[Report]) -> Report:
    return max(reports, key=lambda report: report.exit_code)


def _chain(folder: Path) -> list[Path]:
    """The folders of a run and of those that followed it. Raises StateError."""
    folders = [folder]
    while True:
        with closing(Checkpoint.open(folders[-1], check=False)) as checkpoint:
            run_id, successor = checkpoint.run_info.run_id, checkpoint.status().successor
        following = folder.with_name(next_id(run_id))
        if (following / CHECKPOINT_NAME).exists():
            folders.append(following)
        elif successor:
            raise StateError(
                f"run {successor}, which followed {run_id}, is not in this state directory, so "
                "what it changed cannot be put back first; undo it where it ran, then this one"
            )
        else:
            return folders


@contextmanager
def _opened(folder: Path, context: RunContext) -> Iterator[_Opened]:
    """A run's checkpoint and undo log, locked. A dry run writes nothing, so it takes no lock."""
    lock = None
    if not context.options.dry_run:
        lock = lock_folder(folder, context)
    elif RunLock(folder).is_held():
        raise HeldError(
            f"a process of this machine is working on run {folder.name}; wait for it, or stop it "
            "(its work is safe)"
        )
    try:
        with closing(Checkpoint.open(folder)) as checkpoint, closing(UndoLog(checkpoint)) as log:
            yield _Opened(checkpoint, log)
    finally:
        if lock is not None:
            lock.release()


def _is_undone(one: _Opened) -> bool:
    status = one.checkpoint.status()
    return bool(status.brought_back_by or status.undone_by) and not status.partly


def _undone_before(one: _Opened) -> NothingToUndoError:
    status = one.checkpoint.status()
    by = status.undone_by
    if by is None:
        by = status.brought_back_by
        return NothingToUndoError(
            f"run {one.run_id} was undone, and run {by} has brought back what it had changed: "
            f"`bulkup undo {by}` takes that back"
        )
    return NothingToUndoError(
        f"run {one.run_id} is undone (by {by}), so there is nothing to undo; `bulkup undo {by}` "
        "brings back what it had changed"
    )


def _nothing_changed(one: _Opened) -> NothingToUndoError:
    return NothingToUndoError(f"run {one.run_id} has changed nothing, so there is nothing to undo")


def _check(one: _Opened, wishes: UndoWishes) -> None:
    """Raises NotFoundError, StateError."""
    log, run_id, status = one.log, one.run_id, one.checkpoint.status()
    if not log.is_kept and log.total:
        why = "there are none in its folder: an earlier version of bulkup keeps none"
        if status.asked.get("no_undo"):
            why = "it was started with --no-undo"
        raise StateError(f"run {run_id} cannot be undone without before-images, and {why}")
    unknown = one.checkpoint.unknown_writes() if one.is_over else 0
    if unknown and not wishes.force:
        raise StateError(
            f"run {run_id} was abandoned with commits in flight (writes: {unknown:,}), and nobody "
            "knows whether these were applied, so it cannot be undone; to put back the others "
            f"nevertheless: `bulkup undo {run_id} --force`"
        )
    if log.missing and not wishes.force:
        raise StateError(
            f"{log.missing:,} of the {log.total:,} before-images of run {run_id} are missing or "
            f"damaged in {str(one.checkpoint.folder)!r}, so it cannot be undone; to put back the "
            f"others nevertheless: `bulkup undo {run_id} --force`"
        )


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
        """Of the chain that is being undone."""
        self._is_confirmed = context.options.dry_run

    def undo_chain(self, folder: Path) -> Report:
        """Undo the run in this folder, and before it those that followed it. Raises BulkupError."""
        context, wishes = self._context, self._wishes
        with ExitStack() as stack:
            chain = [stack.enter_context(_opened(one, context)) for one in reversed(_chain(folder))]
            left = [one for one in chain if not _is_undone(one)]
            if not left:
                raise _undone_before(chain[-1])
            for one in left:
                _check(one, wishes)
            left = [one for one in left if one.log.total or not one.is_over]
            if not left:
                raise _nothing_changed(chain[-1])
            if len(left) > 1:
                later = ", ".join(one.run_id for one in left[:-1])
                message = f"run {left[-1].run_id} was followed by {later}, undone first"
                context.listener(Warned(message, WarningKind.SUCCESSOR))
            self._runs = [one.run_info for one in left]
            reports = []
            for one in left:
                reports.append(self._undo_run(one))
                if reports[-1].state is not RunState.FINISHED:
                    return reports[-1]
            return _worst(reports)

    def _undo_run(self, one: _Opened) -> Report:
        """Undo one run, in one run of its own for each namespace that it has written to."""
        run_info, context = one.run_info, self._context
        options = options_for(run_info, self._target_options)
        check_same_target(run_info, replace(run_info.target, namespace=options.namespace or ""))
        if not one.is_over:
            if context.options.dry_run:
                message = (
                    f"run {one.run_id} is unfinished; what it wrote last, and does not know of "
                    "yet, is not shown"
                )
                context.listener(Warned(message, WarningKind.UNFINISHED_RUN))
            else:
                end_unfinished(one.checkpoint, options, context, self._confirm)
                with closing(UndoLog(one.checkpoint)) as log:
                    return self._undo_with(replace(one, log=log), options)
        return self._undo_with(one, options)

    def _undo_with(self, one: _Opened, options: TargetOptions) -> Report:
        if not one.log.total:
            raise _nothing_changed(one)
        with closing(Restores()) as restores:
            for change in one.log.changes():
                restores.take_back(change)
            own = one.run_info.target.namespace
            spaces = sorted(restores.namespaces(), key=lambda name: (name != own, name))
            if self._wishes.keys_from is not None:
                spaces = [own]  # that of the keys in the file
            reports = []
            for namespace in spaces:
                reports.append(self._restore(one, restores, replace(options, namespace=namespace)))
                if reports[-1].state is not RunState.FINISHED:
                    return reports[-1]
        return _worst(reports)

    def _restore(self, one: _Opened, restores: Restores, options: TargetOptions) -> Report:
        wishes = self._wishes
        params = {"run": one.run_id, "force": str(wishes.force).lower()}
        changed = self._changed_since(one, restores, options) if wishes.force else None

        with self._prepared(one, restores, options, params, self._context) as prepared:
            self._confirm(prepared.target, changed)
            report = start(prepared)
            if not report.dry_run and report.state is RunState.FINISHED:
                partly = bool(report.counts.failed or one.log.missing or wishes.keys_from)
                note_undone(prepared, one.checkpoint, report.run_id, partly=partly)
            return report

    def _changed_since(self, one: _Opened, restores: Restores, options: TargetOptions) -> int:
        """How many entities somebody has changed since the run."""
        context = self._context
        dry = replace(
            context, options=replace(context.options, dry_run=True), listener=lambda event: None
        )
        params = {"run": one.run_id}
        with self._prepared(one, restores, options, params, dry) as prepared:
            return start(prepared).counts.failed

    def _confirm(self, target: Target, changed: int | None = None) -> None:
        if not self._is_confirmed:
            self._wishes.confirm(self._runs, target, changed)
        self._is_confirmed = True

    @contextmanager
    def _prepared(
        self,
        one: _Opened,
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
                raise UsageError(
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

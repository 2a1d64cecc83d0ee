"""The runs that one `bulkup undo` concerns: opens them in order, and checks that they can be
undone.

What followed a run is undone before it: its successors, and the retries of its failures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from bulkup.core.errors import HeldError, NotFoundError, StateError, UsageError
from bulkup.core.events import Warned
from bulkup.core.records import RunInfo, first_id, next_id
from bulkup.runs.acquire import lock_folder
from bulkup.runs.context import RunContext
from bulkup.runs.missing_images import why_not_whole
from bulkup.runs.which_run import is_undone
from bulkup.state.checkpoint import Checkpoint
from bulkup.state.files import CHECKPOINT_NAME, RunLock
from bulkup.state.range_folders import is_cut, without_workers
from bulkup.state.undo_log import UndoLog


class NothingToUndoError(NotFoundError):
    pass


class NoneChosenError(UsageError):
    """A run has changed none of the entities that are to be put back."""


@dataclass(frozen=True)
class OpenedRun:
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

    @property
    def may_have_changed_something(self) -> bool:
        """Whether it may have changed something. For a run in ranges, Datastore may know more than
        its folder."""
        return bool(self.log.total) or not self.is_over or is_cut(self.checkpoint.folder)

    @property
    def is_undone(self) -> bool:
        return is_undone(self.checkpoint)

    @property
    def is_whole(self) -> bool:
        """Whether everything that it has written is known."""
        return not self.log.missing and not self.log.unknown

    @property
    def waiting_successor(self) -> str | None:
        """The successor that the end of this run created, if there is no folder of it here."""
        successor = self.checkpoint.status().successor
        following = self.checkpoint.folder.with_name(next_id(self.run_id))
        return None if (following / CHECKPOINT_NAME).exists() else successor


def is_successor(run_id: str) -> bool:
    return first_id(run_id) != run_id


def folders_to_undo(folder: Path, context: RunContext) -> list[Path]:
    """The folders of a run and of those that followed it, the newest first. Raises StateError."""
    found: dict[Path, datetime] = {}
    waiting = [folder]
    while waiting:
        one = waiting.pop()
        if one in found:
            continue
        with closing(Checkpoint.open(one, check=False)) as checkpoint:
            run_info, retries = checkpoint.run_info, checkpoint.retries()
        found[one] = datetime.fromisoformat(run_info.created)
        following = one.with_name(next_id(run_info.run_id))
        if (following / CHECKPOINT_NAME).exists():
            waiting.append(following)
        for run_id, count in retries.items():
            retry = one.with_name(run_id)
            if (retry / CHECKPOINT_NAME).exists():
                waiting.append(retry)
            elif count != 0:
                message = (
                    f"failures of run {run_info.run_id} were handled by run {run_id}, and the "
                    f"folder of that one is not here, so what it changed stays; `bulkup undo "
                    f"{run_id}` rewinds it"
                )
                context.listener(Warned(message))
    return sorted(found, key=lambda one: (found[one], one.name), reverse=True)


@contextmanager
def opened(folder: Path, context: RunContext) -> Iterator[OpenedRun]:
    """A run's checkpoint and undo log, locked. A dry run writes nothing, so it takes no lock."""
    with ExitStack() as stack:
        if not context.options.dry_run:
            stack.callback(lock_folder(folder, context).release)
            stack.enter_context(without_workers(folder))
        elif RunLock(folder).is_held():
            raise HeldError(
                f"a process of this machine is working on run {folder.name}; wait for it, or stop "
                "it (its work is safe)"
            )
        checkpoint = stack.enter_context(closing(Checkpoint.open(folder)))
        yield OpenedRun(checkpoint, stack.enter_context(closing(UndoLog(checkpoint))))


def without_blind_retries(runs: Sequence[OpenedRun], context: RunContext) -> list[OpenedRun]:
    """Leave out the retries that have kept no before-images: they have changed other entities than
    the run that they retry. `runs`: the runs to undo, of which the last one was named by the user,
    and stays."""
    left = []
    for one in runs:
        is_blind = one.log.total and not one.log.is_kept
        if one is not runs[-1] and one.run_info.retry_of and is_blind:
            message = (
                f"run {one.run_id}, which handled failures of run {one.run_info.retry_of}, has "
                f"kept no before-images, so what it changed stays (writes: {one.log.total:,})"
            )
            context.listener(Warned(message))
        else:
            left.append(one)
    return left


def undone_before(one: OpenedRun) -> NothingToUndoError:
    status = one.checkpoint.status()
    by = status.undone_by
    if by is None:
        by = status.brought_back_by
        return NothingToUndoError(
            f"run {one.run_id} was undone, and run {by} has brought back what it had changed: "
            f"`bulkup undo {by}` takes that back"
        )
    every = status.undone_by_all or (by,)
    ids, commands = " and ".join(every), " and ".join(f"`bulkup undo {each}`" for each in every)
    return NothingToUndoError(
        f"run {one.run_id} is undone (by {ids}), so there is nothing to undo; {commands} "
        f"bring{'s' if len(every) == 1 else ''} back what it had changed"
    )


def nothing_changed(one: OpenedRun, *, ended: bool = False) -> NothingToUndoError:
    """`ended`: it was unfinished until now."""
    if ended:
        return NothingToUndoError(
            f"run {one.run_id} had changed nothing, so there is nothing to undo; it is over now, "
            "and cannot be resumed"
        )
    return NothingToUndoError(f"run {one.run_id} has changed nothing, so there is nothing to undo")


def check_can_be_undone(one: OpenedRun, *, force: bool) -> None:
    """Raises StateError."""
    log, run_id, status = one.log, one.run_id, one.checkpoint.status()
    if not log.is_kept and log.total:
        why = "there are none in its folder: an earlier version of bulkup keeps none"
        if status.asked.get("no_undo"):
            why = "it was started with --no-undo"
        elif is_cut(one.checkpoint.folder):
            raise StateError(why_not_whole(one.checkpoint, log))
        raise StateError(f"run {run_id} cannot be undone without before-images, and {why}")
    unknown = log.unknown if one.is_over else 0
    if unknown and not force:
        raise StateError(
            f"run {run_id} was abandoned with commits in flight (writes: {unknown:,}), and nobody "
            "knows whether these were applied, so it cannot be undone; to put back the others "
            f"nevertheless: `bulkup undo {run_id} --force`"
        )
    if log.missing and not force:
        raise StateError(why_not_whole(one.checkpoint, log))
